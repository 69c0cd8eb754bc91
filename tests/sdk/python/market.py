"""What every script here shares: the market under test, its books as a buyer sees them, and the runner.

A check is a function marked with `@check` or, where it must hold whichever dialect the seller speaks, with
`@each_dialect`; it passes unless it raises. Money is compared exactly, as decimals. The market is named by the
environment; `BOURSE_TEST_MARKET` is a JSON object of what it sells and asks.
"""
import json, os, subprocess, time, traceback, urllib.error, urllib.request
from decimal import Decimal

BASE_URL, API_KEY = os.environ["OPENAI_BASE_URL"], os.environ["OPENAI_API_KEY"]
# Administers keys, and buys nothing.
MANAGEMENT_KEY = os.environ["BOURSE_TEST_MANAGEMENT_KEY"]
SOLD = json.loads(os.environ["BOURSE_TEST_MARKET"])
LOCAL = SOLD["local"]
# Models by the dialect that their seller speaks. A short answer ends by itself at once, a long one can be
# cancelled in its middle, a dying one breaks off after some content, a parallel one calls two tools at once, a
# thinking one reasons first.
SHORT, LONG, DYING, PARALLEL, THINKING = (SOLD[name] for name in ("short", "long", "dying", "parallel", "thinking"))
# Sellers of these dialects count reasoning, but not apart.
COUNT_NO_REASONING = {"messages", "ollama", "cohere"}
# A seller of this dialect signs what follows its thoughts, so that the signature is a hidden thought of its own.
SIGNS_APART = "gemini"
# A seller of this dialect says what it was asked by itself, as far as it does; others are spoken for.
ECHOES_BY_ITSELF = "responses"
# One model that every seller sells, and the sellers' names by dialect.
SHARED, ALIAS, SELLERS = SOLD["shared"], SOLD["alias"], SOLD["sellers"]
DIALECTS = sorted(SHORT)
# What a simulated seller asks, USD per token.
PRICE_PROMPT, PRICE_COMPLETION = Decimal(SOLD["price_prompt"]), Decimal(SOLD["price_completion"])

LONG_TOKENS = 300
WITHIN_S = 30
HELLO = [{"role": "user", "content": "Say hello to a sailor in one short sentence."}]
CITY = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"], "additionalProperties": False}
PERSON = {"type": "object", "properties": {"name": {"type": "string"}, "age": {"type": "integer"}},
          "required": ["name", "age"], "additionalProperties": False}
CHECKS = []


def check(function):
    CHECKS.append((function.__name__.replace("_", " "), function))
    return function


def each_dialect(function):
    """One check per dialect of the seller; the function takes its name."""
    for dialect in DIALECTS:
        name = f"{function.__name__.replace('_', ' ')} (seller speaks {dialect})"
        CHECKS.append((name, lambda dialect=dialect: function(dialect)))
    return function


# ---- the books as a buyer sees them ------------------------------------------------------------------------
def get(path):
    """JSON of a GET, numbers as decimals; `None` when the market knows no such thing."""
    request = urllib.request.Request(BASE_URL + path, headers={"Authorization": f"Bearer {API_KEY}"})
    try:
        with urllib.request.urlopen(request, timeout=WITHIN_S) as answer:
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
    """Runs the market's own program; what it printed. Raises with its words unless it exits 0."""
    done = subprocess.run([os.environ["BOURSE_PROGRAM"], *arguments], capture_output=True, text=True)
    assert done.returncode == 0, f"bourse {' '.join(arguments)}: {done.returncode}\n{done.stdout}{done.stderr}"
    return done.stdout


# ---- assertions --------------------------------------------------------------------------------------------
def exact(amount):
    assert amount is not None, "no amount"
    return Decimal(repr(amount)) if isinstance(amount, float) else Decimal(amount)


def counts(usage):
    """Tokens in and out and the cost, whatever the shape calls them."""
    prompt = getattr(usage, "prompt_tokens", None) or usage.input_tokens
    completion = getattr(usage, "completion_tokens", None) or usage.output_tokens
    assert prompt > 0 and completion > 0, usage
    if hasattr(usage, "total_tokens"):
        assert usage.total_tokens == prompt + completion, usage
    return prompt, completion, exact(usage.cost)


def assert_simulated_price(prompt_tokens, completion_tokens, cost):
    expected = prompt_tokens * PRICE_PROMPT + completion_tokens * PRICE_COMPLETION
    assert exact(cost) == expected, f"{prompt_tokens} + {completion_tokens} tokens cost {cost}, not {expected}"


def assert_recorded(generation, usage, **expected):
    """The record of an answer agrees with the usage that came with it."""
    prompt, completion, cost = counts(usage)
    record = settled(generation)
    found = record["tokens_prompt"], record["tokens_completion"], exact(record["total_cost"])
    assert found == (prompt, completion, cost), f"record {found}, usage {(prompt, completion, cost)}"
    for field, value in expected.items():
        assert record[field] == value, f"{field} is {record[field]!r}, not {value!r}"
    return record


def assert_cut_short(generation, before, least=5):
    """A cancelled answer is charged for what was delivered, and for nothing else."""
    record = settled(generation)
    assert record["cancelled"] is True, record
    assert least <= record["tokens_completion"] < LONG_TOKENS / 2, record
    assert_simulated_price(record["tokens_prompt"], record["tokens_completion"], record["total_cost"])
    assert before - balance() == exact(record["total_cost"]), (before, balance(), record["total_cost"])


def assert_failed_free(before, generation=None):
    """An answer that broke off is told apart in the books and costs nothing."""
    if generation:
        record = settled(generation)
        assert exact(record["total_cost"]) == 0 and not record["cancelled"], record
    assert balance() == before, f"{before - balance()} was charged for an answer that failed"


def assert_told(error, *words):
    """The message names each of these and says what to do: it is a sentence, not a code."""
    text = str(error)
    missing = [word for word in words if word not in text]
    assert not missing and len(text.split()) >= 5, f"{text!r} does not tell {missing or 'what to do'}"


def raised(kind, call, why=""):
    try:
        call()
    except kind as error:
        return error
    raise AssertionError(f"no {getattr(kind, '__name__', kind)} was raised {why}")


# ---- the runner --------------------------------------------------------------------------------------------
def run():
    """Runs every check in the order written; returns the exit code."""
    failed = 0
    for name, function in CHECKS:
        try:
            function()
            print(f"ok   {name}", flush=True)
        except Exception as error:
            failed += 1
            at = traceback.extract_tb(error.__traceback__)
            ours = [frame for frame in at if os.path.dirname(frame.filename) == os.path.dirname(__file__)]
            where = f"{os.path.basename(ours[-1].filename)}:{ours[-1].lineno}" if ours else "?"
            reason = " ".join(str(error).split())[:600] or repr(at[-1].line)
            print(f"FAIL {name}\n     {where}: {type(error).__name__}: {reason}", flush=True)
    print(f"{len(CHECKS) - failed} passed, {failed} failed")
    return 1 if failed else 0
