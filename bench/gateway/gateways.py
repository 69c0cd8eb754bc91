"""Gateways that are measured: how each is started, and when it is ready.

Ready means that a whole answer and a whole stream have come through, and that a wrong key was refused where keys are
said to be checked: a gateway that answers with errors, drops deltas or does less than its row says is not measured. Why a gateway cannot be started is an error of the run: the page has no gaps.
"""
import contextlib, http.client, json, re, shutil, signal, socket, sys, time
from pathlib import Path
from processes import cpu_ns, free_port, rss_mb, tree

HERE = Path(__file__).resolve().parent
FLOOR = "nginx"
MODES = ("group", "strict")
STREAM_DELTAS = 20
START_MAX_S = 120


class Gateway:
    """One that runs. Its requests name `model` and carry `key` and `headers`."""

    def __init__(self, name, port, process, begun, key="sk-none", model="mock-model", headers=(), checks_key=False, is_on=""):
        self.name, self.process, self.pid, self.begun = name, process, process.pid, begun
        self.port, self.key, self.model, self.headers = port, key, model, list(headers)
        self.checks_key, self.is_on = checks_key, is_on
        self.url = f"http://127.0.0.1:{port}/v1/chat/completions"
        self.version = self.ready_s = self.idle_rss_mb = self.idle_busy = None

    def cpu_ns(self):
        return cpu_ns(tree(self.pid))

    def rss_mb(self):
        return rss_mb(tree(self.pid))

    def get(self, path):
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        with contextlib.closing(connection):
            connection.request("GET", path, headers={"authorization": f"Bearer {self.key}"})
            return connection.getresponse().read().decode()

    def ask(self, deltas, key=None):
        """Sends one chat completion; an empty text when the whole answer came, else what came instead."""
        body = {"model": self.model, "messages": [{"role": "user", "content": "hello"}], "max_tokens": deltas or 8}
        if deltas:
            body.update(stream=True, stream_options={"include_usage": True})
        headers = {"content-type": "application/json", "authorization": f"Bearer {key or self.key}"}
        headers.update(line.split(": ", 1) for line in self.headers)
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        with contextlib.closing(connection):
            connection.request("POST", "/v1/chat/completions", json.dumps(body), headers)
            answer = connection.getresponse()
            text = answer.read().decode(errors="replace")
        if deltas:
            whole = "[DONE]" in text[-64:] and text.count("data:") > deltas
        else:
            whole = '"choices"' in text
        return "" if answer.status == 200 and whole else f"{answer.status} {text[:300]}"

    def wait(self, processes):
        """Waits for the first good answer; the run ends here when none comes."""
        said = "nothing listens"
        while True:
            try:
                said = self.ask(0)
            except (OSError, http.client.HTTPException) as error:
                said = repr(error)
            if not said:
                break
            ended, spent_s = self.process.poll(), time.monotonic() - self.begun
            if ended is not None or spent_s > START_MAX_S:
                why = f"ended with {ended}" if ended is not None else f"gave no good answer in {START_MAX_S} s, but: {said}"
                sys.exit(f"{self.name} cannot be started: it {why}\n{processes.last_words(self.name)}")
            time.sleep(0.005)
        self.ready_s = time.monotonic() - self.begun
        said = self.ask(STREAM_DELTAS)
        if said:
            sys.exit(f"{self.name} answers, but does not stream {STREAM_DELTAS} deltas: {said}\n{processes.last_words(self.name)}")
        if self.checks_key and not self.ask(0, key="sk-wrong"):
            sys.exit(f"{self.name} answers to a wrong key, though it is set up to check keys")


def many(number, thing):
    return f"{number:,} {thing}{'' if number == 1 else 's'}"


def fill(text, values):
    """A template with `@NAME@` replaced."""
    for name, value in values.items():
        text = text.replace(f"@{name}@", str(value))
    return text


def gap(mock, microseconds):
    """Tells the mock how long to pause between two deltas from now on."""
    host, port = mock.split(":")
    with socket.create_connection((host, int(port))) as s:
        s.sendall(f"POST /control?gap_us={microseconds} HTTP/1.1\r\nconnection: close\r\ncontent-length: 0\r\n\r\n".encode())
        while s.recv(4096):
            pass


