"""One transfer by one program on the loopback device: from the start of the taker to its end."""

from __future__ import annotations

import os
import shutil
import time
from pathlib import Path

import sources
from net import LabError, Loopback
from proc import POLL_S, Process
from programs.base import Program, Session, Stage

GIB = 1 << 30
MEMORY_EVERY_S = 0.02
# How long a run may take: at this speed, and this on top.
SLOWEST_BYTES_PER_S = 10e6
LIMIT_MORE_S = 120


def transfer(program: Program, providers: int, source: Path, folder: Path) -> dict:
    """Its figures. Whatever happens, its processes and files are gone afterwards."""
    folder.mkdir()
    network = Loopback(providers + 1)
    stage = Stage(network.hosts[:providers], network.hosts[providers:], network.middle, source, folder)
    session = program.session(stage)
    try:
        try:
            session.prepare()
            settle(stage)
            figures = measure(session, sources.bytes_of(source))
        finally:
            session.close()
        if wrong := sources.difference(source, session.output(0)):
            raise LabError(f"the copy is not the original: {wrong}")
        return figures
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def settle(stage: Stage):
    """Nothing is left to write of what came before, and all that can be asked for is in the page cache: the source, and
    what providers have made of it."""
    os.sync()
    sources.read_all(stage.source)
    sources.read_all(stage.folder)


def measure(session: Session, size_bytes: int) -> dict:
    load = os.getloadavg()[0]
    for process in session.providers:
        process.forget_peaks()
    before_s = {process.pid: process.cpu_s() for process in session.providers}
    started = time.monotonic()
    session.begin()
    seconds = wait_for_taker(session, started, LIMIT_MORE_S + size_bytes / SLOWEST_BYTES_PER_S)
    # The providers' processor time is read before anything else happens.
    provider_cpu_s = sum(process.cpu_s() - before_s[process.pid] for process in session.providers)
    taker_cpu_s = sum(process.cpu_s() for process in session.takers)
    gib = size_bytes / GIB
    return {
        "size_bytes": size_bytes,
        "seconds": seconds,
        "mb_per_s": size_bytes / 1e6 / seconds,
        "provider_cpu_s_per_gib": provider_cpu_s / gib,
        "taker_cpu_s_per_gib": taker_cpu_s / gib,
        "cpu_s_per_gib": (provider_cpu_s + taker_cpu_s) / gib,
        **peaks("provider", session.providers),
        **peaks("taker", session.takers),
        "load_before": load,
        **session.facts(),
    }


def peaks(side: str, processes: list[Process]) -> dict:
    """The most that any process of a side had."""
    return {
        f"{side}_peak_bytes": max(process.peak_bytes for process in processes),
        f"{side}_resident_peak_bytes": max(process.resident_peak_bytes for process in processes),
    }


def wait_for_taker(session: Session, started: float, limit_s: float) -> float:
    """Seconds from the start until it had it all."""
    sample_at = started
    while not session.has_finished(0):
        now = time.monotonic()
        if now >= sample_at:
            sample_at = now + MEMORY_EVERY_S
            for process in session.providers + session.takers:
                process.sample_memory()
        if now - started > limit_s:
            raise LabError(f"it had not finished after {limit_s:.0f} s")
        time.sleep(POLL_S)
    seconds = time.monotonic() - started
    for process in session.providers:
        process.sample_memory()
    return seconds
