"""The stock `openai` client on `/chat/completions`, whichever dialect the seller speaks."""
import asyncio, json, os, tempfile

import openai
from pydantic import BaseModel

from market import *

# Strict: every answer and every chunk is validated against the client's own types. Nothing is repeated: a second try
# would hide a first that failed.
client = openai.OpenAI(timeout=WITHIN_S, max_retries=0, _strict_response_validation=True)
chat = client.chat.completions


def tool(name):
    return {"type": "function", "function": {"name": name, "description": f"The {name} of a city", "parameters": CITY}}


WEATHER, CLOCK = tool("weather"), tool("clock")
BOTH = {"tools": [WEATHER, CLOCK], "parallel_tool_calls": True}


class Person(BaseModel):
    name: str
    age: int


def plain(**arguments):
    """An answer and its id in the books."""
    raw = chat.with_raw_response.create(**arguments)
    return raw.parse(), raw.headers["x-generation-id"]


def streamed(**arguments):
    """A stream read to its end: its chunks, its id in the books, and the grammar every stream must have."""
    raw = chat.with_raw_response.create(stream=True, **arguments)
    assert raw.headers["content-type"].startswith("text/event-stream"), raw.headers["content-type"]
    chunks = list(raw.parse())
    assert chunks[0].choices[0].delta.role == "assistant", chunks[0]
    assert len({chunk.id for chunk in chunks}) == 1, "the id changes within a stream"
    usages = [at for at, chunk in enumerate(chunks) if chunk.usage]
    assert usages == [len(chunks) - 1], f"usage stands in chunks {usages} of {len(chunks)}"
    finishes = [choice.finish_reason for chunk in chunks for choice in chunk.choices if choice.finish_reason]
    assert len(finishes) == 1, finishes
    assert not chunks[-1].choices or chunks[-1].choices[0].finish_reason, "content after the finish"
    text = "".join(choice.delta.content or "" for chunk in chunks for choice in chunk.choices)
    return text, finishes[0], chunks[-1].usage, raw.headers["x-generation-id"]


# ---- answers -----------------------------------------------------------------------------------------------
@check
def a_plain_answer_of_the_real_model():
    answer, generation = plain(model=LOCAL, messages=HELLO, max_tokens=24)
    assert answer.choices[0].message.content.strip()
    assert answer.choices[0].finish_reason in ("stop", "length")
    assert_recorded(generation, answer.usage)


@check
def a_streamed_answer_of_the_real_model():
    text, finish, usage, generation = streamed(model=LOCAL, messages=HELLO, max_tokens=24)
    assert text.strip() and finish in ("stop", "length"), (text, finish)
    assert_recorded(generation, usage, streamed=True)


@each_dialect
def a_plain_chat(dialect):
    answer, generation = plain(model=SHORT[dialect], messages=HELLO)
    assert answer.choices[0].message.content.strip() and answer.choices[0].finish_reason == "stop", answer
    assert_recorded(generation, answer.usage, streamed=False, cancelled=False, finish_reason="stop")
    assert_simulated_price(*counts(answer.usage))


@each_dialect
def a_streamed_chat_equals_the_plain_one(dialect):
    whole = chat.create(model=SHORT[dialect], messages=HELLO)
    text, finish, usage, generation = streamed(model=SHORT[dialect], messages=HELLO)
    assert (text, finish) == (whole.choices[0].message.content, whole.choices[0].finish_reason)
    assert counts(usage) == counts(whole.usage), (usage, whole.usage)
    assert_recorded(generation, usage, streamed=True, cancelled=False, finish_reason="stop")


@each_dialect
def usage_is_sent_whether_asked_for_or_not(dialect):
    def usage_of(**options):
        return streamed(model=SHORT[dialect], messages=HELLO, **options)[2]

    assert counts(usage_of()) == counts(usage_of(stream_options={"include_usage": True}))


@each_dialect
def a_chat_is_cut_at_its_limit(dialect):
    answer = chat.create(model=LONG[dialect], messages=HELLO, max_tokens=8)
    assert answer.choices[0].finish_reason == "length" and answer.usage.completion_tokens <= 8, answer


@each_dialect
def system_and_earlier_turns_count(dialect):
    turns = [{"role": "system", "content": "Answer in verse, please."}, *HELLO,
             {"role": "assistant", "content": "Ahoy there, sailor!"}, {"role": "user", "content": "Once more."}]
    one = chat.create(model=SHORT[dialect], messages=HELLO)
    many, generation = plain(model=SHORT[dialect], messages=turns)
    assert many.usage.prompt_tokens > one.usage.prompt_tokens, (many.usage, one.usage)
    assert_recorded(generation, many.usage)


