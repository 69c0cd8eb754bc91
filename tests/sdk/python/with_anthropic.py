"""The stock `anthropic` client on `/messages`, whichever dialect the seller speaks."""
import asyncio, os
from itertools import groupby

import anthropic
from pydantic import BaseModel

from market import *

# Strict: every answer and every event is validated against the client's own types. Nothing is repeated: a second try
# would hide a first that failed.
client = anthropic.Anthropic(timeout=WITHIN_S, max_retries=0, _strict_response_validation=True)
messages = client.messages


def tool(name):
    return {"name": name, "description": f"The {name} of a city", "input_schema": CITY}


BOTH = {"tools": [tool("weather"), tool("clock")], "tool_choice": {"type": "auto", "disable_parallel_tool_use": False}}


class Person(BaseModel):
    name: str
    age: int


def prompt_of(usage):
    """Prompt tokens with those that the cache served or took in, which this shape counts apart."""
    return usage.input_tokens + (usage.cache_read_input_tokens or 0) + (usage.cache_creation_input_tokens or 0)


def assert_in_books(generation, usage, cost, **expected):
    record = settled(generation)
    found = record["tokens_prompt"], record["tokens_completion"], exact(record["total_cost"])
    assert found == (prompt_of(usage), usage.output_tokens, exact(cost)), (found, usage, cost)
    for field, value in expected.items():
        assert record[field] == value, f"{field} is {record[field]!r}, not {value!r}"


def plain(**arguments):
    """A message and its id in the books."""
    raw = messages.with_raw_response.create(**arguments)
    return raw.parse(), raw.headers["x-generation-id"]


def streamed(**arguments):
    """A stream read to its end, with the grammar that every stream must have; blocks are joined to texts."""
    raw = messages.with_raw_response.create(stream=True, **arguments)
    events = list(raw.parse())
    kinds = [event.type for event in events]
    assert kinds[0] == "message_start" and kinds[-2:] == ["message_delta", "message_stop"], kinds
    start = events[0].message
    assert start.content == [] and start.stop_reason is None and start.role == "assistant", start
    blocks = events[1:-2]
    order = [index for index, _ in groupby(event.index for event in blocks)]
    assert order == list(range(len(order))), f"blocks are mixed: {order}"
    joined = []
    for at in order:
        inner = [event for event in blocks if event.index == at]
        assert [inner[0].type, inner[-1].type] == ["content_block_start", "content_block_stop"], inner
        assert all(event.type == "content_block_delta" for event in inner[1:-1]), inner
        pieces = (getattr(event.delta, "text", None) or getattr(event.delta, "partial_json", "") for event in inner[1:-1])
        joined.append((inner[0].content_block, "".join(pieces)))
    return joined, events[-2], start, raw.headers["x-generation-id"]


# ---- answers -----------------------------------------------------------------------------------------------
@check
def a_message_of_the_real_model():
    answer, generation = plain(model=LOCAL, max_tokens=24, messages=HELLO)
    assert answer.content[0].text.strip() and answer.stop_reason in ("end_turn", "max_tokens"), answer
    assert_in_books(generation, answer.usage, answer.usage.cost)


@check
def a_streamed_message_of_the_real_model():
    blocks, last, _, generation = streamed(model=LOCAL, max_tokens=24, messages=HELLO)
    assert blocks[0][1].strip() and last.delta.stop_reason in ("end_turn", "max_tokens"), (blocks, last)
    record = settled(generation)
    assert (record["tokens_completion"], exact(record["total_cost"])) == (last.usage.output_tokens, exact(last.usage.cost))


@each_dialect
def a_plain_message(dialect):
    answer, generation = plain(model=SHORT[dialect], max_tokens=64, messages=HELLO, system="Be brief.")
    assert answer.content[0].text.strip() and answer.stop_reason == "end_turn", answer
    assert_in_books(generation, answer.usage, answer.usage.cost, streamed=False, cancelled=False, finish_reason="stop")
    assert_simulated_price(prompt_of(answer.usage), answer.usage.output_tokens, answer.usage.cost)


