"""The stock `openai` client on `/responses`, whichever dialect the seller speaks."""
import asyncio, json

import openai
from pydantic import BaseModel

from market import *

client = openai.OpenAI(timeout=WITHIN_S, max_retries=0, _strict_response_validation=True)
responses = client.responses
ASKED = "Say hello to a sailor in one short sentence."
WEATHER = {"type": "function", "name": "weather", "description": "Weather of a city", "parameters": CITY, "strict": True}


class Person(BaseModel):
    name: str
    age: int


def plain(**arguments):
    """A response and its id in the books."""
    raw = responses.with_raw_response.create(**arguments)
    return raw.parse(), raw.headers["x-generation-id"]


def streamed(**arguments):
    """A stream read to its end, with the grammar that every stream must have."""
    raw = responses.with_raw_response.create(stream=True, **arguments)
    events = list(raw.parse())
    kinds = [event.type for event in events]
    assert kinds[:2] == ["response.created", "response.in_progress"], kinds[:2]
    assert [event.sequence_number for event in events] == list(range(len(events))), "sequence numbers have gaps"
    last = events[-1]
    assert last.type in ("response.completed", "response.incomplete", "response.failed"), kinds
    assert sum(hasattr(event, "response") for event in events) == 3, kinds
    added = [event.output_index for event in events if event.type == "response.output_item.added"]
    done = {event.output_index: event.item for event in events if event.type == "response.output_item.done"}
    assert added == sorted(done) == list(range(len(added))), (added, sorted(done))
    assert [item.to_dict() for item in last.response.output] == [done[at].to_dict() for at in added], last.response
    said = "".join(event.delta for event in events if event.type == "response.output_text.delta")
    assert said == last.response.output_text, (said, last.response.output_text)
    return events, last.response, raw.headers["x-generation-id"]


@check
def the_real_model_responds():
    answer, generation = plain(model=LOCAL, input=ASKED, max_output_tokens=24)
    assert answer.output_text.strip() and answer.status in ("completed", "incomplete"), answer
    assert_recorded(generation, answer.usage)


@check
def the_real_model_responds_in_a_stream():
    _, answer, generation = streamed(model=LOCAL, input=ASKED, max_output_tokens=24)
    assert answer.output_text.strip(), answer
    assert_recorded(generation, answer.usage, streamed=True)


@each_dialect
def a_plain_response(dialect):
    answer, generation = plain(model=SHORT[dialect], input=ASKED, instructions="Be brief.", metadata={"a": "b"})
    assert answer.status == "completed" and answer.output_text.strip() and answer.error is None, answer
    if dialect != ECHOES_BY_ITSELF:
        assert answer.instructions == "Be brief." and answer.metadata == {"a": "b"}, answer
    assert_recorded(generation, answer.usage, streamed=False, finish_reason="stop")
    assert_simulated_price(*counts(answer.usage))


@each_dialect
def a_streamed_response_equals_the_plain_one(dialect):
    whole = responses.create(model=SHORT[dialect], input=ASKED)
    _, answer, generation = streamed(model=SHORT[dialect], input=ASKED)
    assert (answer.status, answer.output_text) == (whole.status, whole.output_text)
    assert counts(answer.usage) == counts(whole.usage), (answer.usage, whole.usage)
    assert_recorded(generation, answer.usage, streamed=True, cancelled=False)


@each_dialect
def a_response_costs_what_the_chat_costs(dialect):
    asked = client.chat.completions.create(model=SHORT[dialect], messages=[{"role": "user", "content": ASKED}])
    assert counts(responses.create(model=SHORT[dialect], input=ASKED).usage) == counts(asked.usage)


@each_dialect
def the_stream_helper_completes(dialect):
    with responses.stream(model=SHORT[dialect], input=ASKED) as stream:
        text = "".join(event.delta for event in stream if event.type == "response.output_text.delta")
        answer = stream.get_final_response()
    assert text and text == answer.output_text, (text, answer)


@each_dialect
def a_response_is_cut_at_its_limit(dialect):
    answer = responses.create(model=LONG[dialect], input=ASKED, max_output_tokens=16)
    assert answer.status == "incomplete" and answer.incomplete_details.reason == "max_output_tokens", answer
    events, _, _ = streamed(model=LONG[dialect], input=ASKED, max_output_tokens=16)
    assert events[-1].type == "response.incomplete", events[-1].type


# ---- tools and structure -----------------------------------------------------------------------------------
def called(answer):
    [call] = [item for item in answer.output if item.type == "function_call"]
    assert call.name == "weather" and isinstance(json.loads(call.arguments)["city"], str), call
    return call


