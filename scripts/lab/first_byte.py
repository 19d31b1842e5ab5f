"""How many round trips pass before the first byte of a file is there, from a provider whose address is known.

A proxy delays every byte. What `get` takes longer over a long delay than over a short one is all round trips. They are
counted twice: from nothing, by a `get` that runs a node for itself, where the one in which TCP connects is added, since the proxy
answers that at once; and over a connection that stands, by a daemon that has fetched another file from that provider before.
"""

from __future__ import annotations

import json
import os
import re
import select
import shutil
import subprocess
import sys
import time
from pathlib import Path

from net import LabError
from proc import Process, end_all
from programs.base import PEERS

# One way; a round trip is twice that.
SHORT_S, LONG_S = 0.01, 0.21
LIMIT_S = 60


def run(binary: Path, source: Path, folder: Path) -> dict:
    folder.mkdir()
    processes: list[Process] = []
    try:
        home = folder / "provider"
        words = [binary, "--data-dir", home, "--json", "daemon", "--no-mdns", "--listen", "/ip4/127.0.0.1/tcp/0"]
        daemon = started(processes, [str(word) for word in words], folder / "daemon")
        listen = json.loads(daemon.out.read_text().splitlines()[0])["listen"][0]
        other = folder / "other"
        other.write_bytes(source.read_bytes()[::-1])
        address, other_address = (store(binary, home, path) for path in (source, other))
        waits, waits_standing = {}, {}
        for delay_s in (SHORT_S, LONG_S):
            port = re.search(r"/tcp/(\d+)", listen)[1]
            argv = [sys.executable, "-I", str(PEERS / "delay.py"), port, str(delay_s)]
            proxy = started(processes, argv, folder / f"delay-{delay_s}")
            through = listen.replace(f"/tcp/{port}", f"/tcp/{proxy.out.read_text().strip()}")
            alone = ("--no-mdns", "--listen", "/ip4/127.0.0.1/tcp/0")
            waits[delay_s] = first_byte_s(binary, address, through, folder / f"taker-{delay_s}", alone)
            asker = folder / f"asker-{delay_s}"
            words = [binary, "--data-dir", asker, "--json", "daemon", *alone]
            daemons: list[Process] = []
            try:
                started(daemons, [str(word) for word in words], folder / f"asking-{delay_s}")
                first_byte_s(binary, other_address, through, asker)
                waits_standing[delay_s] = first_byte_s(binary, address, through, asker)
            finally:
                # It would serve the next one what it has fetched.
                end_all(daemons)
        return {
            "seconds": waits[LONG_S],
            "seconds_short": waits[SHORT_S],
            "round_trips": 1 + round_trips(waits),
            "round_trips_standing": round_trips(waits_standing),
        }
    finally:
        end_all(processes)
        shutil.rmtree(folder, ignore_errors=True)


def round_trips(waits: dict[float, float]) -> float:
    return (waits[LONG_S] - waits[SHORT_S]) / (2 * (LONG_S - SHORT_S))


def store(binary: Path, home: Path, path: Path) -> str:
    stored = subprocess.run(
        [binary, "--data-dir", home, "--json", "--quiet", "store", path],
        capture_output=True,
        text=True,
        timeout=LIMIT_S,
        check=True,
    )
    return json.loads(stored.stdout)["address"]


def started(processes: list[Process], argv: list[str], log: Path) -> Process:
    process = Process(argv, log)
    processes.append(process)
    process.wait_ready()
    return process


def first_byte_s(binary: Path, address: str, peer: str, home: Path, options: tuple[str, ...] = ()) -> float:
    """Seconds from the start of a `get` to the first byte on its standard output; it is waited for to its end."""
    words = ["--data-dir", home, "--quiet", "get", address, "-o", "-", "--peer", peer, *options]
    argv = [str(word) for word in (binary, *words)]
    begun = time.monotonic()
    with subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as get:
        ready, _, _ = select.select([get.stdout], [], [], LIMIT_S)
        elapsed_s = time.monotonic() - begun
        first = os.read(get.stdout.fileno(), 1) if ready else b""
        try:
            _, errors = get.communicate(timeout=LIMIT_S)
        except subprocess.TimeoutExpired:
            get.kill()
            raise
    if not first or get.returncode != 0:
        raise LabError(f"get ended with {get.returncode}: {errors.decode(errors='replace').strip()[-500:]}")
    return elapsed_s
