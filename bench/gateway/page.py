"""The page of a run: medians over the rounds, ratios to nginx within a round, limits kept or missed."""
import os, platform, re, statistics, sys, time
from pathlib import Path
from gateways import FLOOR, MODES, many
from scenarios import IDLE_RSS_MAX_MB, READY_MAX_S, SCENARIOS


def machine(rustc):
    cpu = re.search(r"model name\s*:\s*(.*)", Path("/proc/cpuinfo").read_text())
    memory = re.search(r"MemTotal:\s+(\d+)", Path("/proc/meminfo").read_text())
    return {"cpu": cpu[1] if cpu else platform.machine(), "cores": os.cpu_count(), "memory_gib": round(int(memory[1]) / 2**20, 1),
            "kernel": platform.release(), "rustc": rustc, "load_before": round(os.getloadavg()[0], 2)}


def command(options):
    """The command that repeats the run."""
    more = [f"--rounds {options.rounds} --seconds {options.seconds:g} --offers {options.offers} --sellers {options.sellers}"]
    if options.peers:
        more.append(f"--peers {','.join(options.peers)}")
    for name, default in (("scenarios", SCENARIOS), ("modes", MODES)):
        if getattr(options, name) != ",".join(default):
            more.append(f"--{name} '{getattr(options, name)}'")
    return f"cargo xtask bench gateway -- {' '.join(more)}"


def stem(options):
    """The page's name: runs that are not alike do not overwrite each other."""
    parts = ["gateway", *(["peers"] if options.peers else [])]
    if options.offers != 1000:
        parts.append(f"{options.offers}-offers")
    if options.sellers != 20:
        parts.append(f"{options.sellers}-sellers")
    return "-".join(parts)


def figures(rows):
    """One line per scenario and gateway, with the ratio to the floor and the limit it should keep."""
    lines = []
    for scenario, asked in SCENARIOS.items():
        of_scenario = [r for r in rows if r["scenario"] == scenario]
        floor = {r["round"]: r["cpu_us"] for r in of_scenario if r["gateway"] == FLOOR and r["cpu_us"]}
        if of_scenario and not floor:
            sys.exit(f"{FLOOR} gave no figures for {scenario}")
        for name in dict.fromkeys(r["gateway"] for r in of_scenario):
            lines.append(line(scenario, asked, name, [r for r in of_scenario if r["gateway"] == name], floor))
    return lines


def line(scenario, asked, name, own, floor):
    good = [r for r in own if r["cpu_us"]]
    ratios = [r["cpu_us"] / floor[r["round"]] for r in good if r["round"] in floor]
    middle = lambda pick: statistics.median(pick(r) for r in good) if good else None
    limit = asked.most_strict if name == "bourse strict" else asked.most if name == "bourse" else None
    return {
        "scenario": scenario, "gateway": name, "cpu_us": middle(lambda r: r["cpu_us"]),
        "ratio": statistics.median(ratios) if ratios else None, "ratio_min": min(ratios, default=None), "ratio_max": max(ratios, default=None),
        "limit": limit, "rps": middle(lambda r: r["rps"]), "busy": middle(lambda r: r["busy"]),
        "p50_ms": middle(lambda r: r["latency_us"]["p50"] / 1000), "p99_ms": middle(lambda r: r["latency_us"]["p99"] / 1000),
        "first_byte_ms": middle(lambda r: r["first_byte_us"]["p50"] / 1000), "answers": sum(r["ok"] for r in own),
        "errors": sum(r["errors"] for r in own), "error_sample": next((r["error_sample"] for r in own if r["error_sample"]), "")}


def starts(gateways, rows):
    """Version, start and memory of each gateway."""
    most = lambda name: max((r["rss_mb"] for r in rows if r["gateway"] == name), default=None)
    return [{"gateway": g.name, "version": g.version, "is_on": g.is_on, "ready_s": g.ready_s, "idle_rss_mb": g.idle_rss_mb, "idle_busy": g.idle_busy,
             "load_rss_mb": most(g.name)} for g in gateways]


def number(value, form):
    return "–" if value is None else format(value, form)


def verdict(value, most):
    return "–" if most is None or value is None else f"{most:g} {'kept' if value <= most else '**missed**'}"


