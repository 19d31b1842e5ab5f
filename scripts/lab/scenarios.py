"""Who has the file, who wants it, over which lines; and one run of one program in it."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

from net import LabError, Loopback, Meter, Network
from proc import POLL_S
from programs.base import Program, Session, Stage

GIB = 1 << 30
MIB = 1 << 20
# How long a run may take: so many times the shortest time that is possible, and this on top.
LIMIT_FACTOR = 15
LIMIT_MORE_S = 60
MEMORY_EVERY_S = 0.1
COMPARE_LIMIT_S = 300


@dataclass(frozen=True)
class Scenario:
    name: str
    what: str
    provider_mbit: tuple[int | None, ...]  # what each may send; None: not limited
    taker_mbit: tuple[int | None, ...]
    size_bytes: int
    is_loopback: bool = False

    def bound_s(self, size_bytes: int) -> float | None:
        """No program can be faster: what the providers send, and all that everybody sends for what everybody needs."""
        if self.is_loopback:
            return None
        providers = sum(self.provider_mbit) * 1e6 / 8
        takers = sum(rate or 0 for rate in self.taker_mbit) * 1e6 / 8
        return max(size_bytes / providers, len(self.taker_mbit) * size_bytes / (providers + takers))

    def network(self):
        if self.is_loopback:
            return Loopback(len(self.provider_mbit) + len(self.taker_mbit))
        return Network([*self.provider_mbit, *self.taker_mbit])


EIGHT_MBIT = tuple(range(50, 401, 50))
SCENARIOS = {
    scenario.name: scenario
    for scenario in (
        Scenario("gather", "4 providers of 200 Mbit/s -> 1 downloader", (200,) * 4, (None,), GIB),
        Scenario("unequal", "8 providers of 50, 100 ... 400 Mbit/s -> 1 downloader", EIGHT_MBIT, (None,), GIB),
        Scenario("spread", "1 seed -> 8 downloaders, each sends 200 Mbit/s", (200,), (200,) * 8, 256 * MIB),
        Scenario("loopback", "1 provider -> 1 downloader on 127.0.0.1", (None,), (None,), GIB, is_loopback=True),
    )
}


def run_once(scenario: Scenario, program: Program, source: Path, folder: Path) -> dict:
    """One run; its figures. Whatever happens, its processes, namespaces and files are gone afterwards."""
    folder.mkdir()
    try:
        with scenario.network() as network:
            split = len(scenario.provider_mbit)
            stage = Stage(network.hosts[:split], network.hosts[split:], network.middle, source, folder)
            session = program.session(stage)
            try:
                session.prepare()
                figures = measure(session, scenario, Meter(network.hosts))
            finally:
                session.close()
            compare(session, source)
            return figures
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def measure(session: Session, scenario: Scenario, meter: Meter) -> dict:
    size_bytes = session.stage.source.stat().st_size
    bound_s = scenario.bound_s(size_bytes)
    load = os.getloadavg()[0]
    cpu_before = {process.pid: process.cpu_s() for process in session.providers + session.takers}
    started = time.monotonic()
    session.begin()
    seconds = wait_for_takers(session, started, LIMIT_FACTOR * (bound_s or size_bytes / 100e6) + LIMIT_MORE_S)
    cpu = [
        sum(process.cpu_s() - cpu_before.get(process.pid, 0.0) for process in side)
        for side in (session.providers, session.takers)
    ]
    sent = meter.since(max(seconds))
    delivered = size_bytes * len(seconds)
    facts = session.facts()
    figures = {
        "size_bytes": size_bytes,
        "seconds": max(seconds),
        "taker_seconds": seconds,
        "bound_s": bound_s,
        "mb_per_s": delivered / 1e6 / max(seconds),
        "provider_cpu_s": cpu[0],
        "taker_cpu_s": cpu[1],
        "cpu_s_per_gib": sum(cpu) / (delivered / GIB),
        "provider_peak_bytes": max(process.peak_bytes for process in session.providers),
        "taker_peak_bytes": max(process.peak_bytes for process in session.takers),
        "load_before": load,
        "sent": sent,
        **facts,
    }
    if bound_s:
        providers_sent = sum(row["sent_bytes"] for row in sent[: len(scenario.provider_mbit)])
        figures |= {
            "efficiency": bound_s / max(seconds),
            "over_bound": max(seconds) / bound_s,
            "copies_by_providers": providers_sent / size_bytes,
            "sent_per_delivered": sum(row["sent_bytes"] for row in sent) / delivered,
        }
    if "duplicate_bytes" in facts:
        figures["duplicate_share"] = facts["duplicate_bytes"] / delivered
    return figures


def wait_for_takers(session: Session, started: float, limit_s: float) -> list[float]:
    """Seconds from the start until each taker had it all."""
    waiting = dict.fromkeys(range(len(session.stage.takers)))
    seconds = [0.0] * len(waiting)
    sample_at = started
    while waiting:
        now = time.monotonic()
        for taker in list(waiting):
            if session.has_finished(taker):
                seconds[taker] = now - started
                del waiting[taker]
        if now >= sample_at:
            sample_at = now + MEMORY_EVERY_S
            for process in session.providers + session.takers:
                process.sample_memory()
        if now - started > limit_s:
            raise LabError(f"{len(waiting)} of {len(seconds)} had not finished after {limit_s:.0f} s")
        time.sleep(POLL_S)
    return seconds


def compare(session: Session, source: Path):
    """Every copy is the original, byte by byte."""
    for taker in range(len(session.stage.takers)):
        copy = session.output(taker)
        if copy is None:
            continue
        done = subprocess.run(["cmp", source, copy], capture_output=True, text=True, timeout=COMPARE_LIMIT_S)
        if done.returncode != 0:
            raise LabError(f"taker {taker} has wrong bytes: {(done.stdout + done.stderr).strip()}")
