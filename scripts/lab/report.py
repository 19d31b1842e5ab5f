"""What is printed: the machine, a line a run, a table of medians."""

from __future__ import annotations

import os
import platform
import re
import statistics
import subprocess
from pathlib import Path

MIB = 1 << 20

# Heading, how it is read from a run (None where it means nothing), how it is written.
TIME = ("s", lambda run: run["seconds"], "{:.2f}")
EFFICIENCY = ("of the lines", lambda run: run["efficiency"], "{:.3f}")
OVER_BOUND = ("over the bound", lambda run: run["over_bound"], "{:.3f}")
RATE = ("MB/s", lambda run: run["mb_per_s"], "{:.0f}")
COPIES = ("copies sent by the seed", lambda run: run["copies_by_providers"], "{:.3f}")
SENT = ("sent per delivered", lambda run: run["sent_per_delivered"], "{:.3f}")
DUPLICATES = ("duplicate bytes", lambda run: run.get("duplicate_share"), "{:.2%}")
CPU_PROVIDERS = ("CPU s providing", lambda run: run["provider_cpu_s"], "{:.2f}")
CPU_TAKERS = ("CPU s fetching", lambda run: run["taker_cpu_s"], "{:.2f}")
CPU = ("CPU s/GiB, both", lambda run: run["cpu_s_per_gib"], "{:.2f}")
PEAK_PROVIDER = ("peak MiB providing", lambda run: run["provider_peak_bytes"] / MIB, "{:.0f}")
PEAK_TAKER = ("peak MiB fetching", lambda run: run["taker_peak_bytes"] / MIB, "{:.0f}")
ONE_TAKER = (TIME, EFFICIENCY, SENT, DUPLICATES, CPU, PEAK_PROVIDER, PEAK_TAKER)
COLUMNS = {
    "gather": ONE_TAKER,
    "unequal": ONE_TAKER,
    "spread": (TIME, OVER_BOUND, COPIES, SENT, DUPLICATES, CPU, PEAK_PROVIDER, PEAK_TAKER),
    "loopback": (TIME, RATE, CPU_PROVIDERS, CPU_TAKERS, CPU, DUPLICATES, PEAK_PROVIDER, PEAK_TAKER),
}


def column(heading: str, figure: str, form: str = "{:.2f}", scale: float = 1):
    """One of a figure that not every program has."""
    return heading, lambda run: run[figure] / scale if figure in run else None, form


TRANSFER = (
    TIME,
    column("MB/s", "mb_per_s", "{:.0f}"),
    column("CPU s/GiB providing", "provider_cpu_s_per_gib"),
    column("fetching", "taker_cpu_s_per_gib"),
    column("both", "cpu_s_per_gib"),
    column("peak MiB providing", "provider_peak_bytes", "{:.0f}", MIB),
    column("fetching", "taker_peak_bytes", "{:.0f}", MIB),
    column("resident MiB providing", "provider_resident_peak_bytes", "{:.0f}", MIB),
    column("fetching", "taker_resident_peak_bytes", "{:.0f}", MIB),
)
COLUMNS["idle"] = (
    column("resident MiB", "resident_bytes", "{:.1f}", MIB),
    column("anonymous MiB", "anonymous_bytes", "{:.1f}", MIB),
    column("of a core", "core_share", "{:.3%}"),
)
COLUMNS["first-byte"] = (
    TIME,
    column("s with the short delay", "seconds_short"),
    column("round trips from nothing", "round_trips"),
    column("over a connection that stands", "round_trips_standing"),
)


def file_system_of(folder: Path) -> str:
    argv = ["stat", "--file-system", "--format=%T", str(folder)]
    return subprocess.run(argv, capture_output=True, text=True, timeout=20).stdout.strip()


def machine(folder: Path) -> dict:
    """What the figures depend on."""
    models = re.findall(r"^model name\s*: (.*)", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    memory_kib = int(Path("/proc/meminfo").read_text().split()[1])
    return {
        "processors": f"{os.cpu_count()} x {models[0] if models else platform.machine()}",
        "memory": f"{memory_kib / (1 << 20):.0f} GiB",
        "kernel": platform.release(),
        "congestion control": Path("/proc/sys/net/ipv4/tcp_congestion_control").read_text().strip(),
        "files": f"{folder.parent} ({file_system_of(folder)})",
        "load": f"{os.getloadavg()[0]:.2f} before the first run",
    }


def row_of(run: dict) -> str:
    """One line about one run."""
    start = f"  run {run['run']}  {run['program']:<16}"
    if not run["ok"]:
        return f"{start} FAILED: {run['why']}"
    parts = [f"{heading} {show(read(run), form)}" for heading, read, form in COLUMNS.get(run["scenario"], TRANSFER)]
    if uses := [f"{row['line_use']:.2f}" for row in run.get("sent", ()) if "line_use" in row]:
        parts.append("lines " + " ".join(uses))
    return f"{start} " + ", ".join(parts)


def table(scenario: str, runs: list[dict]) -> str:
    """Medians by program, in Markdown; the fastest first."""
    columns = COLUMNS.get(scenario, TRANSFER)
    rows = []
    for program in dict.fromkeys(run["program"] for run in runs):
        good = [run for run in runs if run["program"] == program and run["ok"]]
        if good:
            cells = [show(median(read(run) for run in good), form) for _, read, form in columns]
            times = " ".join(f"{run['seconds']:.2f}" for run in good)
            rows.append((median(run["seconds"] for run in good), [program, *cells, times]))
    lines = [["program", *(heading for heading, _, _ in columns), "every run, s"]]
    lines += [row for _, row in sorted(rows, key=lambda row: row[0])]
    return grid(lines)


def grid(lines: list[list[str]]) -> str:
    """A table in Markdown; the first line is its head."""
    widths = [max(len(line[i]) for line in lines) for i in range(len(lines[0]))]
    text = ["| " + " | ".join(cell.ljust(width) for cell, width in zip(line, widths)) + " |" for line in lines]
    text.insert(1, "|" + "|".join("-" * (width + 2) for width in widths) + "|")
    return "\n".join(text)


def median(values) -> float | None:
    known = [value for value in values if value is not None]
    return statistics.median(known) if known else None


def show(value, form: str) -> str:
    return "-" if value is None else form.format(value)
