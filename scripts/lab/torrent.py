"""A .torrent file (BitTorrent, version 1) of one file, or of the files of one folder."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path

PIECES = 1024
SMALLEST_PIECE_BYTES = 64 * 1024


def bencode(value) -> bytes:
    match value:
        case int():
            return b"i%de" % value
        case str():
            return bencode(value.encode())
        case bytes():
            return b"%d:%s" % (len(value), value)
        case list():
            return b"l" + b"".join(map(bencode, value)) + b"e"
        case dict():
            return b"d" + b"".join(bencode(key) + bencode(value[key]) for key in sorted(value)) + b"e"
    raise TypeError(f"no bencoding for {type(value)}")


def pieces_of(paths: list[Path], piece_bytes: int) -> Iterator[bytes]:
    """Pieces go over the ends of files."""
    rest = b""
    for path in paths:
        with open(path, "rb") as file:
            while more := file.read(piece_bytes - len(rest)):
                rest += more
                if len(rest) == piece_bytes:
                    yield rest
                    rest = b""
    if rest:
        yield rest


def make_torrent(source: Path, target: Path, tracker: str | None = None):
    paths = sorted(source.iterdir()) if source.is_dir() else [source]
    sizes = [path.stat().st_size for path in paths]
    piece_bytes = SMALLEST_PIECE_BYTES
    while piece_bytes * PIECES < sum(sizes):
        piece_bytes *= 2
    hashes = b"".join(hashlib.sha1(piece).digest() for piece in pieces_of(paths, piece_bytes))
    info = {"name": source.name, "piece length": piece_bytes, "pieces": hashes}
    if source.is_dir():
        info["files"] = [{"length": size, "path": [path.name]} for path, size in zip(paths, sizes)]
    else:
        info["length"] = sizes[0]
    target.write_bytes(bencode({"info": info} | ({"announce": tracker} if tracker else {})))
