"""What BitTorrent programs have in common: a torrent, and a tracker in the middle with a mark when a taker is done, or
a taker that is told of the provider and ends when it is done."""

from __future__ import annotations

import sys
from pathlib import Path

from net import Host, free_port
from proc import Process, wait_until
from programs.base import PEERS, EndingSession, Session
from torrent import make_torrent

TRACKER_PORT = 6969
FIRST_PEER_PORT = 6881
ANNOUNCE_LIMIT_S = 60


class BitTorrentSession(Session):
    def prepare(self):
        middle = self.stage.middle.address
        self.torrent = self.stage.folder / "file.torrent"
        make_torrent(self.stage.source, self.torrent, f"http://{middle}:{TRACKER_PORT}/announce")
        argv = self.stage.middle.command(sys.executable, "-I", PEERS / "tracker.py", middle, TRACKER_PORT)
        self.tracker = Process(argv, self.stage.folder / "tracker")
        self.others.append(self.tracker)
        self.tracker.wait_ready()
        for index, host in enumerate(self.stage.providers):
            argv = self.provider(host, FIRST_PEER_PORT + index)
            self.providers.append(Process(host.command(*argv), self.stage.folder / f"provider-{index}"))
        wait_until(self._providers_announced, "all providers are at the tracker", ANNOUNCE_LIMIT_S)

    def provider(self, host: Host, port: int) -> list:
        """The command line that serves the file."""
        raise NotImplementedError

    def taker_port(self, index: int) -> int:
        return FIRST_PEER_PORT + len(self.stage.providers) + index

    def mark(self, taker: int) -> Path:
        """Is there once the taker has the whole file."""
        target = self.output(taker)
        return target.with_name(target.name + ".done")

    def has_finished(self, taker: int) -> bool:
        if self.mark(taker).exists():
            return True
        self.takers[taker].expect_running()
        return False

    def _providers_announced(self) -> bool:
        for process in self.providers:
            process.expect_running()
        lines = self.tracker.out.read_text().splitlines()[1:]
        return len({line.split()[0] for line in lines}) >= len(self.providers)


class DirectSession(EndingSession):
    """No tracker: the taker is told where the providers are."""

    def prepare(self):
        self.torrent = self.stage.folder / "file.torrent"
        make_torrent(self.stage.source, self.torrent)
        self.peers = []
        for index, host in enumerate(self.stage.providers):
            port = free_port(host.address)
            log = self.stage.folder / f"provider-{index}"
            self.providers.append(Process(host.command(*self.provide(host, port)), log, env=self.env))
            self.peers.append(f"{host.address}:{port}")
        for provider in self.providers:
            self.wait_for_provider(provider)

    def provide(self, host: Host, port: int) -> list:
        """The command line that serves the file."""
        raise NotImplementedError

    def wait_for_provider(self, provider: Process):
        provider.wait_ready()
