"""casnode as a command: `get` without a daemon, into an empty data directory, from providers whose addresses it is told."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

from net import Host, LabError
from proc import Process
from programs.base import EndingSession, Program, Session, Stage
from programs.casnode import QUIET

COMMAND_LIMIT_S = 600
ON_LOOPBACK = ["--listen", "/ip4/127.0.0.1/tcp/0"]


class CasnodeGet(Program):
    def __init__(self, binary: Path, *get_options: str, both: tuple[str, ...] = (), in_place: bool = False, label=""):
        """`get_options` are the taker's alone, `both` the provider's, too. `in_place`: providers refer to the source
        and hold no copy."""
        self.binary, self.get_options, self.both, self.in_place = binary, get_options, both, in_place
        self.name = " ".join([binary.name, *get_options, *both, *([label] if label else [])])

    def knows(self, command: str, option: str) -> bool:
        return option in self.told(command, "--help").split()

    def told(self, *words) -> str:
        argv = [self.binary, *words]
        return subprocess.run(argv, capture_output=True, text=True, timeout=COMMAND_LIMIT_S, check=True).stdout

    def why_not(self) -> str | None:
        options = [("get", option) for option in (*self.get_options, *self.both)]
        options += [("daemon", option) for option in self.both]
        for command, option in options:
            if option.startswith("--") and not self.knows(command, option):
                return f"this binary has no {command} {option}"
        return None

    def version(self) -> str:
        return self.told("--version").strip()

    def session(self, stage: Stage) -> Session:
        return CasnodeGetSession(stage, self)


class CasnodeGetSession(EndingSession):
    def __init__(self, stage: Stage, program: CasnodeGet):
        super().__init__(stage)
        self.program = program

    def command(self, name: str, *words) -> list[str]:
        return [str(word) for word in (self.program.binary, "--data-dir", self.stage.folder / name, "--json", *words)]

    def prepare(self):
        self.peers = []
        for index, host in enumerate(self.stage.providers):
            self.peers.append(self._start(f"provider-{index}", host))
            stored = self._store(f"provider-{index}")
        self.address = stored[0]
        if self.stage.source.is_dir():
            self.listed = self.stage.folder / "list"
            names = [path.name for path in sorted(self.stage.source.iterdir())]
            self.listed.write_text("".join(f"{address}  {name}\n" for address, name in zip(stored, names)))

    def _start(self, name: str, host: Host) -> str:
        """Starts a daemon; its address."""
        argv = host.command(*self.command(name, "daemon", *QUIET, *ON_LOOPBACK, *self.program.both))
        daemon = Process(argv, self.stage.folder / name)
        self.providers.append(daemon)
        daemon.wait_ready()
        return json.loads(daemon.out.read_text().splitlines()[0])["listen"][0]

    def _store(self, name: str) -> list[str]:
        """Gives a daemon what is to be fetched; the addresses."""
        source = self.stage.source
        how = ["--in-place"] if self.program.in_place else []
        paths = sorted(source.iterdir()) if source.is_dir() else [source]
        argv = self.command(name, "--quiet", "store", *how, *paths)
        done = subprocess.run(argv, capture_output=True, text=True, timeout=COMMAND_LIMIT_S)
        if done.returncode != 0:
            raise LabError(f"{name} could not store {source.name}: {done.stderr.strip()[-500:]}")
        return [json.loads(line)["address"] for line in done.stdout.splitlines()]

    def take(self, taker) -> list:
        what = ["--list", self.listed] if self.stage.source.is_dir() else [self.address]
        words = ["--quiet", "get", *what, "-o", self.output(taker), "--no-mdns", *ON_LOOPBACK]
        words += [word for peer in self.peers for word in ("--peer", peer)]
        words += [*self.program.get_options, *self.program.both]
        return self.command(f"taken-{taker}-store", *words)

    def facts(self) -> dict:
        [taker] = self.takers
        reports = [json.loads(line) for line in taker.out.read_text().splitlines()]
        if len(reports) != 1 or "providers" not in reports[0]:
            return {}
        return {"sources": sum(row["bytes"] > 0 for row in reports[0]["providers"])}
