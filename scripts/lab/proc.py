"""Processes: started, waited for with a limit, ended by their id; their processor time and memory."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from pathlib import Path

from net import LabError

TICKS_PER_S = os.sysconf("SC_CLK_TCK")
POLL_S = 0.005
START_LIMIT_S = 60
END_LIMIT_S = 10


class Process:
    """One process with its output in two files, `LOG.out` and `LOG.err`."""

    def __init__(self, argv: list[str], log: Path, stdin=subprocess.DEVNULL, cwd: Path | None = None, env=None):
        """`env`: what is set for it on top."""
        self.out, self.err = log.with_suffix(".out"), log.with_suffix(".err")
        # What is set for casnode where the lab is started has no say in it.
        kept = {key: value for key, value in os.environ.items() if not key.startswith(("CASNODE_", "RUST_LOG"))}
        env = kept | (env or {})
        with open(self.out, "wb") as out, open(self.err, "wb") as err:
            # A session of its own: Ctrl-C is for the lab alone.
            streams = {"stdin": stdin, "stdout": out, "stderr": err}
            self.child = subprocess.Popen(argv, cwd=cwd, env=env, start_new_session=True, **streams)
        self.pid = self.child.pid
        self.name = log.name
        self.exit_code: int | None = None
        self.usage = None
        self.peak_bytes = 0
        self.resident_peak_bytes = 0

    def wait_ready(self):
        """Waits until it has printed a line, which all that the lab starts do once they can be used."""

        def has_printed():
            self.expect_running()
            return b"\n" in self.out.read_bytes()

        wait_until(has_printed, f"{self.name} starts", START_LIMIT_S, 0.02)

    def go(self):
        """Tells one that waits for a line on its standard input."""
        self.child.stdin.write(b"go\n")
        self.child.stdin.close()

    def poll(self) -> int | None:
        """Its exit code, once it has ended."""
        if self.exit_code is None:
            pid, status, usage = os.wait4(self.pid, os.WNOHANG)
            if pid:
                self.exit_code = self.child.returncode = os.waitstatus_to_exitcode(status)
                self.usage = usage
        return self.exit_code

    def cpu_s(self) -> float:
        """Processor time of all its threads so far, user and system."""
        if self.poll() is not None:
            return self.usage.ru_utime + self.usage.ru_stime
        words = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(words[11]) + int(words[12])) / TICKS_PER_S

    def sample_memory(self):
        """Anonymous memory is what it took for itself; resident memory is that, and what it has mapped of files."""
        if self.poll() is not None:
            return
        for line in Path(f"/proc/{self.pid}/status").read_text().splitlines():
            if line.startswith("RssAnon:"):
                self.peak_bytes = max(self.peak_bytes, int(line.split()[1]) * 1024)
            elif line.startswith("VmHWM:"):
                self.resident_peak_bytes = max(self.resident_peak_bytes, int(line.split()[1]) * 1024)

    def forget_peaks(self):
        """What it needed so far does not count: the kernel begins anew with its peak, too."""
        Path(f"/proc/{self.pid}/clear_refs").write_text("5")
        self.peak_bytes = self.resident_peak_bytes = 0

    def last_words(self) -> str:
        return (self.out.read_text(errors="replace") + self.err.read_text(errors="replace"))[-2000:].strip()

    def expect_running(self):
        if self.poll() is not None:
            raise LabError(f"{self.name} ended with {self.exit_code}: {self.last_words()}")

    def has_ended_well(self) -> bool:
        """Whether it has ended; raises if it failed."""
        code = self.poll()
        if code not in (None, 0):
            raise LabError(f"{self.name} ended with {code}: {self.last_words()}")
        return code == 0


def end_all(processes: list[Process]):
    """Asks all to end, and makes them when they do not."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        for process in processes:
            if process.poll() is None:
                os.kill(process.pid, number)
        ends = time.monotonic() + END_LIMIT_S
        while any(process.poll() is None for process in processes) and time.monotonic() < ends:
            time.sleep(POLL_S)


def wait_until(condition, what: str, limit_s: float, pause_s: float = 0.1):
    """Waits for `condition()`; its first true value."""
    ends = time.monotonic() + limit_s
    while not (value := condition()):
        if time.monotonic() > ends:
            raise LabError(f"{what}: not within {limit_s:.0f} s")
        time.sleep(pause_s)
    return value
