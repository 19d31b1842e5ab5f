"""libtorrent (rasterbar) through its Python binding, with default settings."""

from __future__ import annotations

import subprocess
import sys
from functools import cached_property

from proc import Process
from programs.base import PEERS, Program, Session, Stage
from programs.bittorrent import BitTorrentSession

# The one that runs this, and the system's own, whose packages another one does not see.
PYTHONS = [sys.executable, "/usr/bin/python3"]


class Libtorrent(Program):
    name = "libtorrent"

    @cached_property
    def found(self) -> tuple[str, str] | None:
        """The Python that has it, and its version."""
        for python in PYTHONS:
            try:
                argv = [python, "-I", "-c", "import libtorrent; print(libtorrent.__version__)"]
                told = subprocess.run(argv, capture_output=True, text=True, timeout=20)
            except OSError:
                continue
            if told.returncode == 0:
                return python, told.stdout.strip()
        return None

    def why_not(self) -> str | None:
        return None if self.found else "no libtorrent for Python here (package python3-libtorrent)"

    def version(self) -> str:
        return f"libtorrent {self.found[1]}"

    def session(self, stage: Stage) -> Session:
        return LibtorrentSession(stage, self.found[0])


class LibtorrentSession(BitTorrentSession):
    def __init__(self, stage: Stage, python: str):
        super().__init__(stage)
        self.node = [python, "-I", PEERS / "libtorrent_node.py"]

    def provider(self, host, port) -> list:
        return [*self.node, "seed", self.torrent, self.stage.source.parent, f"{host.address}:{port}"]

    def prepare(self):
        super().prepare()
        for index, host in enumerate(self.stage.takers):
            folder = self.output(index).parent
            folder.mkdir()
            listen = f"{host.address}:{self.taker_port(index)}"
            argv = host.command(*self.node, "take", self.torrent, folder, listen, self.mark(index))
            taker = Process(argv, self.stage.folder / f"taker-{index}", stdin=subprocess.PIPE)
            self.takers.append(taker)
            taker.wait_ready()

    def begin(self):
        for taker in self.takers:
            taker.go()
