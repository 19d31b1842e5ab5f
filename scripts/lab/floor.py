"""The floor: what a plain program pays that sends bytes over TCP, hashes them once and writes them once.

`casnode bench` has one; here it takes turns with the rest.
"""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

from net import LabError

NAME = "plain TCP + BLAKE3"
STEP = "floor"
LIMIT_S = 600
GIB = 1 << 30
MIB = 1 << 20


def why_not(binary: Path) -> str | None:
    told = subprocess.run([binary, "bench", "--help"], capture_output=True, text=True, timeout=LIMIT_S)
    return None if told.returncode == 0 and STEP in told.stdout else f"{binary.name} has no `bench --only {STEP}`"


def run(binary: Path, source: Path, folder: Path) -> dict:
    """Bytes of its own, as many as the source has."""
    size_bytes = source.stat().st_size
    folder.mkdir()
    try:
        words = ["--data-dir", folder / "data", "--json", "--quiet", "bench", "--only", STEP, "--runs", 1]
        argv = [binary, *words, "--size", f"{size_bytes // MIB}MiB", "--dir", folder]
        done = subprocess.run([str(word) for word in argv], capture_output=True, text=True, timeout=LIMIT_S)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    if done.returncode != 0:
        raise LabError(f"bench ended with {done.returncode}: {done.stderr.strip()[-500:]}")
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    [row] = [row for row in rows if row.get("step") == STEP]
    return {
        "size_bytes": size_bytes,
        "seconds": row["seconds"],
        "mb_per_s": size_bytes / 1e6 / row["seconds"],
        "provider_cpu_s_per_gib": row["provider_cpu_s_per_gib"],
        "taker_cpu_s_per_gib": row["downloader_cpu_s_per_gib"],
        "cpu_s_per_gib": row["cpu_s_per_gib"],
    }
