"""What is carried: a file, many small files, a large file with holes. Nothing can compress or share their bytes."""

from __future__ import annotations

import errno
import os
import random
import subprocess
from pathlib import Path

MIB = 1 << 20
BLOCK_BYTES = MIB
SMALL_FILE_BYTES = 10 * 1024
# A stretch of random bytes, and the stretch of the file that it lies in somewhere; the rest are holes.
EXTENT_BYTES = MIB
STRIDE_BYTES = 16 * MIB
COMPARE_LIMIT_S = 600


def make_file(path: Path, size_bytes: int):
    with open(path, "wb") as file:
        for start in range(0, size_bytes, BLOCK_BYTES):
            file.write(os.urandom(min(BLOCK_BYTES, size_bytes - start)))


def make_folder(path: Path, size_bytes: int):
    """Files of 10 KiB, as many as that makes."""
    path.mkdir()
    for number in range(max(1, size_bytes // SMALL_FILE_BYTES)):
        (path / f"f{number:05}").write_bytes(os.urandom(SMALL_FILE_BYTES))


def make_sparse(path: Path, size_bytes: int):
    chooser = random.Random(16)
    with open(path, "wb") as file:
        file.truncate(size_bytes)
        for start in range(0, size_bytes - STRIDE_BYTES + 1, STRIDE_BYTES):
            file.seek(start + chooser.randrange(STRIDE_BYTES - EXTENT_BYTES))
            file.write(os.urandom(EXTENT_BYTES))


def files_of(path: Path) -> list[Path]:
    return [one for one in path.rglob("*") if one.is_file()] if path.is_dir() else [path]


def bytes_of(path: Path) -> int:
    return sum(one.stat().st_size for one in files_of(path))


def read_all(path: Path):
    """Brings it into the page cache, but for the holes of a file."""
    buffer = bytearray(BLOCK_BYTES)
    for one in files_of(path):
        with open(one, "rb", buffering=0) as file:
            end = 0
            while (start := next_data(file.fileno(), end)) is not None:
                file.seek(start)
                end = os.lseek(file.fileno(), start, os.SEEK_HOLE)
                file.seek(start)
                while file.tell() < end and file.readinto(buffer):
                    pass


def next_data(descriptor: int, start: int) -> int | None:
    """Where the next bytes are that are no hole."""
    try:
        return os.lseek(descriptor, start, os.SEEK_DATA)
    except OSError as error:
        if error.errno == errno.ENXIO:
            return None
        raise


def difference(source: Path, copy: Path) -> str | None:
    """Where the copy is not the original, byte by byte; None where it is."""
    argv = ["diff", "--recursive", "--brief"] if source.is_dir() else ["cmp"]
    done = subprocess.run([*argv, source, copy], capture_output=True, text=True, timeout=COMPARE_LIMIT_S)
    return None if done.returncode == 0 else (done.stdout + done.stderr).strip()[-500:]
