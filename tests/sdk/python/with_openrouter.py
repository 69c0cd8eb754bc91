"""The stock `openrouter` client, strict by itself: chat, responses, embeddings, rerank, images and audio."""
import base64, json

from openrouter import errors

from market import *
from openrouter_client import connect, known

client = connect()
WEATHER = {"type": "function", "function": {"name": "weather", "description": "Weather of a city", "parameters": CITY}}


def told_by(kind, call, status, *words):
    """The typed error, its envelope checked."""
    error = raised(kind, call)
    assert error.status_code == status == error.data.error.code, error
    assert_told(error, *words)
    return error


# ---- chat --------------------------------------------------------------------------------------------------
def streamed(**arguments):
    stream = client.chat.send(stream=True, **arguments)
    chunks = [known(chunk, f"chunk {at}") for at, chunk in enumerate(stream)]
    text = "".join(choice.delta.content or "" for chunk in chunks for choice in chunk.choices)
    return chunks, text, stream.response.headers["x-generation-id"]


@check
def the_real_model_chats():
    answer = known(client.chat.send(model=LOCAL, messages=HELLO, max_tokens=24))
    assert answer.choices[0].message.content.strip(), answer
    assert_recorded(answer.id, answer.usage)
    chunks, text, generation = streamed(model=LOCAL, messages=HELLO, max_tokens=24)
    assert text.strip()
    assert_recorded(generation, chunks[-1].usage)


@each_dialect
def chat_is_typed_and_its_stream_equal(dialect):
    plain = known(client.chat.send(model=SHORT[dialect], messages=HELLO))
    chunks, text, generation = streamed(model=SHORT[dialect], messages=HELLO)
    assert text == plain.choices[0].message.content, (text, plain)
    finishes = [choice.finish_reason for chunk in chunks for choice in chunk.choices if choice.finish_reason]
    assert finishes == [plain.choices[0].finish_reason] == ["stop"], finishes
    assert counts(chunks[-1].usage) == counts(plain.usage), (chunks[-1], plain.usage)
    assert_recorded(plain.id, plain.usage, streamed=False)
    assert_recorded(generation, chunks[-1].usage, streamed=True)


@each_dialect
def the_parts_of_a_cost_add_up(dialect):
    usage = client.chat.send(model=SHORT[dialect], messages=HELLO).usage
    parts = usage.cost_details
    whole = exact(parts.upstream_inference_prompt_cost) + exact(parts.upstream_inference_completions_cost)
    assert whole == exact(usage.cost) and usage.is_byok is False, usage


@each_dialect
def tools_are_called_and_told_with_types(dialect):
    answer = known(client.chat.send(model=SHORT[dialect], messages=HELLO, tools=[WEATHER]))
    [call] = answer.choices[0].message.tool_calls
    assert call.function.name == "weather" and "city" in json.loads(call.function.arguments), call
    told = [*HELLO, answer.choices[0].message, {"role": "tool", "tool_call_id": call.id, "content": "sunny"}]
    assert known(client.chat.send(model=SHORT[dialect], messages=told, tools=[WEATHER])).choices[0].message.content


@each_dialect
def tool_calls_stream_with_types(dialect):
    chunks, _, _ = streamed(model=SHORT[dialect], messages=HELLO, tools=[WEATHER])
    pieces = [piece for chunk in chunks for choice in chunk.choices for piece in choice.delta.tool_calls or []]
    assert pieces[0].id and pieces[0].function.name == "weather", pieces[0]
    assert "city" in json.loads("".join(piece.function.arguments or "" for piece in pieces if piece.function)), pieces


@each_dialect
def reasoning_is_told_with_types(dialect):
    asked = {"model": THINKING[dialect], "messages": HELLO, "reasoning": {"effort": "low"}}
    message = known(client.chat.send(**asked)).choices[0].message
    assert message.reasoning and message.content, message
    chunks, text, _ = streamed(**asked)
    reasoned = "".join(choice.delta.reasoning or "" for chunk in chunks for choice in chunk.choices)
    assert (reasoned, text) == (message.reasoning, message.content), (reasoned, text)


@check
def a_seller_can_be_chosen_and_the_choice_is_told():
    for dialect, seller in SELLERS.items():
        answer = known(client.chat.send(
            model=SHARED, messages=HELLO, provider={"only": [seller]}, x_open_router_metadata="enabled"))
        assert settled(answer.id)["provider_name"] == seller, (dialect, seller)
        metadata = answer.openrouter_metadata
        assert metadata.requested == SHARED and metadata.attempt == 1, metadata
        assert [endpoint.provider for endpoint in metadata.endpoints.available if endpoint.selected] == [seller], metadata


@check
def a_choice_that_leaves_no_seller_is_told():
    ask = lambda: client.chat.send(
        model=SHARED, messages=HELLO, provider={"only": ["nobody"]}, x_open_router_metadata="enabled")
    error = told_by(errors.NotFoundResponseError, ask, 404, "only")
    metadata = error.data.openrouter_metadata
    assert (metadata["requested"], metadata["attempt"], metadata["endpoints"]["available"]) == (SHARED, 0, []), metadata
    told = json.loads(error.body)["error"]["availability"]
    assert (told["code"], told["offers"]) == ("constraint_filtered", len(SELLERS)), told
    [change] = told["smallest_relaxation"]["changes"]
    assert (change["action"], change["field"]) == ("add", "provider.only"), change
    # What is told can be done.
    relaxed = {"only": ["nobody", change["value"]]}
    answer = known(client.chat.send(model=SHARED, messages=HELLO, provider=relaxed))
    assert settled(answer.id)["provider_name"] == told["smallest_relaxation"]["provider"] == change["value"]