@each_dialect
def a_streamed_message_equals_the_plain_one(dialect):
    whole = messages.create(model=SHORT[dialect], max_tokens=64, messages=HELLO)
    blocks, last, _, generation = streamed(model=SHORT[dialect], max_tokens=64, messages=HELLO)
    assert [text for _, text in blocks] == [whole.content[0].text], (blocks, whole)
    assert last.delta.stop_reason == whole.stop_reason, (last, whole)
    assert (last.usage.output_tokens, exact(last.usage.cost)) == (whole.usage.output_tokens, exact(whole.usage.cost))
    record = settled(generation)
    assert record["streamed"] is True and exact(record["total_cost"]) == exact(last.usage.cost), record


@each_dialect
def the_stream_helper_gives_the_message(dialect):
    whole = messages.create(model=SHORT[dialect], max_tokens=64, messages=HELLO)
    with messages.stream(model=SHORT[dialect], max_tokens=64, messages=HELLO) as stream:
        text = "".join(stream.text_stream)
        answer = stream.get_final_message()
    assert text == answer.content[0].text == whole.content[0].text
    assert (prompt_of(answer.usage), answer.usage.output_tokens) == (prompt_of(whole.usage), whole.usage.output_tokens)


@each_dialect
def a_message_is_cut_at_its_limit(dialect):
    answer = messages.create(model=LONG[dialect], max_tokens=8, messages=HELLO)
    assert answer.stop_reason == "max_tokens" and answer.usage.output_tokens <= 8, answer


