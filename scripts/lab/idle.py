"""A daemon with many chunks in its store and nothing to do: its memory, and its share of a processor."""

from __future__ import annotations

import shutil
import subprocess
import time
from pathlib import Path

from net import LabError
from proc import Process, end_all

FILL_LIMIT_S = 1800
CHUNK_BYTES = 1_100
# What a start costs has passed by then.
SETTLE_S = 15
WATCH_S = 60


def run(binary: Path, store_bench: Path, chunks: int, daemon_options: tuple[str, ...], _source: Path, folder: Path) -> dict:
    folder.mkdir()
    try:
        data = folder / "data"
        command(binary, "--data-dir", data, "ls")
        store = next(path.parent for path in data.rglob("LOCK"))
        command(store_bench, "fill", store, chunks, CHUNK_BYTES)
        words = ["--data-dir", data, "--json", "daemon", "--no-mdns", "--listen", "/ip4/127.0.0.1/tcp/0", *daemon_options]
        daemon = Process([str(word) for word in (binary, *words)], folder / "daemon")
        try:
            daemon.wait_ready()
            time.sleep(SETTLE_S)
            return watch(daemon)
        finally:
            end_all([daemon])
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def command(*words):
    done = subprocess.run([str(word) for word in words], capture_output=True, text=True, timeout=FILL_LIMIT_S)
    if done.returncode != 0:
        raise LabError(f"{' '.join(map(str, words))}: {done.stderr.strip()[-500:]}")


def watch(daemon: Process) -> dict:
    daemon.forget_peaks()
    before_s, started = daemon.cpu_s(), time.monotonic()
    while (elapsed := time.monotonic() - started) < WATCH_S:
        daemon.expect_running()
        daemon.sample_memory()
        time.sleep(1)
    return {
        "seconds": elapsed,
        "anonymous_bytes": daemon.peak_bytes,
        "resident_bytes": daemon.resident_peak_bytes,
        "core_share": (daemon.cpu_s() - before_s) / elapsed,
    }