@each_dialect
def an_image_may_be_sent(dialect):
    dot = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
    parts = [{"type": "text", "text": "What is this?"},
             {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{dot}"}}]
    answer, generation = plain(model=SHORT[dialect], messages=[{"role": "user", "content": parts}])
    assert answer.choices[0].message.content.strip()
    assert_recorded(generation, answer.usage)


# ---- tools and structure -----------------------------------------------------------------------------------
def assert_called(calls, *names):
    assert sorted(call.function.name for call in calls) == sorted(names), calls
    assert len({call.id for call in calls}) == len(names), "two calls have one id"
    for call in calls:
        assert call.type == "function" and isinstance(json.loads(call.function.arguments)["city"], str), call


def told(message):
    results = [{"role": "tool", "tool_call_id": call.id, "content": "sunny"} for call in message.tool_calls]
    return [*HELLO, message, *results]


@each_dialect
def a_tool_is_called_and_told(dialect):
    answer = chat.create(model=SHORT[dialect], messages=HELLO, tools=[WEATHER])
    assert answer.choices[0].finish_reason == "tool_calls", answer
    assert_called(answer.choices[0].message.tool_calls, "weather")
    after, generation = plain(model=SHORT[dialect], messages=told(answer.choices[0].message), tools=[WEATHER])
    assert after.choices[0].message.content and after.choices[0].finish_reason == "stop", after
    assert_recorded(generation, after.usage)


@each_dialect
def parallel_tools_are_called_and_told(dialect):
    answer = chat.create(model=PARALLEL[dialect], messages=HELLO, **BOTH)
    assert_called(answer.choices[0].message.tool_calls, "weather", "clock")
    after = chat.create(model=PARALLEL[dialect], messages=told(answer.choices[0].message), **BOTH)
    assert after.choices[0].message.content, after


@each_dialect
def parallel_tools_stream(dialect):
    whole = chat.create(model=PARALLEL[dialect], messages=HELLO, **BOTH)
    with chat.stream(model=PARALLEL[dialect], messages=HELLO, **BOTH) as stream:
        done = [event.arguments for event in stream if event.type == "tool_calls.function.arguments.done"]
        answer = stream.get_final_completion()
    assert answer.choices[0].finish_reason == "tool_calls" and len(done) == 2, (answer, done)
    assert_called(answer.choices[0].message.tool_calls, "weather", "clock")
    assert counts(answer.usage) == counts(whole.usage), (answer.usage, whole.usage)


def reasoning_of(part):
    """What a message or a delta tells of its reasoning; engines that imitate this API have a name of their own."""
    return getattr(part, "reasoning", None) or getattr(part, "reasoning_content", None) or ""


@each_dialect
def reasoning_is_told_and_may_be_sent_back(dialect):
    arguments = {"model": THINKING[dialect], "tools": [WEATHER], "reasoning_effort": "low"}
    answer, generation = plain(messages=HELLO, **arguments)
    message = answer.choices[0].message
    assert reasoning_of(message), message
    if dialect not in COUNT_NO_REASONING:
        assert answer.usage.completion_tokens_details.reasoning_tokens > 0, answer.usage
    assert_called(message.tool_calls, "weather")
    assert_recorded(generation, answer.usage)
    after = chat.create(messages=told(message), **arguments)
    assert after.choices[0].message.content, after


@each_dialect
def reasoning_streams_before_the_answer(dialect):
    arguments = {"model": THINKING[dialect], "messages": HELLO, "reasoning_effort": "low"}
    whole = chat.create(**arguments)
    chunks = list(chat.create(stream=True, **arguments))
    deltas = [choice.delta for chunk in chunks for choice in chunk.choices]
    assert "".join(map(reasoning_of, deltas)) == reasoning_of(whole.choices[0].message) != "", deltas
    kinds = ["reasoning" if reasoning_of(delta) else "content" for delta in deltas if reasoning_of(delta) or delta.content]
    assert kinds == sorted(kinds, reverse=True) and "content" in kinds, kinds
    assert counts(chunks[-1].usage) == counts(whole.usage), (chunks[-1].usage, whole.usage)


@each_dialect
def a_structure_is_parsed(dialect):
    answer = chat.parse(model=SHORT[dialect], messages=HELLO, response_format=Person)
    assert isinstance(answer.choices[0].message.parsed, Person), answer
    counts(answer.usage)


@each_dialect
def a_structure_is_parsed_from_a_stream(dialect):
    with chat.stream(model=SHORT[dialect], messages=HELLO, response_format=Person) as stream:
        answer = stream.get_final_completion()
    assert isinstance(answer.choices[0].message.parsed, Person), answer


# ---- the real model ----------------------------------------------------------------------------------------
@check
def the_same_seed_gives_the_same_text():
    def said(seed):
        answer = chat.create(model=LOCAL, messages=HELLO, max_tokens=16, seed=seed, temperature=1.0, logprobs=True)
        return [token.token for token in answer.choices[0].logprobs.content]

    assert said(7) == said(7)
    assert len({tuple(said(seed)) for seed in (1, 2, 3, 4)}) > 1


@check
def several_choices_are_each_billed():
    one = chat.create(model=LONG["chat"], messages=HELLO, max_tokens=8)
    three = chat.create(model=LONG["chat"], messages=HELLO, max_tokens=8, n=3)
    assert len(three.choices) == 3 and three.usage.completion_tokens == 3 * one.usage.completion_tokens
    assert_simulated_price(*counts(three.usage))


# ---- errors ------------------------------------------------------------------------------------------------
@check
def a_wrong_key_is_told():
    stranger = client.with_options(api_key="sk-bourse-nobody")
    error = raised(openai.AuthenticationError, lambda: stranger.chat.completions.create(model=LOCAL, messages=HELLO))
    assert error.status_code == 401
    assert_told(error, "key")


@check
def an_unknown_model_is_told_and_free():
    before = balance()
    error = raised(openai.NotFoundError, lambda: client.chat.completions.create(model="no/such-model", messages=HELLO))
    assert error.status_code == 404
    assert_told(error, "no/such-model")
    assert balance() == before


@each_dialect
def bad_requests_name_the_field_and_are_free(dialect):
    before = balance()
    for field, wrong in {"messages": [], "temperature": -1, "max_tokens": -5, "n": 100_000}.items():
        arguments = {"model": SHORT[dialect], "messages": HELLO, field: wrong}
        error = raised(openai.BadRequestError, lambda: client.chat.completions.create(**arguments), f"for {field} = {wrong}")
        assert error.status_code == 400 and error.param and field in error.param, (field, error.param)
        assert_told(error, field)
    assert balance() == before


@each_dialect
def an_answer_that_breaks_off_is_told_and_free(dialect):
    before = balance()
    raw = client.chat.completions.with_raw_response.create(model=DYING[dialect], messages=HELLO, stream=True)
    error = raised(openai.APIError, lambda: list(raw.parse()))
    assert_told(error)
    assert_failed_free(before, raw.headers["x-generation-id"])


# ---- cancelling and books ----------------------------------------------------------------------------------
# The real model's two end tokens, forbidden: an answer that ends by itself cannot be cancelled.
ENDLESS = {"0": -100, "2": -100}


def cancel(model, **arguments):
    """Closes a long stream after five pieces; gives its id in the books."""
    async def ask():
        async with openai.AsyncOpenAI(timeout=WITHIN_S, max_retries=0) as asynchronous:
            raw = await asynchronous.chat.completions.with_raw_response.create(
                model=model, messages=HELLO, max_tokens=LONG_TOKENS, stream=True, **arguments)
            stream = raw.parse()
            seen = 0
            async for chunk in stream:
                seen += bool(chunk.choices and chunk.choices[0].delta.content)
                if seen == 5:
                    await stream.close()
                    return raw.headers["x-generation-id"]
            raise AssertionError(f"the stream ended after {seen} pieces")

    return asyncio.run(ask())


@each_dialect
def a_cancelled_stream_is_charged_for_what_was_delivered(dialect):
    before = balance()
    assert_cut_short(cancel(LONG[dialect]), before)


@check
def a_cancelled_stream_of_the_real_model_stops():
    before = balance()
    record = settled(cancel(LOCAL, logit_bias=ENDLESS))
    assert record["cancelled"] is True, record
    assert 5 <= record["tokens_completion"] < LONG_TOKENS, record
    assert before - balance() == exact(record["total_cost"])


@check
def concurrent_costs_add_up_to_the_balance():
    async def ask(asynchronous, model):
        answer = await asynchronous.chat.completions.create(model=model, messages=HELLO, max_tokens=12)
        return exact(answer.usage.cost)

    async def all_at_once():
        async with openai.AsyncOpenAI(timeout=WITHIN_S, max_retries=0) as asynchronous:
            models = [LOCAL] * 3 + [SHORT[dialect] for dialect in DIALECTS]
            return await asyncio.gather(*(ask(asynchronous, model) for model in models))

    before = balance()
    assert sum(asyncio.run(all_at_once())) == before - balance()


@check
def a_receipt_verifies_offline():
    raw = chat.with_raw_response.create(model=LOCAL, messages=HELLO, max_tokens=8)
    name = raw.headers["x-bourse-receipt"]
    settled(raw.headers["x-generation-id"])
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "receipt.json")
        with open(path, "w") as file:
            json.dump(get(f"/receipts/{name}"), file, default=str)
        bourse("verify", path)


@check
def the_books_are_clean_while_the_market_is_live():
    bourse("ledger", "check", "--data-dir", os.environ["BOURSE_DATA_DIR"])
