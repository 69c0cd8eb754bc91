#!/usr/bin/env python3
"""How much memory does bourse take? Ten thousand streams open at once, and a million requests one after another.

Run by `cargo xtask bench memory`, which builds the programs. Standard library only; Linux, for /proc. A stream holds two
connections, so the run needs 2 × `--streams` file descriptors and raises its own limit, which may need root.
"""
import argparse, json, re, resource, signal, subprocess, sys, time
from pathlib import Path

sys.dont_write_bytecode = True  # this folder is in the repository
import gateways, page
from gateways import Catalogue, many
from processes import Processes

ROOT = gateways.HERE.parent.parent
STREAM_KB_MAX = 40
GROWTH_MAX = 0.05
GAP_S, DELTAS = 2, 60  # streams last two minutes: longer than they are looked at
OPEN_WITHIN_S = 60
CLIENTS = 64
FILES_BESIDE = 100  # of the books, the listener, and what asks for the metrics


def options():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--bourse", type=Path, required=True, help="release build of the binary")
    p.add_argument("--tools", type=Path, required=True, help="folder of the built `mock` and `load`")
    p.add_argument("--work", type=Path, required=True, help="scratch folder")
    p.add_argument("--streams", type=int, default=10_000, help="streams that are open at once")
    p.add_argument("--requests", type=int, default=1_000_000, help="requests after the warm-up")
    p.add_argument("--warm", type=int, default=400_000, help="requests before: until every bounded memory is full")
    p.add_argument("--offers", type=int, default=1000, help="offers in bourse's catalogue")
    p.add_argument("--sellers", type=int, default=20, help="how many of them are for the measured model")
    p.add_argument("--out", type=Path, default=ROOT / "bench" / "results", help="where the page is written")
    chosen = p.parse_args()
    for folder in ("bourse", "tools", "work"):
        setattr(chosen, folder, getattr(chosen, folder).resolve())
    return chosen


