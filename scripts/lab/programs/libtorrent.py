"""libtorrent (rasterbar) through its Python binding, with default settings."""

from __future__ import annotations

import subprocess
import sys
from functools import cached_property

from net import free_port
from proc import Process
from programs.base import PEERS, Program, Session, Stage
from programs.bittorrent import BitTorrentSession, DirectSession

# The one that runs this, and the system's own, whose packages another one does not see.
PYTHONS = [sys.executable, "/usr/bin/python3"]


class Libtorrent(Program):
    name = "libtorrent"

    def __init__(self, python: str | None = None):
        """`python`: the one to ask first."""
        self.pythons = [python, *PYTHONS] if python else PYTHONS

    @cached_property
    def found(self) -> tuple[str, str] | None:
        """The Python that has it, and its version."""
        for python in self.pythons:
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


class LibtorrentOnce(Libtorrent):
    """The taker's clock begins with its process, and ends with it."""

    def session(self, stage: Stage) -> Session:
        return LibtorrentOnceSession(stage, self.found[0])


class LibtorrentOnceSession(DirectSession):
    def __init__(self, stage: Stage, python: str):
        super().__init__(stage)
        self.node = [python, "-I", PEERS / "libtorrent_node.py"]

    def provide(self, host, port) -> list:
        return [*self.node, "seed", self.torrent, self.stage.source.parent, f"{host.address}:{port}"]

    def take(self, taker) -> list:
        host = self.stage.takers[taker]
        listen = f"{host.address}:{free_port(host.address)}"
        return [*self.node, "fetch", self.torrent, self.output(taker).parent, listen, *self.peers]
