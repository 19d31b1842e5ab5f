"""aria2, over BitTorrent, and over HTTP from several mirrors."""

from __future__ import annotations

import shutil
import subprocess
import sys

from proc import Process
from programs.base import PEERS, Program, Session, Stage
from programs.bittorrent import BitTorrentSession

HTTP_PORT = 8080
COMMON = ["aria2c", "--no-conf", "--disable-ipv6=true", "--file-allocation=none"]
COMMON += ["--summary-interval=0", "--show-console-readout=false"]
BITTORRENT = ["--enable-dht=false", "--bt-enable-lpd=false", "--enable-peer-exchange=false"]
# As many peers as there are, met as soon as may be, and served until the end.
BITTORRENT += ["--bt-max-peers=0", "--bt-request-peer-speed-limit=0", "--bt-tracker-interval=2", "--seed-ratio=0"]
CONNECTIONS_PER_MIRROR = 4


def why_no_aria2() -> str | None:
    return None if shutil.which("aria2c") else "no aria2c here (package aria2)"


def aria2_version() -> str:
    told = subprocess.run(["aria2c", "--version"], capture_output=True, text=True, timeout=20).stdout
    return told.splitlines()[0].replace(" version", "")


class Aria2(Program):
    name = "aria2"

    def why_not(self) -> str | None:
        return why_no_aria2()

    def version(self) -> str:
        return f"{aria2_version()}, BitTorrent"

    def session(self, stage: Stage) -> Session:
        return Aria2Session(stage)


class Aria2Session(BitTorrentSession):
    ending: tuple[str, ...] = ()

    def provider(self, host, port) -> list:
        folder = self.stage.source.parent
        where = [f"--dir={folder}", f"--listen-port={port}", self.torrent]
        return [*COMMON, *BITTORRENT, "--bt-seed-unverified=true", *where]

    def begin(self):
        for index, host in enumerate(self.stage.takers):
            folder = self.output(index).parent
            folder.mkdir()
            argv = [*COMMON, *BITTORRENT, f"--on-bt-download-complete={PEERS / 'done.sh'}"]
            argv += [f"--dir={folder}", f"--listen-port={self.taker_port(index)}", *self.ending, self.torrent]
            self.takers.append(Process(host.command(*argv), self.stage.folder / f"taker-{index}", cwd=folder))


class Aria2Once(Aria2):
    """The taker ends when it has the file. Its first 2 s, whatever the size, pass before it asks anyone."""

    def session(self, stage: Stage) -> Session:
        return Aria2OnceSession(stage)


class Aria2OnceSession(Aria2Session):
    ending = ("--seed-time=0",)

    def has_finished(self, taker: int) -> bool:
        return self.takers[taker].has_ended_well()


class Aria2Http(Program):
    name = "aria2-http"

    def why_not(self) -> str | None:
        return why_no_aria2()

    def fits(self, takers: int) -> bool:
        # Takers do not serve each other over HTTP: there is no swarm to measure.
        return takers == 1

    def version(self) -> str:
        return f"{aria2_version()}, HTTP, {CONNECTIONS_PER_MIRROR} connections a mirror, from a sender with sendfile"

    def session(self, stage: Stage) -> Session:
        return Aria2HttpSession(stage)


class Aria2HttpSession(Session):
    def prepare(self):
        self.mirrors = []
        for index, host in enumerate(self.stage.providers):
            port = HTTP_PORT + index
            argv = host.command(sys.executable, "-I", PEERS / "http.py", host.address, port, self.stage.source)
            sender = Process(argv, self.stage.folder / f"provider-{index}")
            self.providers.append(sender)
            sender.wait_ready()
            self.mirrors.append(f"http://{host.address}:{port}/{self.stage.source.name}")

    def begin(self):
        [host] = self.stage.takers
        folder = self.output(0).parent
        folder.mkdir()
        split = CONNECTIONS_PER_MIRROR * len(self.mirrors)
        argv = [*COMMON, f"--max-connection-per-server={CONNECTIONS_PER_MIRROR}", f"--split={split}"]
        argv += ["--min-split-size=1M", "--piece-length=1M", f"--dir={folder}", *self.mirrors]
        self.takers.append(Process(host.command(*argv), self.stage.folder / "taker", cwd=folder))

    def has_finished(self, taker: int) -> bool:
        return self.takers[taker].has_ended_well()