def streams_allowed(wanted):
    """As many streams as file descriptors allow; the limit is raised where that may be done."""
    needed = 2 * wanted + FILES_BESIDE
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    if most < needed:
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (needed, needed))
            most = needed
        except (ValueError, OSError):
            print(f"{wanted:,} streams need {needed:,} file descriptors and {most:,} is the most here (`ulimit -Hn`)", file=sys.stderr)
    return min(wanted, (most - FILES_BESIDE) // 2)


class Run:
    def __init__(self, options):
        self.options = options
        self.processes = Processes(options.work)
        mock = self.processes.spawn("1", [options.tools / "mock"], "mock", reads_stdout=True)
        self.mock = mock.stdout.readline().strip()

    def start(self):
        """A fresh bourse with its data on disk."""
        catalogue = Catalogue(self.options.offers, self.options.sellers)
        gateway = gateways.start_bourse(self.processes, "0", self.mock, self.options.bourse, gateways.MODES[0], catalogue)
        gateway.wait(self.processes)
        catalogue.check(gateway)
        time.sleep(2)
        return gateway, catalogue

    def load(self, gateway, clients, seconds, deltas=0):
        command = [self.options.tools / "load", "--url", f"http://127.0.0.1:{gateway.port}/v1/chat/completions", "--key", gateway.key,
                   "--model", gateway.model, "--concurrency", clients, "--seconds", seconds, "--stream", deltas]
        return self.processes.spawn("1", command, "load", reads_stdout=True)

    def streams(self):
        """Memory with all streams open, above idle, for each; and what stays when they have gone."""
        gateway, catalogue = self.start()
        gateways.gap(self.mock, GAP_S * 1_000_000)
        idle = gateway.rss_mb()
        clients = self.load(gateway, self.options.streams, 1, DELTAS)
        begun = time.monotonic()
        while (opened := metric(gateway, "bourse_streams_open")) < self.options.streams:
            if time.monotonic() - begun > OPEN_WITHIN_S or clients.poll() is not None:
                sys.exit(f"{opened:,} of {self.options.streams:,} streams are open after {OPEN_WITHIN_S} s\n{self.processes.last_words('load')}")
            time.sleep(0.2)
        opened_s = time.monotonic() - begun
        time.sleep(5 * GAP_S)  # some deltas of every stream
        full, still = gateway.rss_mb(), metric(gateway, "bourse_streams_open")
        begun = time.monotonic()
        self.processes.end(clients, signal.SIGKILL)
        while metric(gateway, "bourse_streams_open") > 0:
            if time.monotonic() - begun > OPEN_WITHIN_S:
                sys.exit("streams are still open long after their buyers have gone")
            time.sleep(0.05)
        closed_s = time.monotonic() - begun
        gateways.gap(self.mock, 0)
        self.processes.end(gateway.process, signal.SIGINT, 30)
        if still != self.options.streams:
            sys.exit(f"{self.options.streams - still:,} streams ended while they were looked at")
        return {"catalogue": str(catalogue), "streams": still, "idle_mb": idle, "full_mb": full, "opened_s": opened_s,
                "closed_s": closed_s, "kb_each": (full - idle) * 1024 / still}

    def requests(self):
        """Memory over many requests: after the warm-up, and from then on every so often."""
        gateway, _ = self.start()
        series, done = [(0, gateway.rss_mb())], 0
        while done < self.options.warm + self.options.requests:
            before = done
            clients = self.load(gateway, CLIENTS, 2)
            result = json.loads(clients.communicate()[0])
            self.processes.started.remove(clients)
            if result["errors"]:
                sys.exit(f"{result['errors']} errors: {result['error_sample']}")
            done += result["ok"]
            if before < self.options.warm <= done:
                begun = len(series)
            series.append((done, gateway.rss_mb()))
        self.processes.end(gateway.process, signal.SIGINT, 30)
        after = [mb for _, mb in series[begun:]]
        # Thirds are compared, not two readings: memory moves up and down with every group and snapshot.
        third = max(1, len(after) // 3)
        first, last = (sum(part) / len(part) for part in (after[:third], after[-third:]))
        return {"series": series, "warm": series[begun][0], "done": done, "first_mb": first, "last_mb": last, "most_mb": max(after),
                "growth": last / first - 1}


def metric(gateway, name):
    found = re.search(rf"^{name} (\d+)", gateway.get("/metrics"), re.M)
    return int(found[1]) if found else 0


def text(streams, requests, about, options):
    series = requests["series"]
    shown = [series[n * (len(series) - 1) // 12] for n in range(13)] if len(series) > 13 else series
    return "\n".join([
        f"# Memory, {time.strftime('%Y-%m-%d')}: {streams['catalogue']}", "",
        f"`cargo xtask bench memory -- --streams {options.wanted} --requests {options.requests} --warm {options.warm}`. "
        "RSS of the whole process; the gateway on one core, load and mock on another.", "",
        f"Machine: {about['cpu']}, {about['cores']} cores, {about['memory_gib']} GiB, Linux {about['kernel']}; {about['rustc']}.", "",
        "## Streams", "", *([f"File descriptors allowed {options.streams:,} of {options.wanted:,} streams here, two each.", ""]
                            if options.streams < options.wanted else []), *page.table(
            ["open at once", "idle MB", "all open MB", "KB a stream", "at most", "all open after s", "all gone after s"],
            [[f"{streams['streams']:,}", f"{streams['idle_mb']:.1f}", f"{streams['full_mb']:.1f}", f"{streams['kb_each']:.1f}",
              page.verdict(streams["kb_each"], STREAM_KB_MAX), f"{streams['opened_s']:.1f}", f"{streams['closed_s']:.1f}"]]), "",
        "## Requests", "", f"{many(requests['done'], 'request')} by {CLIENTS} clients. The first and the last third after the first "
        f"{requests['warm']:,} are compared; until then bounded memories fill.", "", *page.table(
            ["first third MB", "last third MB", "growth", "at most", "most MB"],
            [[f"{requests['first_mb']:.1f}", f"{requests['last_mb']:.1f}", f"{100 * requests['growth']:+.1f} %",
              page.verdict(round(100 * requests["growth"], 1), 100 * GROWTH_MAX), f"{requests['most_mb']:.1f}"]]), "",
        *page.table(["requests", "RSS MB"], [[f"{n:,}", f"{mb:.1f}"] for n, mb in shown])]) + "\n"


def main():
    chosen = options()
    chosen.wanted, chosen.streams = chosen.streams, streams_allowed(chosen.streams)
    about = page.machine(subprocess.run(["rustc", "--version"], stdout=subprocess.PIPE, text=True).stdout.strip())
    run = Run(chosen)
    try:
        streams, requests = run.streams(), run.requests()
    finally:
        run.processes.close()
    written = text(streams, requests, about, chosen)
    print(written)
    chosen.out.mkdir(parents=True, exist_ok=True)
    stem = f"{time.strftime('%Y-%m-%d')}-memory"
    (chosen.out / f"{stem}.md").write_text(written)
    (chosen.out / f"{stem}.json").write_text(json.dumps({"about": about, "streams": streams, "requests": requests}) + "\n")


if __name__ == "__main__":
    main()
