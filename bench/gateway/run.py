#!/usr/bin/env python3
"""What does the gateway cost per request? bourse beside nginx, cell by cell, on one mock upstream.

Run by `cargo xtask bench gateway`, which builds the programs. Standard library only; Linux, for /proc.
CPU time of the gateway's whole process tree is the figure to trust: requests a second and latency on a small
shared machine say more about the machine. Every round visits the gateways in a rotated order, so that noise
falls on all of them; tables give medians, and the median of the ratios to nginx within the same round.
"""
import argparse, contextlib, json, os, platform, re, shutil, signal, socket, statistics, subprocess, sys, time
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
# name: (clients, deltas of a stream or 0, microseconds between deltas, most x nginx, most x nginx when strict)
SCENARIOS = {
    "plain c1": (1, 0, 0, None, None),
    "plain c16": (16, 0, 0, 2.0, 3.0),
    "plain c64": (64, 0, 0, 2.0, 2.0),
    "stream20 c16": (16, 20, 0, 1.4, 1.4),
    "stream200 c16": (16, 200, 0, 1.4, 1.4),
    "paced20 c32": (32, 20, 5000, 1.4, 1.4),
}
MODES = ("group", "strict")
FLOOR = "nginx"
READY_MAX_S, IDLE_RSS_MAX_MB = 0.3, 30
MODEL = "mock/model"
CONFIG = """[gateway]
durability = "{mode}"

[exchange]
starting_credit = "1000"

[node]
enabled = false

[[provider]]
name = "mock"
kind = "openai"
base_url = "http://{mock}/v1"
api_key_env = "BOURSE_BENCH_SELLER_KEY"

[[provider.model]]
id = "{model}"
upstream_id = "mock-model"
price_prompt = "0.000000001"
price_completion = "0.000000001"
"""


def options():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--bourse", type=Path, required=True, help="release build of the binary")
    p.add_argument("--tools", type=Path, required=True, help="folder of the built `mock` and `load`")
    p.add_argument("--work", type=Path, required=True, help="scratch folder")
    p.add_argument("--scenarios", default=",".join(SCENARIOS))
    p.add_argument("--modes", default=",".join(MODES))
    p.add_argument("--rounds", type=int, default=3)
    p.add_argument("--seconds", type=float, default=2.5, help="measured time of one cell")
    p.add_argument("--warm", type=float, default=0.4, help="unmeasured time before each cell")
    p.add_argument("--gateway-cpu", default="0")
    p.add_argument("--load-cpu", default="1", help="core of mock and load")
    p.add_argument("--out", type=Path, default=ROOT / "bench" / "results", help="where the page is written")
    return p.parse_args()


# ---- processes ---------------------------------------------------------------------------------------------
def tree(pid):
    """The process and everything below it."""
    children = {}
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            with contextlib.suppress(OSError):
                fields = Path(f"/proc/{entry}/stat").read_text().rsplit(")", 1)[1].split()
                children.setdefault(int(fields[1]), []).append(int(entry))
    found, todo = [], [pid]
    while todo:
        pid = todo.pop()
        found.append(pid)
        todo += children.get(pid, [])
    return found


def cpu_ns(pids):
    """Nanoseconds on CPU of all threads: schedstat where the kernel has it, else clock ticks."""
    total = 0
    for pid in pids:
        with contextlib.suppress(OSError):
            for task in os.listdir(f"/proc/{pid}/task"):
                with contextlib.suppress(OSError, ValueError, IndexError):
                    total += int(Path(f"/proc/{pid}/task/{task}/schedstat").read_text().split()[0])
    if total:
        return total
    tick = 10**9 // os.sysconf("SC_CLK_TCK")
    for pid in pids:
        with contextlib.suppress(OSError):
            fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
            total += (int(fields[11]) + int(fields[12])) * tick
    return total


def rss_mb(pid):
    return int(re.search(r"VmRSS:\s+(\d+)", Path(f"/proc/{pid}/status").read_text())[1]) / 1024


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def wait_for_port(port, within_s=10):
    deadline = time.monotonic() + within_s
    while time.monotonic() < deadline:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            return
        time.sleep(0.01)
    sys.exit(f"nothing listens on 127.0.0.1:{port}")


