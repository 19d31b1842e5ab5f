"""Plain TCP: each provider sends its share of the bytes, all at once. What the lines carry, and no more than that."""

from __future__ import annotations

import platform
import subprocess
import sys
from pathlib import Path

from proc import Process
from programs.base import PEERS, Program, Session, Stage

PORT = 5001


class Tcp(Program):
    name = "tcp"

    def fits(self, takers: int) -> bool:
        return takers == 1

    def version(self) -> str:
        return f"Linux {platform.release()}"

    def session(self, stage: Stage) -> Session:
        return TcpSession(stage)


class TcpSession(Session):
    def prepare(self):
        size = self.stage.source.stat().st_size
        rates = [host.rate_mbit or 1 for host in self.stage.providers]
        ends = [size * sum(rates[: i + 1]) // sum(rates) for i in range(len(rates))]
        sources = []
        for index, (host, start, end) in enumerate(zip(self.stage.providers, [0, *ends], ends)):
            port = PORT + index
            argv = host.command(sys.executable, "-I", PEERS / "tcp.py", "send", host.address, port, end - start)
            sender = Process(argv, self.stage.folder / f"provider-{index}")
            self.providers.append(sender)
            sender.wait_ready()
            sources.append(f"{host.address}:{port}")
        [host] = self.stage.takers
        argv = host.command(sys.executable, "-I", PEERS / "tcp.py", "receive", size, *sources)
        self.takers.append(Process(argv, self.stage.folder / "taker", stdin=subprocess.PIPE))
        self.takers[0].wait_ready()

    def begin(self):
        self.takers[0].go()

    def has_finished(self, taker: int) -> bool:
        return self.takers[taker].has_ended_well()

    def output(self, taker: int) -> Path | None:
        return None
