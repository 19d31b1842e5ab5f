"""A .torrent file (BitTorrent, version 1) of one file."""

from __future__ import annotations

import hashlib
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
        case dict():
            return b"d" + b"".join(bencode(key) + bencode(value[key]) for key in sorted(value)) + b"e"
    raise TypeError(f"no bencoding for {type(value)}")


def make_torrent(source: Path, target: Path, tracker: str):
    size = source.stat().st_size
    piece_bytes = SMALLEST_PIECE_BYTES
    while piece_bytes * PIECES < size:
        piece_bytes *= 2
    with open(source, "rb") as file:
        hashes = b"".join(hashlib.sha1(piece).digest() for piece in iter(lambda: file.read(piece_bytes), b""))
    info = {"length": size, "name": source.name, "piece length": piece_bytes, "pieces": hashes}
    target.write_bytes(bencode({"announce": tracker, "info": info}))
