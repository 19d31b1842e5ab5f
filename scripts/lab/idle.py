"""A daemon with many chunks in its store and nothing to do: its memory, and its share of a processor."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from pathlib import Path

from net import LabError
from proc import Process, end_all

STORE_LIMIT_S = 3600
CHUNK_BYTES = 256 * 1024
# Longer files have longer chunks.
CHUNKS_A_FILE = 200_000
LOCAL = ["--no-mdns", "--listen", "/ip4/127.0.0.1/tcp/0"]
# What a start costs has passed by then, and what it needed is given back (cli/src/memory.rs).
SETTLE_S = 60
WATCH_S = 60


def run(binary: Path, chunks: int, daemon_options: tuple[str, ...], _source: Path, folder: Path) -> dict:
    """The store is made once for all runs of a binary, beside their folders."""
    data = folder.parent / f"idle-{binary.name}"
    if not data.exists():
        fill(binary, chunks, data)
    folder.mkdir()
    words = ["--data-dir", data, "--json", "daemon", *LOCAL, *daemon_options]
    daemon = Process([str(word) for word in (binary, *words)], folder / "daemon")
    try:
        daemon.wait_ready()
        time.sleep(SETTLE_S)
        return watch(daemon)
    finally:
        end_all([daemon])
        shutil.rmtree(folder, ignore_errors=True)


def fill(binary: Path, chunks: int, data: Path):
    """Files that are holes but for a number in each chunk, so that a million chunks take 4 GiB of disk; they are stored
    where they are."""
    numbers = range(chunks)
    for start in numbers[::CHUNKS_A_FILE]:
        path = data.with_name(f"{data.name}-{start}.bin")
        mine = numbers[start : start + CHUNKS_A_FILE]
        with open(path, "wb") as file:
            file.truncate(len(mine) * CHUNK_BYTES)
            for at, number in enumerate(mine):
                os.pwrite(file.fileno(), number.to_bytes(8, "little"), at * CHUNK_BYTES)
        words = ["--data-dir", data, "--quiet", "store", "--in-place", "--chunker", "fixed", *LOCAL, path]
        argv = [str(word) for word in (binary, *words)]
        done = subprocess.run(argv, capture_output=True, text=True, timeout=STORE_LIMIT_S)
        if done.returncode != 0:
            shutil.rmtree(data, ignore_errors=True)
            raise LabError(f"{path.name} could not be stored: {done.stderr.strip()[-500:]}")


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
