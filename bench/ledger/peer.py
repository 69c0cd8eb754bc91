"""The ledger's work in TigerBeetle: hold and post pairs in batches of 8,189, one replica, on the same disk.

`cargo xtask bench ledger` runs it beside the house's own parts; `peer.py FOLDER` does it alone. No registry has
the server as a program. Its source comes in the package of a Rust client (`source/Cargo.toml` names it), the compiler that
it wants in a Python package, and the client of the same version in another; the server is compiled once into FOLDER. It
is a plain release build, without the parts of other platforms that the published program carries.

What is measured is the server: batches are bytes before the clock starts, and the client only hands them over. A batch of
holds is followed by the batch that posts them. A session has one batch in flight, so several sessions are tried too.
"""
import ctypes, json, os, shutil, struct, subprocess, sys, tempfile, threading, time
from pathlib import Path

sys.dont_write_bytecode = True  # this folder is in the repository
HERE = Path(__file__).resolve().parent
PACKAGES = ["ziglang==0.14.1", "tigerbeetle==0.16.78"]
RELEASE, COMMIT = "0.16.78", "c3d9b09dc88e94dde9ac915c6e94a4c650332080"
BATCH, BATCHES = 8_189, 48
SESSIONS = [1, 4]
CUSTOMERS, HELD, POSTED, CREDIT = 1_000, 5_000, 1_234, 10**12
TRANSFER = struct.Struct("<12QQIIIHHQ")
PENDING, POST = 2, 4
STARTS_WITHIN_S = 60


def must(*command, **more):
    try:
        return subprocess.run([str(c) for c in command], check=True, capture_output=True, text=True, **more).stdout
    except (OSError, subprocess.CalledProcessError) as error:
        sys.exit(f"TigerBeetle cannot be had: {error}\n{(getattr(error, 'stderr', '') or '').strip()[-2000:]}")


def install(home):
    """The server's program, compiled unless it is there; the folder's Python has the client."""
    program, python = home / "tigerbeetle", home / "bin" / "python"
    mark = home / "installed.json"
    if mark.exists() and json.loads(mark.read_text()) == PACKAGES:
        return program, python
    print(f"TigerBeetle: compiling {RELEASE} into {home}", file=sys.stderr, flush=True)
    shutil.rmtree(home, ignore_errors=True)
    must(sys.executable, "-m", "venv", home)
    must(home / "bin" / "pip", "install", "--quiet", *PACKAGES)
    manifest = HERE / "source" / "Cargo.toml"
    told = json.loads(must("cargo", "metadata", "--format-version=1", "--locked", "--manifest-path", manifest))
    [package] = [p for p in told["packages"] if p["name"] == "tigerbeetle-unofficial-sys"]
    source = home / "source"
    shutil.copytree(Path(package["manifest_path"]).parent / "tigerbeetle", source)
    caches = dict(os.environ, ZIG_GLOBAL_CACHE_DIR=str(home / "zig-cache"), ZIG_LOCAL_CACHE_DIR=str(home / "zig-cache"))
    must(python, "-m", "ziglang", "build", "install", "-Drelease", f"-Dconfig-release={RELEASE}",
         f"-Dconfig-release-client-min={RELEASE}", f"-Dgit-commit={COMMIT}", cwd=source, env=caches)
    shutil.move(source / "zig-out" / "bin" / "tigerbeetle", program)
    for left in ("source", "zig-cache"):
        shutil.rmtree(home / left)
    mark.write_text(json.dumps(PACKAGES))
    return program, python


def transfer(id, flags, debit=0, credit=0, amount=0, pending=0, timeout=0):
    ledger, code = (0, 0) if flags == POST else (1, 1)
    return TRANSFER.pack(id, 0, debit, 0, credit, 0, amount, 0, pending, 0, 0, 0, 0, 0, timeout, ledger, code, flags, 0)


