"""The stock `openai` client against a running market: what a Python buyer relies on.

Run by `cargo xtask test`, which starts the market and names it in the environment. A check is a function; it
passes unless it raises. Money is compared exactly, as decimals. The last line is `N passed, N failed`.
"""
import asyncio, json, os, subprocess, sys, tempfile, time, traceback, urllib.error, urllib.request
from decimal import Decimal

import openai

BASE_URL, API_KEY = os.environ["OPENAI_BASE_URL"], os.environ["OPENAI_API_KEY"]
LOCAL = os.environ["BOURSE_TEST_LOCAL_MODEL"]
SIMULATED = os.environ["BOURSE_TEST_SIMULATED_MODEL"]
# What the simulated seller asks, USD per token.
PRICE_PROMPT, PRICE_COMPLETION = Decimal("0.0000001"), Decimal("0.0000004")
LONG = 300
WITHIN_S = 30
HELLO = [{"role": "user", "content": "Say hello to a sailor in one short sentence."}]
WEATHER = [{"type": "function", "function": {
    "name": "weather", "description": "Weather of a city",
    "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}}}]

client = openai.OpenAI()
CHECKS = []


def check(function):
    CHECKS.append(function)
    return function


# ---- what the SDK does not cover ---------------------------------------------------------------------------
def get(path):
    """JSON of a GET, numbers as decimals; `None` when the market knows no such thing."""
    request = urllib.request.Request(BASE_URL + path, headers={"Authorization": f"Bearer {API_KEY}"})
    try:
        with urllib.request.urlopen(request) as answer:
            return json.load(answer, parse_float=Decimal)
    except urllib.error.HTTPError as error:
        if error.code == 404:
            return None
        raise


def balance():
    credits = get("/credits")["data"]
    return Decimal(credits["total_credits"]) - Decimal(credits["total_usage"])


def settled(generation):
    """The record of a generation; it appears when the books have it."""
    deadline = time.monotonic() + WITHIN_S
    while time.monotonic() < deadline:
        record = get(f"/generation?id={generation}")
        if record:
            return record["data"]
    raise AssertionError(f"{generation} was not settled within {WITHIN_S} s")


def bourse(*arguments):
    """Runs the market's own program; raises with its words unless it exits 0."""
    done = subprocess.run([os.environ["BOURSE_PROGRAM"], *arguments], capture_output=True, text=True)
    assert done.returncode == 0, f"bourse {' '.join(arguments)}: {done.returncode}\n{done.stdout}{done.stderr}"


def exact(amount):
    return Decimal(repr(amount)) if isinstance(amount, float) else Decimal(amount)


def assert_usage(usage):
    assert usage.prompt_tokens > 0 and usage.completion_tokens > 0, usage
    assert usage.total_tokens == usage.prompt_tokens + usage.completion_tokens, usage
    assert exact(usage.cost) > 0, usage


def assert_simulated_price(prompt_tokens, completion_tokens, cost):
    expected = prompt_tokens * PRICE_PROMPT + completion_tokens * PRICE_COMPLETION
    assert exact(cost) == expected, f"{prompt_tokens} + {completion_tokens} tokens cost {cost}, not {expected}"


# ---- checks ------------------------------------------------------------------------------------------------
@check
def models_are_listed():
    listed = {model.id for model in client.models.list()}
    assert {LOCAL, SIMULATED} <= listed, listed


@check
def a_plain_answer_of_the_real_model():
    answer = client.chat.completions.create(model=LOCAL, messages=HELLO, max_tokens=24)
    assert answer.choices[0].message.content.strip()
    assert answer.choices[0].finish_reason in ("stop", "length")
    assert_usage(answer.usage)


@check
def a_streamed_answer_of_the_real_model():
    text, usage, finish = "", None, None
    stream = client.chat.completions.create(
        model=LOCAL, messages=HELLO, max_tokens=24, stream=True, stream_options={"include_usage": True})
    for chunk in stream:
        for choice in chunk.choices:
            text += choice.delta.content or ""
            finish = choice.finish_reason or finish
        usage = chunk.usage or usage
    assert text.strip() and finish in ("stop", "length"), (text, finish)
    assert_usage(usage)


@check
def the_same_seed_gives_the_same_text():
    def said(seed):
        answer = client.chat.completions.create(
            model=LOCAL, messages=HELLO, max_tokens=16, seed=seed, temperature=1.0, logprobs=True)
        return [token.token for token in answer.choices[0].logprobs.content]

    assert said(7) == said(7)
    assert len({tuple(said(seed)) for seed in (1, 2, 3, 4)}) > 1


@check
def a_stop_string_ends_a_completion():
    answer = client.completions.create(model=LOCAL, prompt="One, two, three, four,", max_tokens=24, stop=["."])
    assert "." not in answer.choices[0].text
    assert_usage(answer.usage)


@check
def several_choices_are_each_billed():
    one = client.chat.completions.create(model=SIMULATED, messages=HELLO, max_tokens=8)
    three = client.chat.completions.create(model=SIMULATED, messages=HELLO, max_tokens=8, n=3)
    assert len(three.choices) == 3 and three.usage.completion_tokens == 3 * one.usage.completion_tokens
    assert_simulated_price(three.usage.prompt_tokens, three.usage.completion_tokens, three.usage.cost)


@check
def tools_reach_the_seller_and_calls_come_back():
    answer = client.chat.completions.create(model=SIMULATED, messages=HELLO, tools=WEATHER)
    call = answer.choices[0].message.tool_calls[0]
    assert answer.choices[0].finish_reason == "tool_calls" and call.function.name == "weather", answer
    assert "city" in json.loads(call.function.arguments)
    told = HELLO + [answer.choices[0].message, {"role": "tool", "tool_call_id": call.id, "content": "sunny"}]
    after = client.chat.completions.create(model=SIMULATED, messages=told, tools=WEATHER, max_tokens=8)
    assert after.choices[0].message.content


@check
def tools_stream():
    with client.chat.completions.stream(model=SIMULATED, messages=HELLO, tools=WEATHER) as stream:
        answer = stream.get_final_completion()
    call = answer.choices[0].message.tool_calls[0]
    assert call.function.name == "weather" and "city" in json.loads(call.function.arguments)


@check
def a_wrong_key_is_told():
    stranger = openai.OpenAI(api_key="sk-bourse-nobody")
    error = raised(openai.AuthenticationError, lambda: stranger.chat.completions.create(model=LOCAL, messages=HELLO))
    assert error.status_code == 401


@check
def an_unknown_model_is_told_and_free():
    before = balance()
    error = raised(openai.NotFoundError, lambda: client.chat.completions.create(model="no/such-model", messages=HELLO))
    assert error.status_code == 404 and "no/such-model" in str(error)
    assert balance() == before


@check
def bad_requests_name_the_field_and_are_free():
    before = balance()
    for field, wrong in {"messages": [], "temperature": -1, "max_tokens": -5, "n": 100_000}.items():
        arguments = {"model": SIMULATED, "messages": HELLO, field: wrong}
        error = raised(openai.BadRequestError, lambda: client.chat.completions.create(**arguments))
        assert error.status_code == 400 and field in str(error), (field, str(error))
    assert balance() == before


@check
def a_receipt_verifies_offline():
    raw = client.chat.completions.with_raw_response.create(model=LOCAL, messages=HELLO, max_tokens=8)
    name = raw.headers["x-bourse-receipt"]
    assert raw.parse().id == raw.headers["x-generation-id"]
    settled(raw.parse().id)
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "receipt.json")
        with open(path, "w") as file:
            json.dump(get(f"/receipts/{name}"), file, default=str)
        bourse("verify", path)


@check
def concurrent_costs_add_up_to_the_balance():
    async def ask(asynchronous, model):
        answer = await asynchronous.chat.completions.create(model=model, messages=HELLO, max_tokens=12)
        return exact(answer.usage.cost)

    async def all_at_once():
        async with openai.AsyncOpenAI() as asynchronous:
            return await asyncio.gather(*(ask(asynchronous, model) for model in [LOCAL] * 3 + [SIMULATED] * 5))

    before = balance()
    assert sum(asyncio.run(all_at_once())) == before - balance()


# The model's two end tokens, forbidden: an answer that ends by itself cannot be cancelled.
ENDLESS = {"0": -100, "2": -100}


def cancelled(model):
    """Cancels a long stream in its middle; gives its record and what the balance lost."""
    async def ask():
        async with openai.AsyncOpenAI() as asynchronous:
            raw = await asynchronous.chat.completions.with_raw_response.create(
                model=model, messages=HELLO, max_tokens=LONG, stream=True, logit_bias=ENDLESS)
            stream = raw.parse()
            seen = 0
            async for chunk in stream:
                seen += bool(chunk.choices and chunk.choices[0].delta.content)
                if seen == 5:
                    await stream.close()
                    return raw.headers["x-generation-id"]

    before = balance()
    record = settled(asyncio.run(ask()))
    return record, before - balance()


@check
def a_cancelled_stream_is_charged_for_what_was_delivered():
    record, lost = cancelled(SIMULATED)
    assert record["cancelled"] is True, record
    assert 5 <= record["tokens_completion"] < LONG / 2, record
    assert_simulated_price(record["tokens_prompt"], record["tokens_completion"], record["total_cost"])
    assert lost == Decimal(record["total_cost"])


@check
def a_cancelled_stream_of_the_real_model_stops():
    record, lost = cancelled(LOCAL)
    assert record["cancelled"] is True, record
    assert 5 <= record["tokens_completion"] < LONG, record
    assert lost == Decimal(record["total_cost"])


@check
def the_books_are_clean_while_the_market_is_live():
    bourse("ledger", "check", "--data-dir", os.environ["BOURSE_DATA_DIR"])


def raised(kind, call):
    try:
        call()
    except kind as error:
        return error
    raise AssertionError(f"no {kind.__name__}")


def main():
    failed = 0
    for function in CHECKS:
        name = function.__name__.replace("_", " ")
        try:
            function()
            print(f"ok   {name}", flush=True)
        except Exception:
            failed += 1
            print(f"FAIL {name}\n{traceback.format_exc()}", flush=True)
    print(f"{len(CHECKS) - failed} passed, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
