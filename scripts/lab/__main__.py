"""The lab's command line; scripts/lab.sh is its door, and tells what it does."""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

from arguments import asked_names, find_binaries, parse_runs, parse_size
from net import LabError, set_up_namespace
from programs.aria2 import Aria2, Aria2Http
from programs.base import Program
from programs.casnode import Casnode
from programs.libtorrent import Libtorrent
from programs.tcp import Tcp
from report import file_system_of, machine, row_of, table
from scenarios import GIB, MIB, SCENARIOS, Scenario, run_once

OTHERS = {program.name: program for program in (Aria2(), Aria2Http(), Libtorrent())}
ALL = ["gather", "unequal", "spread"]
BLOCK_BYTES = MIB
# What a data directory takes before anything is in it.
RESERVE_BYTES = 64 * MIB


def parse_arguments():
    usage = "lab.sh [SCENARIO...] [OPTION...] (--help tells more)"
    parser = argparse.ArgumentParser(prog="lab.sh", usage=usage, add_help=False)
    parser.add_argument("scenarios", nargs="*", metavar="SCENARIO", default=[])
    parser.add_argument("--folder", type=Path, required=True, help=argparse.SUPPRESS)
    parser.add_argument("--binary", type=Path, action="append")
    parser.add_argument("--swarm", choices=["fair", "trusted"], default="trusted")
    parser.add_argument("--with", dest="others")
    parser.add_argument("--runs", type=parse_runs, default=3)
    parser.add_argument("--size", type=parse_size)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    names = [name for word in options.scenarios or ["all"] for name in (ALL if word == "all" else [word])]
    if unknown := [name for name in names if name not in SCENARIOS]:
        parser.error(f"no scenario {unknown[0]}; there are {', '.join(SCENARIOS)} and all")
    options.scenarios = [SCENARIOS[name] for name in dict.fromkeys(names)]
    options.binary = find_binaries(parser, options.binary)
    if unknown := [name for name in asked_names(options.others) if name not in OTHERS]:
        parser.error(f"no program {unknown[0]}; there are {', '.join(OTHERS)}")
    return options


def choose_programs(options) -> list[Program]:
    """casnode, plain TCP, and the others: those that were asked for, or all that are here."""
    others = [OTHERS[name] for name in asked_names(options.others)]
    for program in others:
        if reason := program.why_not():
            raise LabError(f"{program.name} was asked for: {reason}")
    if options.others is None:
        for program in OTHERS.values():
            reason = program.why_not()
            print(f"not measured: {program.name}: {reason}") if reason else others.append(program)
    return [Tcp(), *(Casnode(path, options.swarm) for path in options.binary), *others]


def check_space(scenario: Scenario, size_bytes: int, folder: Path):
    """All of a run fits on the disk: one copy for the providers, and up to two, store and output, for each taker."""
    hosts = len(scenario.provider_mbit) + len(scenario.taker_mbit)
    need = size_bytes * (2 + 2 * len(scenario.taker_mbit)) + RESERVE_BYTES * hosts
    free = shutil.disk_usage(folder).free
    if file_system_of(folder) == "tmpfs":
        available = re.search(r"MemAvailable:\s+(\d+)", Path("/proc/meminfo").read_text())
        free = min(free, int(available[1]) * 1024 - GIB)
    if free < need:
        where = f"{folder.parent}, where {free / GIB:.1f} GiB are free"
        raise LabError(f"{scenario.name} needs {need / GIB:.1f} GiB in {where}: --dir elsewhere, or a smaller --size")


def make_source(path: Path, size_bytes: int):
    """Bytes that nothing can compress, and the page cache has."""
    with open(path, "wb") as file:
        for _ in range(size_bytes // BLOCK_BYTES):
            file.write(os.urandom(BLOCK_BYTES))


def run_scenario(scenario: Scenario, programs: list[Program], options, keep) -> bool:
    size_bytes = options.size or scenario.size_bytes
    check_space(scenario, size_bytes, options.folder)
    print(f"\n== {scenario.name}: {scenario.what}, {size_bytes // MIB} MiB", end="")
    bound_s = scenario.bound_s(size_bytes)
    print(f"; no program can take less than {bound_s:.2f} s" if bound_s else "", flush=True)
    source = options.folder / "file.bin"
    make_source(source, size_bytes)
    runs = []
    for number in range(1, options.runs + 1):
        for program in programs:
            if not program.fits(len(scenario.taker_mbit)):
                continue
            run = {"scenario": scenario.name, "program": program.name, "run": number}
            try:
                run |= {"ok": True, **run_once(scenario, program, source, options.folder / "run")}
            except (LabError, OSError, LookupError, ValueError, subprocess.SubprocessError) as error:
                run |= {"ok": False, "why": str(error) or repr(error)}
            runs.append(run)
            keep(run)
            print(row_of(run), flush=True)
    source.unlink()
    print(f"\nmedians of {options.runs}:\n\n{table(scenario.name, runs)}", flush=True)
    return all(run["ok"] for run in runs)


def main() -> int:
    # Process 1 of the namespace: whatever it started ends with it.
    signal.signal(signal.SIGTERM, lambda *_: os._exit(143))
    options = parse_arguments()
    set_up_namespace()
    programs = choose_programs(options)
    about = machine(options.folder) | {program.name: program.version() for program in programs}
    print("\n".join(f"{key:<18} {value}" for key, value in about.items()))
    runs = []

    def keep(run):
        runs.append(run)
        if options.json:
            options.json.write_text(json.dumps({"about": about, "runs": runs}, indent=1) + "\n")

    good = [run_scenario(scenario, programs, options, keep) for scenario in options.scenarios]
    return 0 if all(good) else 1


if __name__ == "__main__":
    try:
        sys.exit(main())
    except LabError as error:
        sys.exit(f"lab.sh: {error}")
