"""rqbit, over BitTorrent, with its own defaults but for finding peers: the taker is told of the provider."""

from __future__ import annotations

import shutil
import subprocess

from net import free_port
from proc import Process, wait_until
from programs.base import Program, Session, Stage
from programs.bittorrent import DirectSession

CHECK_LIMIT_S = 300
QUIET = ["--disable-dht", "--disable-lsd", "--disable-upnp-port-forward", "--disable-trackers", "--ipv4-only"]
# What it prints once its check of the files has found them all.
HAS_ALL = ("needed 0", "100.00%")


class Rqbit(Program):
    name = "rqbit"

    def why_not(self) -> str | None:
        return None if shutil.which("rqbit") else "no rqbit here (cargo install rqbit)"

    def version(self) -> str:
        return subprocess.run(["rqbit", "--version"], capture_output=True, text=True, timeout=20).stdout.strip()

    def session(self, stage: Stage) -> Session:
        return RqbitSession(stage)


class RqbitSession(DirectSession):
    def __init__(self, stage: Stage):
        super().__init__(stage)
        self.env = {"HOME": str(stage.folder)}

    def _command(self, host, port) -> list:
        return ["rqbit", "-v", "info", *QUIET, "--listen-ip", host.address, "--listen-port", port, "download"]

    def provide(self, host, port) -> list:
        # The files of a folder go into one of its name.
        more = ["--disable-http-api", "--overwrite", "-o", self.stage.source.parent, self.torrent]
        return [*self._command(host, port), *more]

    def wait_for_provider(self, provider: Process):
        def has_all():
            provider.expect_running()
            text = provider.out.read_text(errors="replace") + provider.err.read_text(errors="replace")
            return any(words in text for words in HAS_ALL)

        wait_until(has_all, "rqbit checks the files", CHECK_LIMIT_S)

    def take(self, taker) -> list:
        host = self.stage.takers[taker]
        folder = self.output(taker).parent
        more = ["--disable-http-api", "-e", "-o", folder, "--initial-peers", ",".join(self.peers), self.torrent]
        return [*self._command(host, free_port(host.address)), *more]