def batches(session):
    """Holds and posts of one session, as bytes that the server reads."""
    for batch in range(BATCHES // session[1]):
        first = 1 + (session[0] * BATCHES + batch) * BATCH
        ids = range(first, first + BATCH)
        yield b"".join(transfer(2 * n, PENDING, 10 + n * 7_919 % CUSTOMERS, 2, HELD, timeout=60) for n in ids)
        yield b"".join(transfer(2 * n + 1, POST, amount=POSTED, pending=2 * n) for n in ids)


class Server:
    def __init__(self, program, folder):
        data = folder / "data.tigerbeetle"
        must(program, "format", "--cluster=0", "--replica=0", "--replica-count=1", data)
        self.log = (folder / "log").open("w+")
        # Its port is its own choice; it says it on stdout when that is a pipe.
        self.process = subprocess.Popen([program, "start", "--addresses=0", data], stdin=subprocess.PIPE,
                                        stdout=subprocess.PIPE, stderr=self.log, text=True)
        killer = threading.Timer(STARTS_WITHIN_S, self.process.kill)
        killer.start()
        self.port = self.process.stdout.readline().strip()
        killer.cancel()
        if not self.port:
            self.log.seek(0)
            sys.exit(f"TigerBeetle does not start: {self.log.read()[-2000:]}")

    def cpu_s(self):
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def stop(self):
        self.process.kill()
        self.process.wait()


def measure(port, cpu_s):
    """Runs in the folder's own Python, which has the client."""
    import tigerbeetle as tb

    class Session(tb.ClientSync):
        def _acquire_packet(self, operation, operations, event, result):
            if not isinstance(operations, bytes):
                return super()._acquire_packet(operation, operations, event, result)
            packet = super()._acquire_packet(operation, [], event, result)
            packet.packet.data = ctypes.cast(operations, ctypes.c_void_p)
            packet.packet.data_size = len(operations)
            return packet

    def open_books(client):
        flags = tb.AccountFlags
        house = [tb.Account(id=id, ledger=1, code=1) for id in (1, 2)]
        buyers = [tb.Account(id=10 + n, ledger=1, code=1, flags=flags.DEBITS_MUST_NOT_EXCEED_CREDITS) for n in range(CUSTOMERS)]
        assert client.create_accounts(house + buyers) == []
        credit = [tb.Transfer(id=2**100 + n, debit_account_id=1, credit_account_id=10 + n, amount=CREDIT, ledger=1, code=1)
                  for n in range(CUSTOMERS)]
        assert client.create_transfers(credit) == []

    sessions = int(os.environ["BENCH_SESSIONS"])
    work = [list(batches((n, sessions))) for n in range(sessions)]
    clients = [Session(cluster_id=0, replica_addresses=port) for _ in range(sessions)]
    open_books(clients[0])
    failed = []

    def run(client, batches):
        failed.extend(refusals for batch in batches if (refusals := client.create_transfers(batch)))

    threads = [threading.Thread(target=run, args=pair) for pair in zip(clients, work)]
    cpu, start = cpu_s(), time.monotonic()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    seconds, cpu = time.monotonic() - start, cpu_s() - cpu
    pairs = sum(map(len, work)) // 2 * BATCH
    [seller] = clients[0].lookup_accounts([2])
    assert not failed, failed[0][:3]
    assert (seller.credits_pending, seller.credits_posted) == (0, pairs * POSTED), seller
    return {"sessions": sessions, "pairs": pairs, "batch_pairs": BATCH, "pairs_per_s": round(pairs / seconds),
            "server_cpu_us_per_pair": round(cpu / pairs * 1e6, 2)}


def main():
    home = Path(sys.argv[1]).resolve() / "tigerbeetle"
    program, python = install(home)
    if "BENCH_SESSIONS" not in os.environ:
        for sessions in SESSIONS:
            run = subprocess.run([python, __file__, sys.argv[1]], env=dict(os.environ, BENCH_SESSIONS=str(sessions)))
            if run.returncode:
                sys.exit(run.returncode)
        return
    with tempfile.TemporaryDirectory(dir=home) as folder:
        server = Server(program, Path(folder))
        try:
            print(json.dumps(measure(server.port, server.cpu_s)), flush=True)
        finally:
            server.stop()


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: peer.py FOLDER")
    main()