@each_dialect
def tokens_are_counted_for_nothing(dialect):
    before = balance()
    arguments = {"model": SHORT[dialect], "messages": HELLO, "system": "Be brief."}
    counted = messages.count_tokens(**arguments).input_tokens
    assert balance() == before
    used = prompt_of(messages.create(max_tokens=8, **arguments).usage)
    # A seller's own count is exact; the market's, where the seller has none, may be off by the chat's framing.
    assert counted > 0 and abs(counted - used) <= max(8, used // 4), (counted, used)


# ---- tools and structure -----------------------------------------------------------------------------------
def called(answer, *names):
    calls = [block for block in answer.content if block.type == "tool_use"]
    assert sorted(call.name for call in calls) == sorted(names), calls
    assert len({call.id for call in calls}) == len(names), "two calls have one id"
    assert all(isinstance(call.input["city"], str) for call in calls), calls
    return calls


def told(answer, calls):
    results = [{"type": "tool_result", "tool_use_id": call.id, "content": "sunny"} for call in calls]
    return [*HELLO, {"role": "assistant", "content": answer.content}, {"role": "user", "content": results}]


@each_dialect
def tools_are_used_and_told(dialect):
    arguments = {"model": PARALLEL[dialect], "max_tokens": 64, **BOTH}
    answer = messages.create(messages=HELLO, **arguments)
    assert answer.stop_reason == "tool_use", answer
    after, generation = plain(messages=told(answer, called(answer, "weather", "clock")), **arguments)
    assert after.content[0].text.strip() and after.stop_reason == "end_turn", after
    assert_in_books(generation, after.usage, after.usage.cost)


@each_dialect
def tool_input_streams(dialect):
    arguments = {"model": PARALLEL[dialect], "max_tokens": 64, "messages": HELLO, **BOTH}
    blocks, last, _, _ = streamed(**arguments)
    uses = [(block, json.loads(text)) for block, text in blocks if block.type == "tool_use"]
    assert len(uses) == 2 and all(block.input == {} and "city" in given for block, given in uses), blocks
    assert last.delta.stop_reason == "tool_use", last
    with messages.stream(**arguments) as stream:
        called(stream.get_final_message(), "weather", "clock")


@each_dialect
def thinking_is_a_block_and_may_be_sent_back(dialect):
    thinking = {"type": "enabled", "budget_tokens": 1024}
    arguments = {"model": THINKING[dialect], "max_tokens": 2048, "tools": [tool("weather")], "thinking": thinking}
    answer = messages.create(messages=HELLO, **arguments)
    assert [block.type for block in answer.content] == ["thinking", "tool_use"], answer.content
    assert answer.content[0].thinking and isinstance(answer.content[0].signature, str), answer.content[0]
    after = messages.create(messages=told(answer, called(answer, "weather")), **arguments)
    assert after.content[-1].text.strip() and after.stop_reason == "end_turn", after
    with messages.stream(messages=HELLO, **arguments) as stream:
        streamed_answer = stream.get_final_message()
    assert streamed_answer.content[0].thinking == answer.content[0].thinking, (streamed_answer, answer)
    assert streamed_answer.content[0].signature == answer.content[0].signature, (streamed_answer, answer)


@each_dialect
def a_structure_is_parsed_from_a_message(dialect):
    answer = messages.parse(model=SHORT[dialect], max_tokens=64, messages=HELLO, output_format=Person)
    assert isinstance(answer.parsed_output, Person), answer


# ---- errors and cancelling ---------------------------------------------------------------------------------
def assert_typed(error, kind, *words):
    assert error.body["type"] == "error" and error.body["error"]["type"] == kind, error.body
    assert_told(error.body["error"]["message"], *words)


@check
def an_older_client_may_send_its_key_by_x_api_key():
    headers = {"Authorization": anthropic.Omit(), "x-api-key": os.environ["ANTHROPIC_API_KEY"]}
    answer = messages.create(model=SHORT["chat"], max_tokens=8, messages=HELLO, extra_headers=headers)
    assert answer.content[0].text


@check
def messages_tell_a_wrong_key():
    stranger = client.with_options(api_key="sk-bourse-nobody")
    error = raised(anthropic.AuthenticationError, lambda: stranger.messages.create(model=LOCAL, max_tokens=8, messages=HELLO))
    assert_typed(error, "authentication_error", "key")


@check
def messages_tell_an_unknown_model():
    error = raised(anthropic.NotFoundError, lambda: client.messages.create(model="no/such-model", max_tokens=8, messages=HELLO))
    assert_typed(error, "not_found_error", "no/such-model")


@check
def bad_messages_name_the_field_and_are_free():
    before = balance()
    wrongs = {"messages": [], "temperature": -1, "max_tokens": -5, "tools": [{"name": "x"}]}
    for field, wrong in wrongs.items():
        arguments = {"model": SHORT["chat"], "max_tokens": 8, "messages": HELLO, "extra_body": {field: wrong}}
        error = raised(anthropic.BadRequestError, lambda: client.messages.create(**arguments), f"for {field} = {wrong}")
        assert_typed(error, "invalid_request_error", field)
    assert balance() == before


@each_dialect
def a_message_that_breaks_off_is_told_and_free(dialect):
    before = balance()
    raw = client.messages.with_raw_response.create(model=DYING[dialect], max_tokens=64, messages=HELLO, stream=True)
    error = raised(anthropic.APIStatusError, lambda: list(raw.parse()))
    assert error.body["type"] == "error" and error.body["error"]["type"] in ("api_error", "overloaded_error", "timeout_error")
    assert_told(error.body["error"]["message"])
    assert_failed_free(before, raw.headers["x-generation-id"])


@each_dialect
def a_cancelled_message_is_charged_for_what_was_delivered(dialect):
    async def cancel():
        async with anthropic.AsyncAnthropic(timeout=WITHIN_S, max_retries=0) as asynchronous:
            raw = await asynchronous.messages.with_raw_response.create(
                model=LONG[dialect], max_tokens=LONG_TOKENS, messages=HELLO, stream=True)
            stream = await raw.parse()
            seen = 0
            async for event in stream:
                seen += event.type == "content_block_delta"
                if seen == 5:
                    await stream.close()
                    return raw.headers["x-generation-id"]
            raise AssertionError(f"the stream ended after {seen} pieces")

    before = balance()
    assert_cut_short(asyncio.run(cancel()), before)
