"""The floor: what a plain program pays that sends bytes over TCP, hashes them once and writes them once.

`casnode bench` has one; here it takes turns with the rest.
"""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Iterator
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
    for step in steps_in([json.loads(line) for line in done.stdout.splitlines()]):
        return {"size_bytes": size_bytes, "seconds": step["seconds"], "mb_per_s": size_bytes / 1e6 / step["seconds"]}
    raise LabError(f"bench told of no step {STEP}: {done.stdout[-500:]}")


def steps_in(value) -> Iterator[dict]:
    """The floor's figures, wherever in the report they are."""
    if isinstance(value, dict):
        if value.get("step") == STEP and "seconds" in value:
            yield value
        value = list(value.values())
    if isinstance(value, list):
        for part in value:
            yield from steps_in(part)
