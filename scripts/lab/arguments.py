"""What the command lines of the lab have in common."""

from __future__ import annotations

import argparse
import os
import re
from pathlib import Path

MIB, GIB = 1 << 20, 1 << 30
ROOT = Path(__file__).resolve().parent.parent.parent


def parse_size(text: str) -> int:
    found = re.fullmatch(r"(\d+)\s*(MiB|GiB)", text)
    if not found or int(found[1]) == 0:
        raise argparse.ArgumentTypeError("a size is written like 256MiB or 1GiB")
    return int(found[1]) * (MIB if found[2] == "MiB" else GIB)


def parse_runs(text: str) -> int:
    if not text.isdecimal() or not 1 <= int(text) <= 100:
        raise argparse.ArgumentTypeError("runs are 1 to 100")
    return int(text)


def find_binaries(parser: argparse.ArgumentParser, asked: list[Path] | None) -> list[Path]:
    """The binaries that are measured; a usage error if one is not there."""
    binaries = [path.resolve() for path in asked or [ROOT / "target/release/casnode"]]
    for path in binaries:
        if not os.access(path, os.X_OK):
            parser.error(f"no binary {path} (cargo build --release, or --binary PATH)")
    if len({path.name for path in binaries}) < len(binaries):
        parser.error("binaries are told apart by their file names: give them different ones")
    return binaries


def asked_names(text: str | None) -> list[str]:
    return [] if text in (None, "none") else text.split(",")
