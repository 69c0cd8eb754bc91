#!/usr/bin/env python3
"""What does the gateway cost per request? bourse beside nginx, and beside other gateways, on one mock upstream.

Run by `cargo xtask bench gateway`, which builds the programs. Standard library only; Linux, for /proc.
CPU time of the gateway's whole process tree is the figure to trust: requests a second and latency on a small
shared machine say more about the machine. Every round visits the gateways in a rotated order, so that noise
falls on all of them; tables give medians, and the median of the ratios to nginx within the same round.
"""
import argparse, json, shutil, signal, subprocess, sys, time
from pathlib import Path

sys.dont_write_bytecode = True  # this folder is in the repository
import gateways, page, peers
from gateways import FLOOR, MODES, Catalogue
from processes import Processes
from scenarios import PRIMES, SCENARIOS

IDLE_S = 2  # from the last gateway's start to the look at their memory
ROOT = gateways.HERE.parent.parent


def options():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--bourse", type=Path, required=True, help="release build of the binary")
    p.add_argument("--tools", type=Path, required=True, help="folder of the built `mock` and `load`")
    p.add_argument("--work", type=Path, required=True, help="scratch folder")
    p.add_argument("--cache", type=Path, help="folder that peers are installed in; needed with --peers")
    p.add_argument("--peers", default="", help=f"other gateways, of {', '.join(peers.PEERS)}; or all")
    p.add_argument("--offers", type=int, default=1000, help="offers in bourse's catalogue")
    p.add_argument("--sellers", type=int, default=20, help="how many of them are for the measured model")
    p.add_argument("--scenarios", default=",".join(SCENARIOS))
    p.add_argument("--modes", default=",".join(MODES))
    p.add_argument("--rounds", type=int, default=3)
    p.add_argument("--seconds", type=float, default=2.5, help="measured time of one cell")
    p.add_argument("--warm", type=float, default=0.4, help="unmeasured time before each cell")
    p.add_argument("--prime", type=float, default=2.0, help=f"unmeasured time of each of {', '.join(PRIMES)} before the first round")
    p.add_argument("--gateway-cpu", default="0")
    p.add_argument("--load-cpu", default="1", help="core of mock and load")
    p.add_argument("--out", type=Path, default=ROOT / "bench" / "results", help="where the page is written")
    chosen = p.parse_args()
    chosen.peers = peers.names(chosen.peers)
    if chosen.peers and not chosen.cache:
        p.error("--peers needs --cache, a folder to install them in")
    for given, known in ((chosen.scenarios, SCENARIOS), (chosen.modes, MODES)):
        unknown = [word for word in given.split(",") if word not in known]
        if unknown:
            p.error(f"{unknown[0]!r} is none of: {', '.join(known)}")
    for folder in ("bourse", "tools", "work", "cache"):
        setattr(chosen, folder, getattr(chosen, folder) and getattr(chosen, folder).resolve())
    return chosen