def table(head, rows):
    return ["| " + " | ".join(head) + " |", "| " + " | ".join("---" for _ in head) + " |", *("| " + " | ".join(row) + " |" for row in rows)]


def heading(about, options, catalogue, served):
    return [
        f"# Gateway, {time.strftime('%Y-%m-%d')}: {catalogue}", "",
        f"`{about['command']}`: {many(options.rounds, 'round')} of {options.seconds:g} s a cell, gateway on one core, load and mock on another. "
        "Ratios are medians of the ratios to nginx within a round. `busy` is the share of its core that the gateway used: "
        "well below 1, requests a second and latency tell of load and mock.", "",
        f"bourse's catalogue holds {many(catalogue.offers, 'offer')}: {many(catalogue.models, 'model')}, each sold by the same "
        f"{many(catalogue.sellers, 'provider')} at prices of their own. Every seller of the measured model is eligible for every request; "
        f"the requests of this run went to at least {min(served.values()):,} of them.", "",
        f"Machine: {about['cpu']}, {about['cores']} cores, {about['memory_gib']} GiB, Linux {about['kernel']}; {about['rustc']}; "
        f"load average before the run {about['load_before']}.", ""]


def summary(lines):
    """CPU of every gateway as a multiple of nginx's; a cell with errors is marked."""
    scenarios = list(dict.fromkeys(x["scenario"] for x in lines))
    found = {(x["gateway"], x["scenario"]): x for x in lines}
    rows = []
    for name in dict.fromkeys(x["gateway"] for x in lines):
        cells = [found[name, scenario] for scenario in scenarios]
        rows.append([name, *(number(x["ratio"], ".2f" if (x["ratio"] or 0) < 10 else ".0f") + (" (errors)" if x["errors"] else "") for x in cells)])
    return ["## CPU per request, × nginx", "", *table(["gateway", *scenarios], rows), ""]


def details(lines):
    out = []
    for scenario in dict.fromkeys(x["scenario"] for x in lines):
        own = [x for x in lines if x["scenario"] == scenario]
        rows = [[x["gateway"], number(x["cpu_us"], ".1f"),
                 f"{x['ratio']:.2f} ({x['ratio_min']:.2f}–{x['ratio_max']:.2f})" if x["ratio"] else "–", verdict(x["ratio"], x["limit"]),
                 number(x["rps"], ".0f"), number(x["busy"], ".2f"), number(x["p50_ms"], ".2f"), number(x["p99_ms"], ".2f"),
                 number(x["first_byte_ms"], ".2f"), str(x["answers"]), str(x["errors"])] for x in own]
        out += [f"## {scenario}", "", *table(["gateway", "CPU µs/request", "× nginx (range)", "at most", "requests/s", "busy", "p50 ms", "p99 ms",
                                              "first byte ms", "answers", "errors"], rows), ""]
        failed = [x for x in own if x["errors"]]
        out += [f"- {x['gateway']}: {x['errors']} errors, so this is no result: `{x['error_sample']}`" for x in failed] + [""] * bool(failed)
    return out


def memory(starts):
    rows = []
    for x in starts:
        is_ours = x["gateway"].startswith("bourse")
        rows.append([x["gateway"], x["version"], x["is_on"], f"{x['ready_s']:.2f}", verdict(x["ready_s"], READY_MAX_S if is_ours else None),
                     f"{x['idle_rss_mb']:.1f}", verdict(x["idle_rss_mb"], IDLE_RSS_MAX_MB if is_ours else None), number(x["load_rss_mb"], ".1f"), f"{100 * x['idle_busy']:.2f}"])
    return ["## Versions, start and memory", "",
            "From spawn to the first good answer, bourse at the second start of a data folder with no node asked for. RSS of the whole "
            "process tree two seconds after all were ready, and the most after a cell. Idle CPU is what a gateway takes of the core in those "
            "two seconds; all stay up while one is measured.", "",
            *table(["gateway", "version", "on", "ready s", "at most", "idle RSS MB", "at most", "RSS under load MB", "idle CPU %"], rows)]


def page(lines, starts, about, options, catalogue, served):
    return "\n".join(heading(about, options, catalogue, served) + summary(lines) + details(lines) + memory(starts)) + "\n"
