"""The command line of scripts/bench-transfer.sh, which tells what it does."""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import targets
from arguments import asked_names, find_binaries, parse_runs, parse_size
from net import LabError
from report import file_system_of, grid, machine, row_of, table
from rows import ROWS, Choice, Contender, Row
from sources import bytes_of

GIB, MIB = 1 << 30, 1 << 20
# Those of a run without names: the largest takes its time, and says nothing that is new.
USUAL = [name for name in ROWS if name != "16GiB"]
OTHERS = ["sendme", "rqbit", "libtorrent", "aria2", "nginx + curl"]
# Beside the copies of the source: indexes, logs, what a daemon keeps in reserve.
RESERVE_BYTES = GIB
IDLE_CHUNKS = 1_000_000


def parse_arguments() -> argparse.Namespace:
    usage = "bench-transfer.sh [OPTION...] (--help tells more)"
    parser = argparse.ArgumentParser(prog="bench-transfer.sh", usage=usage, add_help=False)
    parser.add_argument("--folder", type=Path, required=True, help=argparse.SUPPRESS)
    parser.add_argument("--rows", default=",".join(USUAL))
    parser.add_argument("--binary", type=Path, action="append")
    parser.add_argument("--with", dest="others")
    parser.add_argument("--runs", type=parse_runs, default=3)
    parser.add_argument("--size", type=parse_size)
    parser.add_argument("--chunks", type=int, default=IDLE_CHUNKS)
    parser.add_argument("--libtorrent-python", default=os.environ.get("LIBTORRENT_PYTHON"))
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    names = [name for word in options.rows.split(",") for name in (ROWS if word == "all" else [word])]
    if unknown := [name for name in names if name not in ROWS]:
        parser.error(f"no row {unknown[0]}; there are {', '.join(ROWS)}, and all")
    options.rows = [ROWS[name] for name in dict.fromkeys(names)]
    options.binary = find_binaries(parser, options.binary)
    asked = ["nginx + curl" if name == "nginx" else name for name in asked_names(options.others)]
    if unknown := [name for name in asked if name not in OTHERS]:
        parser.error(f"no program {unknown[0]}; there are sendme, rqbit, libtorrent, aria2 and nginx")
    options.others = None if options.others is None else asked
    return options


def check_space(row: Row, size_bytes: int, folder: Path):
    need = row.copies * size_bytes + RESERVE_BYTES
    free = shutil.disk_usage(folder).free
    if free < need:
        where = f"{folder.parent}, where {free / GIB:.1f} GiB are free"
        raise LabError(f"{row.name} needs {need / GIB:.1f} GiB in {where}: --dir elsewhere, or a smaller --size")


class Bench:
    def __init__(self, options: argparse.Namespace):
        self.options, self.runs = options, []
        self.choice = Choice(options.binary, options.libtorrent_python, options.chunks, options.others)
        self.about = machine(options.folder)

    def keep(self):
        if self.options.json:
            about = self.about | {"versions": self.choice.versions, "not_measured": self.choice.missing}
            report = {"about": about, "runs": self.runs, "targets": self.summary()}
            self.options.json.write_text(json.dumps(report, indent=1) + "\n")

    def summary(self) -> list[dict]:
        return targets.summary(self.runs, self.options.binary[0].name)

    def run_row(self, row: Row):
        size_bytes = self.options.size if self.options.size and row.takes_size else row.size_bytes
        check_space(row, size_bytes, self.options.folder)
        source = self.options.folder / "source.bin"
        row.make(source, size_bytes)
        print(f"\n== {row.name}: {row.what}, {bytes_of(source) / MIB:.0f} MiB", flush=True)
        contenders = row.contenders(self.choice)
        if not contenders:
            print("nobody can take part; the end says why", flush=True)
        try:
            for number in range(1, self.options.runs + 1):
                for contender in contenders:
                    self.run_one(row, contender, number, source)
        finally:
            shutil.rmtree(source) if source.is_dir() else source.unlink()
        mine = [run for run in self.runs if run["scenario"] == row.name]
        if contenders:
            print(f"\nmedians of {self.options.runs}:\n\n{table(row.name, mine)}", flush=True)

    def run_one(self, row: Row, contender: Contender, number: int, source: Path):
        run = {"scenario": row.name, "program": contender.name, "run": number}
        try:
            run |= {"ok": True, **contender.run(source, self.options.folder / "run")}
        except (LabError, OSError, LookupError, ValueError, subprocess.SubprocessError) as error:
            run |= {"ok": False, "why": str(error) or repr(error)}
        self.runs.append(run)
        self.keep()
        print(row_of(run), flush=True)

    def print_end(self):
        print("\n== who took part")
        for name, version in self.choice.versions.items():
            print(f"{name:<40} {version}")
        for name, reason in self.choice.missing.items():
            print(f"{name:<40} not measured: {reason}")
        keys = ["row", "target", "bound", "seen", "verdict", "beside"]
        lines = [[line[key] for key in keys] for line in self.summary()]
        print(f"\n== targets, {self.options.binary[0].name}\n\n{grid([keys, *lines])}")
        if self.options.size or self.options.chunks != IDLE_CHUNKS:
            print("\nThe sizes were not those of the rows: these targets are for other ones.")
        if failed := [run for run in self.runs if not run["ok"]]:
            print(f"\n{len(failed)} of {len(self.runs)} runs failed; no figure has them in it:")
            print("\n".join(row_of(run) for run in failed))


def leave(*_):
    """Ends what was started on its way out, whoever asks once more."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    sys.exit(143)


def main() -> int:
    signal.signal(signal.SIGTERM, leave)
    options = parse_arguments()
    bench = Bench(options)
    print("\n".join(f"{key:<18} {value}" for key, value in bench.about.items()))
    if file_system_of(options.folder) == "tmpfs":
        print("files are in memory: writes cost less than on a disk, for all alike")
    for row in options.rows:
        bench.run_row(row)
    bench.print_end()
    return 0 if all(run["ok"] for run in bench.runs) else 1


if __name__ == "__main__":
    try:
        sys.exit(main())
    except LabError as error:
        sys.exit(f"bench-transfer.sh: {error}")