class Bench:
    """Everything started here ends here."""

    def __init__(self, options):
        self.options, self.gateways = options, []
        self.processes = Processes(options.work)
        self.catalogue = Catalogue(options.offers, options.sellers)

    def start(self):
        """Starts all gateways; each has answered, and all have idled together, before anything is measured."""
        cpu = self.options.gateway_cpu
        mock = self.processes.spawn(self.options.load_cpu, [self.options.tools / "mock"], "mock", reads_stdout=True)
        self.mock = mock.stdout.readline().strip()
        self.ready(gateways.start_floor(self.processes, cpu, self.mock), program("nginx", "-v").rpartition("/")[2])
        for mode in self.options.modes.split(","):
            bourse = gateways.start_bourse(self.processes, cpu, self.mock, self.options.bourse, mode, self.catalogue)
            self.ready(bourse, program(self.options.bourse, "--version").rpartition(" ")[2])
            self.catalogue.check(bourse)
        for name in self.options.peers:
            peer = peers.start(name, self.options.cache, self.processes, cpu, self.mock)
            self.ready(peer, peer.version)
        before, begun = [g.cpu_ns() for g in self.gateways], time.monotonic()
        time.sleep(IDLE_S)
        for gateway, cpu_before in zip(self.gateways, before):
            gateway.idle_busy = (gateway.cpu_ns() - cpu_before) / 1e9 / (time.monotonic() - begun)
            gateway.idle_rss_mb = gateway.rss_mb()

    def ready(self, gateway, version):
        gateway.wait(self.processes)
        gateway.version = version
        self.gateways.append(gateway)
        print(f"{gateway.name:<14}{version}: first good answer after {gateway.ready_s:.2f} s", file=sys.stderr, flush=True)

    def load(self, gateway, scenario, seconds):
        asked = SCENARIOS[scenario]
        command = ["taskset", "-c", self.options.load_cpu, self.options.tools / "load", "--url", gateway.url, "--key", gateway.key,
                   "--model", gateway.model, "--concurrency", asked.clients, "--seconds", seconds, "--stream", asked.deltas]
        for line in gateway.headers:
            command += ["--header", line]
        return json.loads(subprocess.run([str(c) for c in command], stdout=subprocess.PIPE, text=True, check=True).stdout)

    def cell(self, gateway, scenario):
        """One row: a gateway under one scenario. CPU per request is none where no answer was good."""
        gateways.gap(self.mock, SCENARIOS[scenario].gap_us)
        self.load(gateway, scenario, self.options.warm)
        before, begun = gateway.cpu_ns(), time.monotonic()
        row = self.load(gateway, scenario, self.options.seconds)
        spent, wall = gateway.cpu_ns() - before, time.monotonic() - begun
        gateways.gap(self.mock, 0)
        row.update(gateway=gateway.name, scenario=scenario, cpu_us=spent / 1000 / row["ok"] if row["ok"] else None,
                   busy=spent / 1e9 / wall, rss_mb=gateway.rss_mb())
        print(f'{gateway.name:<14}{scenario:<15}{row["rps"]:>8.0f}/s  cpu {row["cpu_us"] or 0:>8.1f} us  busy {row["busy"]:.2f}'
              f'  p50 {row["latency_us"]["p50"]:>7} us  p99 {row["latency_us"]["p99"]:>7} us  errors {row["errors"]} {row["error_sample"]}',
              file=sys.stderr, flush=True)
        return row

    def run(self):
        self.start()
        for gateway in self.gateways:
            for scenario in PRIMES:
                self.load(gateway, scenario, self.options.prime)
        rows = []
        for number in range(self.options.rounds):
            turn = number * len(self.gateways) // self.options.rounds
            for scenario in self.options.scenarios.split(","):
                rows += [dict(self.cell(g, scenario), round=number) for g in self.gateways[turn:] + self.gateways[:turn]]
        self.served = {g.name: self.catalogue.served(g) for g in self.gateways if g.model == Catalogue.MODEL}
        return rows


def program(*command):
    """What it says about itself, wherever it says it."""
    said = subprocess.run([str(c) for c in command], capture_output=True, text=True)
    return (said.stdout or said.stderr).strip()


def main():
    chosen = options()
    for needed, remedy in {"nginx": "install nginx from your system's packages; it is the floor that ratios are taken to",
                           "taskset": "install util-linux"}.items():
        if not shutil.which(needed):
            sys.exit(f"{needed} is missing: {remedy}")
    bench = Bench(chosen)
    for name in chosen.peers:  # before anything runs beside it
        peers.install(name, chosen.cache)
    about = page.machine(program("rustc", "--version"))
    about["command"] = page.command(chosen)
    try:
        rows = bench.run()
    finally:
        bench.processes.close()
    lines, starts = page.figures(rows), page.starts(bench.gateways, rows)
    text = page.page(lines, starts, about, chosen, bench.catalogue, bench.served)
    print(text)
    chosen.out.mkdir(parents=True, exist_ok=True)
    stem = chosen.out / f"{time.strftime('%Y-%m-%d')}-{page.stem(chosen)}"
    stem.with_suffix(".md").write_text(text)
    whole = {"machine": about, "catalogue": dict(vars(bench.catalogue), served=bench.served), "figures": lines, "starts": starts, "rows": rows}
    stem.with_suffix(".json").write_text(json.dumps(whole, indent=1) + "\n")
    print(f"written: {stem}.md and .json", file=sys.stderr)


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("ended"))
    main()