class Bench:
    """Everything started here ends here."""

    def __init__(self, options):
        self.options, self.started, self.gateways = options, [], {}
        options.work.mkdir(parents=True, exist_ok=True)

    def spawn(self, cpu, command, log, **more):
        err = open(self.options.work / f"{log}.log", "ab")
        process = subprocess.Popen(["taskset", "-c", cpu] + [str(c) for c in command], stdin=subprocess.DEVNULL,
                                   stdout=subprocess.PIPE, stderr=err, cwd=self.options.work, text=True, **more)
        self.started.append(process)
        return process

    def close(self):
        for process in reversed(self.started):
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()

    def start_mock(self):
        process = self.spawn(self.options.load_cpu, [self.options.tools / "mock"], "mock")
        self.mock = process.stdout.readline().strip()

    def start_floor(self):
        port = free_port()
        config = self.options.work / "nginx.conf"
        text = (HERE / "nginx.conf").read_text()
        for key, value in {"@WORK@": self.options.work, "@PORT@": port, "@MOCK@": self.mock}.items():
            text = text.replace(key, str(value))
        config.write_text(text)
        process = self.spawn(self.options.gateway_cpu, ["nginx", "-p", self.options.work, "-c", config], "nginx")
        wait_for_port(port)
        self.gateways[FLOOR] = Gateway(FLOOR, f"http://127.0.0.1:{port}/v1", "sk-none", "mock-model", process.pid)

    def start_bourse(self, mode):
        """Starts it twice: the second start, with keys and books on disk, is the one that is measured."""
        config = self.options.work / f"{mode}.toml"
        config.write_text(CONFIG.format(mode=mode, mock=self.mock, model=MODEL))
        data = self.options.work / f"data-{mode}"
        shutil.rmtree(data, ignore_errors=True)
        command = [self.options.bourse, "up", "--json", "--listen", "127.0.0.1:0", "--config", config, "--data-dir", data]
        env = dict(os.environ, BOURSE_BENCH_SELLER_KEY="sk-seller")
        for start in ("first", "second"):
            begun = time.monotonic()
            process = self.spawn(self.options.gateway_cpu, command, f"bourse-{mode}", env=env)
            line = process.stdout.readline()
            ready_s = time.monotonic() - begun
            if not line:
                sys.exit(f"bourse did not become ready: see {self.options.work}/bourse-{mode}.log")
            if start == "first":
                process.send_signal(signal.SIGINT)
                process.wait(30)
                self.started.remove(process)
                key = json.loads(line)["api_key"]
        ready = json.loads(line)
        name = "bourse" if mode == MODES[0] else f"bourse {mode}"
        gateway = Gateway(name, ready["base_url"], ready.get("api_key") or key, MODEL, process.pid)
        gateway.ready_s = ready_s
        time.sleep(2)
        gateway.idle_rss_mb = rss_mb(ready["pids"]["gateway"])
        self.gateways[name] = gateway

    def gap(self, microseconds):
        host, port = self.mock.split(":")
        with socket.create_connection((host, int(port))) as s:
            s.sendall(f"POST /control?gap_us={microseconds} HTTP/1.1\r\nconnection: close\r\ncontent-length: 0\r\n\r\n".encode())
            while s.recv(4096):
                pass

    def load(self, gateway, scenario, seconds):
        clients, deltas, *_ = SCENARIOS[scenario]
        command = ["taskset", "-c", self.options.load_cpu, self.options.tools / "load", "--url", gateway.url, "--key", gateway.key,
                   "--model", gateway.model, "--concurrency", clients, "--seconds", seconds, "--stream", deltas]
        return json.loads(subprocess.run([str(c) for c in command], stdout=subprocess.PIPE, text=True, check=True).stdout)

    def cell(self, gateway, scenario):
        self.gap(SCENARIOS[scenario][2])
        self.load(gateway, scenario, self.options.warm)
        before, begun = cpu_ns(tree(gateway.pid)), time.monotonic()
        row = self.load(gateway, scenario, self.options.seconds)
        spent, wall = cpu_ns(tree(gateway.pid)) - before, time.monotonic() - begun
        self.gap(0)
        row.update(gateway=gateway.name, scenario=scenario, cpu_us=spent / 1000 / max(row["ok"], 1), busy=spent / 1e9 / wall)
        print(f'{gateway.name:<14}{scenario:<15}{row["rps"]:>8.0f}/s  cpu {row["cpu_us"]:>8.1f} us  busy {row["busy"]:.2f}'
              f'  p50 {row["latency_us"]["p50"]:>7} us  p99 {row["latency_us"]["p99"]:>7} us  errors {row["errors"]} {row["error_sample"]}',
              file=sys.stderr, flush=True)
        return row

    def run(self):
        self.start_mock()
        self.start_floor()
        for mode in self.options.modes.split(","):
            self.start_bourse(mode)
        rows, gateways = [], list(self.gateways.values())
        for number in range(self.options.rounds):
            for scenario in self.options.scenarios.split(","):
                turn = number % len(gateways)
                rows += [dict(self.cell(g, scenario), round=number) for g in gateways[turn:] + gateways[:turn]]
        return rows


class Gateway:
    def __init__(self, name, base_url, key, model, pid):
        self.name, self.url, self.key, self.model, self.pid = name, base_url + "/chat/completions", key, model, pid
        self.ready_s = self.idle_rss_mb = None


# ---- the page ----------------------------------------------------------------------------------------------
def machine():
    cpu = re.search(r"model name\s*:\s*(.*)", Path("/proc/cpuinfo").read_text())
    memory = re.search(r"MemTotal:\s+(\d+)", Path("/proc/meminfo").read_text())
    said = lambda *command: subprocess.run(command, capture_output=True, text=True)
    nginx = said("nginx", "-v").stderr.strip().rpartition("/")[2]
    return {"cpu": cpu[1] if cpu else platform.machine(), "cores": os.cpu_count(), "memory_gib": round(int(memory[1]) / 2**20, 1),
            "kernel": platform.release(), "nginx": nginx, "rustc": said("rustc", "--version").stdout.strip(),
            "load_before": round(os.getloadavg()[0], 2)}


