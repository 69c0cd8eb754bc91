"""`schemathesis` on the market's own description: whatever the document allows is sent, and every answer must fit it.

One run, seeded and bounded, by one worker (with more, what is drawn hangs on threads), of examples, boundary values and drawn requests, valid and not; then one check per
operation. Left out of its checks: those that judge the document's habits rather than an answer (`unsupported_method`,
`negative_data_rejection`, `positive_data_acceptance`: unknown fields pass through to sellers by design, and a drawn model is
sold by nobody), `ignored_auth` (the catalogue is public; keys are checked by the other suites), and what needs links between
operations, of which the document has none (`use_after_free`, `ensure_resource_availability`).

The tool learns from answers and so comes to ask for models that are sold. Its key's policy keeps it from the sellers that
break off by design: that a failed seller is told as 502 is no error of the market's, and other suites check it.
"""
import os, re, sys, tempfile
import xml.etree.ElementTree as xml

from market import *

ORIGIN = BASE_URL.removesuffix("/v1")
SEED, EXAMPLES = 20261127, 25
WITHIN_ALL_S = 240
ANSWERS = ["not_a_server_error", "status_code_conformance", "content_type_conformance", "response_schema_conformance",
           "response_headers_conformance"]
PHASES = ["examples", "coverage", "fuzzing"]
METHODS = ["get", "post", "put", "patch", "delete"]
# Operations that are described but not called, each with its reason.
SKIPPED = {}
# What the stock clients call, below the base of the API.
CALLED = """
post /chat/completions · post /completions · post /responses · post /messages · post /messages/count_tokens
post /embeddings · post /rerank · post /images · post /images/generations · post /audio/speech · post /audio/transcriptions
get /models · get /models/count · get /models/user · get /models/{} · get /model/{}/{} · get /models/{}/{}/endpoints
get /embeddings/models · get /endpoints/zdr · get /providers · get /generation · get /key · get /credits · get /activity
get /keys · post /keys · get /keys/{} · patch /keys/{} · delete /keys/{}
"""


def described():
    with urllib.request.urlopen(ORIGIN + "/openapi.json", timeout=WITHIN_S) as answer:
        return json.load(answer)


def operations(document):
    """Every operation as `METHOD /path`, in the document's order."""
    return [f"{method.upper()} {path}" for path, item in document["paths"].items() for method in METHODS if method in item]


def calls(document):
    """Every operation without the base of the API and without the names of what stands in its path."""
    bases = "|".join(re.escape(base) for base in ("/api/v1", "/v1"))
    return {re.sub(r"\{[^}]*\}", "{}", re.sub(f" ({bases})/", " /", operation)) for operation in operations(document)}


def careful_key(folder):
    """A key that buys from no seller that breaks off."""
    label, policy = "schema", os.path.join(folder, "policy.json")
    with open(policy, "w", encoding="utf-8") as file:
        json.dump({"ignore": [f"sim-{dialect}-dying" for dialect in DIALECTS]}, file)
    at = ["--data-dir", os.environ["BOURSE_DATA_DIR"]]
    key = json.loads(bourse("key", "create", "--json", *at, label))["secret"]
    bourse("key", "policy", *at, label, policy)
    return key


class Run:
    """The one run; started by the first check that asks."""
    failures = None

    def __call__(self, operation):
        if self.failures is None:
            self.failures = self.start()
        assert operation in self.failures, f"{operation} was not called at all"
        assert not self.failures[operation], self.failures[operation]

    @staticmethod
    def start():
        with tempfile.TemporaryDirectory() as folder:
            report, document = os.path.join(folder, "report.xml"), os.path.join(folder, "openapi.json")
            # From a file: an operation that stands where the tool fetched the document would be left out.
            with open(document, "w", encoding="utf-8") as file:
                json.dump(described(), file)
            arguments = ["run", document, "--url", ORIGIN, "--header", f"Authorization: Bearer {careful_key(folder)}",
                         "--checks", ",".join(ANSWERS), "--phases", ",".join(PHASES), "--seed", str(SEED),
                         "--max-examples", str(EXAMPLES), "--continue-on-failure", "--no-shrink", "--workers", "1",
                         "--request-timeout", str(WITHIN_S), "--suppress-health-check", "all", "--warnings", "off",
                         "--report", "junit", "--report-junit-path", report, "--no-color"]
            arguments += [word for operation in SKIPPED for word in ("--exclude-name", operation)]
            program = "import sys; from schemathesis.cli import schemathesis; sys.exit(schemathesis())"
            done = subprocess.run([sys.executable, "-s", "-c", program, *arguments], cwd=folder, capture_output=True,
                                  text=True, timeout=WITHIN_ALL_S)
            assert os.path.exists(report), f"no report: {done.stdout[-2000:]}{done.stderr[-2000:]}"
            cases = xml.parse(report).iter("testcase")
            # The attribute holds codes only, the text what was sent and answered.
            return {case.get("name"): "\n".join(node.text or node.get("message") or "failed" for node in case
                                                if node.tag in ("failure", "error")) for case in cases}


judged = Run()


@check
def the_market_describes_itself():
    document = described()
    assert document["openapi"].startswith("3.1"), document["openapi"]
    assert operations(document), "no operation is described"


@check
def every_call_of_a_stock_client_is_described():
    expected = {call.strip() for line in CALLED.strip().splitlines() for call in line.split("·")}
    found = {f"{call.split(' ')[0].lower()} {call.split(' ')[1]}" for call in calls(described())}
    assert expected <= found, f"not described: {sorted(expected - found)}"


try:
    DESCRIBED = operations(described())
except (OSError, ValueError, KeyError):
    DESCRIBED = []  # The first check tells why.
for operation in DESCRIBED:
    if operation not in SKIPPED:
        CHECKS.append((f"answers fit the description: {operation}", lambda operation=operation: judged(operation)))
