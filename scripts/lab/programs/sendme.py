"""sendme: a file or a folder over QUIC connections of iroh, without a relay."""

from __future__ import annotations

import re
import shutil
import subprocess

from net import free_port
from proc import Process, wait_until
from programs.base import EndingSession, Program, Session, Stage

IMPORT_LIMIT_S = 600
TICKET = re.compile(r"sendme receive (\S+)")
QUIET = ["--relay", "disabled", "--no-progress"]


class Sendme(Program):
    name = "sendme"

    def why_not(self) -> str | None:
        return None if shutil.which("sendme") else "no sendme here (cargo install sendme)"

    def version(self) -> str:
        return subprocess.run(["sendme", "--version"], capture_output=True, text=True, timeout=20).stdout.strip()

    def session(self, stage: Stage) -> Session:
        return SendmeSession(stage)


class SendmeSession(EndingSession):
    def prepare(self):
        [host] = self.stage.providers
        where = self.stage.folder / "provider"
        where.mkdir()
        address = f"{host.address}:{free_port(host.address)}"
        argv = ["sendme", "send", *QUIET, "--ticket-type", "addresses", "--magic-ipv4-addr", address, self.stage.source]
        provider = Process(host.command(*argv), self.stage.folder / "provider-0", cwd=where)
        self.providers.append(provider)

        def ticket():
            provider.expect_running()
            return TICKET.search(provider.out.read_text(errors="replace"))

        self.ticket = wait_until(ticket, "sendme takes the files in", IMPORT_LIMIT_S)[1]

    def take(self, taker) -> list:
        return ["sendme", "receive", *QUIET, self.ticket]