@check
def an_alias_is_the_model_that_is_sold():
    answer = known(client.chat.send(model=ALIAS, messages=HELLO, x_open_router_metadata="enabled"))
    assert answer.model == SHARED or settled(answer.id)["model"] == SHARED, answer
    metadata = answer.openrouter_metadata
    assert (metadata.requested, metadata.strategy) == (ALIAS, "latest"), metadata


@check
def a_price_that_nobody_asks_is_told():
    ask = lambda: client.chat.send(model=SHARED, messages=HELLO, provider={"max_price": {"prompt": "0.0000001"}})
    told_by(errors.NotFoundResponseError, ask, 404, "max_price")


@each_dialect
def a_chat_that_breaks_off_ends_in_an_error_chunk(dialect):
    before = balance()
    chunks, text, generation = streamed(model=DYING[dialect], messages=HELLO)
    last = [chunk for chunk in chunks if chunk.error]
    assert text and len(last) == 1 and last[0].error.code >= 500, chunks[-1]
    assert last[0].choices[0].finish_reason == "error", last
    assert_told(last[0].error.message)
    assert_failed_free(before, generation)


@check
def errors_are_typed():
    ask = lambda key=API_KEY, model=LOCAL, **other: connect(key).chat.send(model=model, messages=HELLO, **other)
    told_by(errors.UnauthorizedResponseError, lambda: ask(key="sk-bourse-nobody"), 401, "key")
    told_by(errors.NotFoundResponseError, lambda: ask(model="no/such-model"), 404, "no/such-model")
    told_by(errors.BadRequestResponseError, lambda: ask(temperature=-1), 400, "temperature")


# ---- responses ---------------------------------------------------------------------------------------------
@each_dialect
def responses_are_typed_and_their_stream_equal(dialect):
    asked = {"model": SHORT[dialect], "input": HELLO[0]["content"]}
    plain = known(client.responses.send(**asked))
    stream = client.responses.send(stream=True, **asked)
    events = [known(event, f"event {at}") for at, event in enumerate(stream)]
    last = events[-1].response
    assert (last.status, plain.status) == ("completed", "completed"), last
    assert [item.content[0].text for item in last.output] == [item.content[0].text for item in plain.output]
    assert counts(last.usage) == counts(plain.usage), (last.usage, plain.usage)
    assert_recorded(plain.id, plain.usage)
    assert_recorded(stream.response.headers["x-generation-id"], last.usage)


@each_dialect
def responses_with_tools_are_typed(dialect):
    tools = [{"type": "function", "strict": True, **WEATHER["function"]}]
    asked = {"model": SHORT[dialect], "input": HELLO[0]["content"], "tools": tools}
    kinds = [item.type for item in known(client.responses.send(**asked)).output]
    assert kinds == ["function_call"], kinds
    for at, event in enumerate(client.responses.send(stream=True, **asked)):
        known(event, f"event {at}")


@check
def errors_of_responses_are_typed():
    ask = lambda key=API_KEY, model=LOCAL: connect(key).responses.send(model=model, input="hello")
    told_by(errors.UnauthorizedResponseError, lambda: ask(key="sk-bourse-nobody"), 401, "key")
    told_by(errors.NotFoundResponseError, lambda: ask(model="no/such-model"), 404, "no/such-model")


# ---- the rest ----------------------------------------------------------------------------------------------
def charged(before, usage):
    assert usage and exact(usage.cost) > 0 and before - balance() == exact(usage.cost), (before, balance(), usage)


@check
def embeddings_are_typed():
    before = balance()
    answer = known(client.embeddings.generate(model=SOLD["embeddings"], input=["a sailor", "a market"]))
    assert [item.index for item in answer.data] == [0, 1] and len(answer.data[0].embedding) > 1, answer
    charged(before, answer.usage)


@check
def rerank_orders_the_documents():
    before = balance()
    documents = ["a market of ships", "rain in the hills", "a sailor in the harbour"]
    answer = known(client.rerank.rerank(model=SOLD["rerank"], query="a sailor", documents=documents, top_n=2))
    scores = [result.relevance_score for result in answer.results]
    assert len(scores) == 2 and scores == sorted(scores, reverse=True), scores
    assert all(result.document.text == documents[result.index] for result in answer.results), answer.results
    charged(before, answer.usage)


@check
def images_are_typed():
    before = balance()
    answer = known(client.images.generate(model=SOLD["images"], prompt="a ship"))
    assert base64.b64decode(answer.data[0].b64_json, validate=True), answer
    charged(before, answer.usage)


@check
def images_are_streamed_in_events():
    before = balance()
    events = [known(event) for event in client.images.generate(
        model=SOLD["images"], prompt="a ship", stream=True, n=2)]
    assert [event.type for event in events] == ["image_generation.completed"] * 2, events
    assert exact(events[0].usage.cost) == 0, "the last one bears the bill"
    assert base64.b64decode(events[-1].b64_json, validate=True) and events[-1].created > 0, events
    charged(before, events[-1].usage)


@check
def speech_is_sound():
    before = balance()
    answer = client.tts.create_speech(model=SOLD["speech"], input="Ahoy there, sailor!", voice="alloy")
    assert answer.read() and answer.headers["content-type"].startswith("audio/"), answer.headers
    record = settled(answer.headers["x-generation-id"])
    assert before - balance() == exact(record["total_cost"]) > 0, record


@check
def a_recording_inside_json_is_written_down():
    before = balance()
    sound = base64.b64encode(b"\x80" * 800).decode()
    answer = known(client.stt.create_transcription(
        model=SOLD["transcriptions"], input_audio={"data": sound, "format": "wav"}))
    assert answer.text.strip(), answer
    charged(before, answer.usage)
