"""casnode: a daemon on every host, `casnode get` on those that want the file."""

from __future__ import annotations

import json
import subprocess
from functools import cached_property
from pathlib import Path

from net import LabError
from proc import Process, wait_until
from programs.base import Program, Session, Stage

COMMAND_LIMIT_S = 120
CONNECT_LIMIT_S = 60
ANNOUNCE_LIMIT_S = 180
# The check of stored bytes in the background has nothing to do with what is measured.
QUIET = ["--no-mdns", "--scrub-rate", "off"]


class Casnode(Program):
    def __init__(self, binary: Path, swarm: str):
        self.binary, self.swarm, self.name = binary, swarm, binary.name

    def version(self) -> str:
        return self._told("--version").strip()

    @cached_property
    def daemon_options(self) -> list[str]:
        return ["--swarm", self.swarm] if "--swarm" in self._told("daemon", "--help") else []

    def _told(self, *words) -> str:
        argv = [self.binary, *words]
        return subprocess.run(argv, capture_output=True, text=True, timeout=COMMAND_LIMIT_S, check=True).stdout

    def session(self, stage: Stage) -> Session:
        return CasnodeSession(stage, self)


class CasnodeSession(Session):
    def __init__(self, stage: Stage, program: Casnode):
        super().__init__(stage)
        self.program = program
        self.gets: list[Process] = []

    def prepare(self):
        first = None
        for index, host in enumerate(self.stage.providers):
            self.providers.append(self._daemon(f"provider-{index}", host, first))
            first = first or self._address_of(self.providers[0])
        for index, host in enumerate(self.stage.takers):
            self.takers.append(self._daemon(f"taker-{index}", host, first))
        for daemon in self.providers[1:] + self.takers:
            wait_until(lambda: self._ask(daemon.name, "peers"), f"{daemon.name} connects", CONNECT_LIMIT_S)
        self.address = self._store()

    def _data_dir(self, name: str) -> Path:
        return self.stage.folder / name

    def _command(self, name: str, *words) -> list[str]:
        return [str(word) for word in (self.program.binary, "--data-dir", self._data_dir(name), "--json", *words)]

    def _daemon(self, name, host, bootstrap) -> Process:
        words = ["daemon", *QUIET, "--profile", "lab", *self.program.daemon_options]
        words += ["--listen", f"/ip4/{host.address}/tcp/0"]
        if bootstrap:
            words += ["--bootstrap", bootstrap]
        return Process(host.command(*self._command(name, *words)), self.stage.folder / name)

    def _address_of(self, daemon: Process) -> str:
        daemon.wait_ready()
        return json.loads(daemon.out.read_text().splitlines()[0])["listen"][0]

    def _ask(self, name, *words) -> list[dict]:
        """JSON lines of a command to a daemon; none while it is not there yet."""
        done = subprocess.run(self._command(name, *words), capture_output=True, text=True, timeout=COMMAND_LIMIT_S)
        return [json.loads(line) for line in done.stdout.splitlines()] if done.returncode == 0 else []

    def _store(self) -> str:
        """Every provider has the file and has told the network so; the file's address."""
        # One provider has a copy of its own. Several would need as much memory as they are: they share the file.
        how = ["--in-place"] if len(self.providers) > 1 else []
        addresses = set()
        for daemon in self.providers:
            stored = self._ask(daemon.name, "store", *how, self.stage.source)
            if not stored:
                raise LabError(f"{daemon.name} could not store the file: {daemon.last_words()}")
            addresses.add(stored[0]["address"])
        for daemon in self.providers:
            wait_until(lambda: self._has_announced(daemon.name), f"{daemon.name} announces", ANNOUNCE_LIMIT_S)
        [address] = addresses
        return address

    def _has_announced(self, name) -> bool:
        [status] = self._ask(name, "status") or [{}]
        return status.get("to_announce") == 0 and status.get("announced", 0) > 0

    def begin(self):
        for index, daemon in enumerate(self.takers.copy()):
            target = self.output(index)
            target.parent.mkdir()
            words = ["--quiet", "get", self.address, "-o", target]
            self.gets.append(Process(self._command(daemon.name, *words), self.stage.folder / f"get-{index}"))
        self.takers += self.gets

    def has_finished(self, taker: int) -> bool:
        return self.gets[taker].has_ended_well()

    def facts(self) -> dict:
        reports = [json.loads(get.out.read_text().splitlines()[0]) for get in self.gets]
        return {
            "duplicate_bytes": sum(report["duplicate_bytes"] for report in reports),
            "rejected_chunks": sum(report["rejected_chunks"] for report in reports),
            "sources": [len(report["providers"]) for report in reports],
        }