def start_floor(processes, cpu, mock):
    port = free_port()
    config = processes.folder / "nginx.conf"
    config.write_text(fill((HERE / "nginx.conf").read_text(), {"WORK": processes.folder, "PORT": port, "MOCK": mock}))
    begun = time.monotonic()
    process = processes.spawn(cpu, ["nginx", "-p", processes.folder, "-c", config], FLOOR)
    return Gateway(FLOOR, port, process, begun, is_on="a bare reverse proxy: the floor")


class Catalogue:
    """What bourse sells here: `models` models, each by the same `sellers` sellers at prices of their own.

    All sellers are one mock, so none is better than another but by its price: the draw has work to do, and every
    seller is eligible.
    """

    MODEL = "mock/model"
    SELLERS_MAX = 1_024  # bourse's PROVIDERS_MAX
    PRICE_PICO_USD = 1_000  # per token, of the cheapest; the dearest is just below twice that

    def __init__(self, offers, sellers):
        if not 1 <= sellers <= self.SELLERS_MAX:
            sys.exit(f"--sellers {sellers}: bourse takes 1 to {self.SELLERS_MAX} providers")
        if offers < 1:
            sys.exit(f"--offers {offers}: a catalogue holds at least one offer")
        self.sellers = min(sellers, offers)
        self.models = offers // self.sellers
        self.offers = self.models * self.sellers

    def __str__(self):
        return f"{many(self.offers, 'offer')}, {many(self.sellers, 'seller')} of the measured model"

    def config(self, mode, mock):
        parts = [f'[gateway]\ndurability = "{mode}"\n\n[exchange]\nstarting_credit = "1000"\n\n[node]\nenabled = false\n']
        for seller in range(self.sellers):
            pico = self.PRICE_PICO_USD + self.PRICE_PICO_USD * seller // self.sellers
            price = f"0.{pico:012d}"
            parts.append(f'\n[[provider]]\nname = "mock-{seller}"\nkind = "openai"\nbase_url = "http://{mock}/v1"\n'
                         'api_key_env = "BOURSE_BENCH_SELLER_KEY"\n')
            for model in range(self.models):
                slug = self.MODEL if model == 0 else f"{self.MODEL}-{model}"
                parts.append(f'[[provider.model]]\nid = "{slug}"\nupstream_id = "mock-model"\n'
                             f'price_prompt = "{price}"\nprice_completion = "{price}"\n')
        return "".join(parts)

    def check(self, gateway):
        """Asks a running bourse whether this is what it sells."""
        sellers = len(json.loads(gateway.get(f"/v1/models/{self.MODEL}/endpoints"))["data"]["endpoints"])
        models = len(json.loads(gateway.get("/v1/models"))["data"])
        if (sellers, models) != (self.sellers, self.models):
            sys.exit(f"{gateway.name} sells {models} models, the measured one by {sellers} sellers; configured were {self}")

    def served(self, gateway):
        """How many sellers of the measured model answered a request, as far as its metrics name them (512 offers)."""
        model = re.escape(self.MODEL)
        return len(re.findall(rf'^bourse_attempts_total{{seller="[^"]+",model="{model}",outcome="success"}} [1-9]', gateway.get("/metrics"), re.M))


def start_bourse(processes, cpu, mock, program, mode, catalogue):
    """Starts it twice: the second start, with keys and books on disk, is the one that is measured."""
    name = "bourse" if mode == MODES[0] else f"bourse {mode}"
    config = processes.folder / f"{mode}.toml"
    config.write_text(catalogue.config(mode, mock))
    data = processes.folder / f"data-{mode}"
    shutil.rmtree(data, ignore_errors=True)
    command = [program, "up", "--json", "--listen", "127.0.0.1:0", "--config", config, "--data-dir", data]
    key = None
    for is_first in (True, False):
        begun = time.monotonic()
        process = processes.spawn(cpu, command, name, {"BOURSE_BENCH_SELLER_KEY": "sk-seller"}, reads_stdout=True)
        line = process.stdout.readline()
        if not line:
            sys.exit(f"{name} cannot be started\n{processes.last_words(name)}")
        ready = json.loads(line)
        key = ready.get("api_key") or key
        if is_first:
            processes.end(process, signal.SIGINT, 30)
    port = int(ready["base_url"].split(":")[2].split("/")[0])
    is_on = f"keys, holds, routing, ledger (durability {mode}), receipts, journal of decisions"
    return Gateway(name, port, process, begun, key, Catalogue.MODEL, checks_key=True, is_on=is_on)
