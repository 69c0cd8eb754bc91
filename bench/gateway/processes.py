"""Processes: started on one core, measured from /proc with all their children, ended together."""
import contextlib, os, re, signal, socket, subprocess
from pathlib import Path


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


def rss_mb(pids):
    """Resident memory of these processes together; a page that two of them share counts twice."""
    total = 0
    for pid in pids:
        with contextlib.suppress(OSError):
            found = re.search(r"VmRSS:\s+(\d+)", Path(f"/proc/{pid}/status").read_text())
            total += int(found[1]) if found else 0
    return total / 1024


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


class Processes:
    """What was started here, each in a process group of its own, so that nothing outlives the run."""

    def __init__(self, folder):
        self.folder, self.started = folder, []
        folder.mkdir(parents=True, exist_ok=True)

    def log(self, name):
        return self.folder / f"{name.replace(chr(32), chr(45))}.log"

    def last_words(self, name, lines=12):
        """The end of a log, for messages."""
        text = self.log(name).read_text(errors="replace").splitlines()[-lines:]
        return "\n".join([f"the end of {self.log(name)}:", *(f"  {line}" for line in text)])

    def spawn(self, cpu, command, name, env=None, reads_stdout=False):
        """Starts it on a core. Its output goes to its log; stdout to the caller where that is read."""
        with open(self.log(name), "wb") as log:
            process = subprocess.Popen(["taskset", "-c", cpu] + [str(c) for c in command], stdin=subprocess.DEVNULL,
                                       stdout=subprocess.PIPE if reads_stdout else log, stderr=log, cwd=self.folder,
                                       text=True, env=dict(os.environ, **(env or {})), preexec_fn=os.setpgrp)
        self.started.append(process)
        return process

    def end(self, process, sign=signal.SIGTERM, within_s=10):
        """Ends it and what it started; killed if it does not go."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, sign)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(within_s)
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        self.started.remove(process)

    def close(self):
        for process in reversed(list(self.started)):
            self.end(process)