@each_dialect
def a_tool_is_called_and_told_in_responses(dialect):
    answer = responses.create(model=SHORT[dialect], input=ASKED, tools=[WEATHER])
    call = called(answer)
    if dialect != ECHOES_BY_ITSELF:
        assert answer.tools[0].name == "weather" and answer.tool_choice == "auto", answer
    told = [{"role": "user", "content": ASKED}, *(item.to_dict() for item in answer.output),
            {"type": "function_call_output", "call_id": call.call_id, "output": "sunny"}]
    after, generation = plain(model=SHORT[dialect], input=told, tools=[WEATHER])
    assert after.output_text.strip(), after
    assert_recorded(generation, after.usage)


@each_dialect
def tool_arguments_stream_in_responses(dialect):
    events, answer, _ = streamed(model=SHORT[dialect], input=ASKED, tools=[WEATHER])
    pieces = "".join(event.delta for event in events if event.type == "response.function_call_arguments.delta")
    [done] = [event for event in events if event.type == "response.function_call_arguments.done"]
    assert pieces == done.arguments == called(answer).arguments, (pieces, done)
    assert done.name == "weather", done


@each_dialect
def reasoning_is_an_item_and_may_be_sent_back(dialect):
    arguments = {"model": THINKING[dialect], "tools": [WEATHER], "reasoning": {"effort": "low", "summary": "auto"}}
    answer = responses.create(input=ASKED, **arguments)
    kinds = ["reasoning", *(["reasoning"] if dialect == SIGNS_APART else []), "function_call"]
    assert [item.type for item in answer.output] == kinds, answer.output
    if dialect not in COUNT_NO_REASONING:
        assert answer.usage.output_tokens_details.reasoning_tokens > 0, answer.usage
    reasoned = answer.output[0]
    assert [part.text for part in [*reasoned.summary, *(reasoned.content or [])]], reasoned
    told = [{"role": "user", "content": ASKED}, *(item.to_dict() for item in answer.output),
            {"type": "function_call_output", "call_id": called(answer).call_id, "output": "sunny"}]
    assert responses.create(input=told, **arguments).output_text.strip()
    _, streamed_answer, _ = streamed(input=ASKED, **arguments)
    assert [item.type for item in streamed_answer.output] == kinds, streamed_answer.output


@each_dialect
def a_structure_is_parsed_from_a_response(dialect):
    answer = responses.parse(model=SHORT[dialect], input=ASKED, text_format=Person)
    assert isinstance(answer.output_parsed, Person), answer


# ---- errors and cancelling ---------------------------------------------------------------------------------
@check
def responses_tell_a_wrong_key():
    stranger = client.with_options(api_key="sk-bourse-nobody")
    error = raised(openai.AuthenticationError, lambda: stranger.responses.create(model=LOCAL, input=ASKED))
    assert_told(error, "key")


@check
def responses_tell_an_unknown_model():
    error = raised(openai.NotFoundError, lambda: client.responses.create(model="no/such-model", input=ASKED))
    assert_told(error, "no/such-model")


@check
def bad_responses_name_the_field_and_are_free():
    before = balance()
    for field, wrong in {"input": [], "temperature": -1, "max_output_tokens": -5, "tools": [{"type": "function"}]}.items():
        arguments = {"model": SHORT["chat"], "input": ASKED, field: wrong}
        error = raised(openai.BadRequestError, lambda: client.responses.create(**arguments), f"for {field} = {wrong}")
        assert error.param and field in error.param, (field, error.param)
        assert_told(error, field)
    assert balance() == before


@each_dialect
def a_response_that_breaks_off_is_told_and_free(dialect):
    before = balance()
    raw = client.responses.with_raw_response.create(model=DYING[dialect], input=ASKED, stream=True)
    last = list(raw.parse())[-1]
    assert last.type in ("error", "response.failed"), last
    message = last.message if last.type == "error" else last.response.error.message
    assert_told(message)
    assert_failed_free(before, raw.headers["x-generation-id"])


@each_dialect
def a_cancelled_response_is_charged_for_what_was_delivered(dialect):
    async def cancel():
        async with openai.AsyncOpenAI(timeout=WITHIN_S, max_retries=0) as asynchronous:
            raw = await asynchronous.responses.with_raw_response.create(
                model=LONG[dialect], input=ASKED, max_output_tokens=LONG_TOKENS, stream=True)
            stream = raw.parse()
            seen = 0
            async for event in stream:
                seen += event.type == "response.output_text.delta"
                if seen == 5:
                    await stream.close()
                    return raw.headers["x-generation-id"]
            raise AssertionError(f"the stream ended after {seen} pieces")

    before = balance()
    assert_cut_short(asyncio.run(cancel()), before)