def figures(rows):
    """One line per scenario and gateway, with the ratio to the floor and the limit it should keep."""
    lines = []
    for scenario, (_, _, _, most, most_strict) in SCENARIOS.items():
        floor = {r["round"]: r["cpu_us"] for r in rows if r["scenario"] == scenario and r["gateway"] == FLOOR}
        for name in dict.fromkeys(r["gateway"] for r in rows):
            own = [r for r in rows if r["scenario"] == scenario and r["gateway"] == name]
            if not own:
                continue
            if not floor:
                sys.exit(f"{FLOOR} gave no figures for {scenario}")
            ratios = [r["cpu_us"] / floor[r["round"]] for r in own if floor.get(r["round"])]
            middle = lambda pick: statistics.median(pick(r) for r in own)
            lines.append({
                "scenario": scenario, "gateway": name, "cpu_us": middle(lambda r: r["cpu_us"]),
                "ratio": statistics.median(ratios), "ratio_min": min(ratios), "ratio_max": max(ratios),
                "limit": None if name == FLOOR else most_strict if name.endswith("strict") else most,
                "rps": middle(lambda r: r["rps"]), "p50_ms": middle(lambda r: r["latency_us"]["p50"]) / 1000,
                "p99_ms": middle(lambda r: r["latency_us"]["p99"]) / 1000,
                "first_byte_ms": middle(lambda r: r["first_byte_us"]["p50"]) / 1000, "errors": sum(r["errors"] for r in own)})
    return lines


def verdict(value, most):
    return "–" if most is None else f"{most:g} {'kept' if value <= most else '**missed**'}"


def page(lines, starts, about, options):
    out = [f"# Gateway, {time.strftime('%Y-%m-%d')}", "",
           f"`cargo xtask bench gateway`: {options.rounds} rounds of {options.seconds:g} s a cell, gateway on one core, load and mock on "
           "another. Keys, holds, durable ledger and receipts are on. Ratios are medians of the ratios to nginx within a round.", "",
           f"Machine: {about['cpu']}, {about['cores']} cores, {about['memory_gib']} GiB, Linux {about['kernel']}; nginx {about['nginx']}; "
           f"{about['rustc']}; load average before the run {about['load_before']}.", ""]
    for scenario in dict.fromkeys(line["scenario"] for line in lines):
        out += [f"## {scenario}", "", "| gateway | CPU µs/request | × nginx (range) | at most | requests/s | p50 ms | p99 ms | first byte ms | errors |",
                "| --- | --- | --- | --- | --- | --- | --- | --- | --- |"]
        for x in (line for line in lines if line["scenario"] == scenario):
            out.append(f"| {x['gateway']} | {x['cpu_us']:.1f} | {x['ratio']:.2f} ({x['ratio_min']:.2f}–{x['ratio_max']:.2f}) | {verdict(x['ratio'], x['limit'])} "
                       f"| {x['rps']:.0f} | {x['p50_ms']:.2f} | {x['p99_ms']:.2f} | {x['first_byte_ms']:.2f} | {x['errors']} |")
        out.append("")
    out += ["## Start and memory", "", "Second start of a data folder, no node asked for; memory two seconds after it was ready.", "",
            "| gateway | ready s | at most | idle RSS MB | at most |", "| --- | --- | --- | --- | --- |"]
    for x in starts:
        out.append(f"| {x['gateway']} | {x['ready_s']:.2f} | {verdict(x['ready_s'], READY_MAX_S)} | {x['idle_rss_mb']:.1f} | {verdict(x['idle_rss_mb'], IDLE_RSS_MAX_MB)} |")
    return "\n".join(out) + "\n"


def main():
    chosen = options()
    for program, remedy in {"nginx": "install nginx from your system's packages; it is the floor that ratios are taken to",
                            "taskset": "install util-linux"}.items():
        if not shutil.which(program):
            sys.exit(f"{program} is missing: {remedy}")
    about = machine()
    bench = Bench(chosen)
    try:
        rows = bench.run()
    finally:
        bench.close()
    lines = figures(rows)
    starts = [{"gateway": g.name, "ready_s": g.ready_s, "idle_rss_mb": g.idle_rss_mb} for g in bench.gateways.values() if g.ready_s]
    text = page(lines, starts, about, chosen)
    print(text)
    chosen.out.mkdir(parents=True, exist_ok=True)
    stem = chosen.out / f"{time.strftime('%Y-%m-%d')}-gateway"
    stem.with_suffix(".md").write_text(text)
    stem.with_suffix(".json").write_text(json.dumps({"machine": about, "figures": lines, "starts": starts, "rows": rows}, indent=1) + "\n")
    print(f"written: {stem}.md and .json", file=sys.stderr)


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("ended"))
    main()
