"""What casnode is to reach, and what a run of scripts/bench-transfer.sh has seen of it. Every target has a line, the ones
that were missed and the ones that were not measured as well."""

from __future__ import annotations

import statistics
from collections.abc import Callable
from dataclasses import dataclass

import floor

MIB = 1 << 20
ENCRYPTED_OR_SWARM = ("sendme", "rqbit", "libtorrent", "aria2")
SMALL_FILES = ("sendme", "rqbit", "libtorrent")


class Seen:
    """Medians of good runs: by row, program and figure."""

    def __init__(self, runs: list[dict], own: str):
        """`own`: the name of the casnode that is judged."""
        self.runs, self.own = runs, own

    def median(self, row: str, program: str, figure: str) -> float | None:
        every = [run for run in self.runs if run["scenario"] == row and run["program"] == program and run["ok"]]
        values = [run[figure] for run in every if figure in run]
        return statistics.median(values) if values else None

    def mine(self, row: str, figure: str, more: str = "") -> float | None:
        return self.median(row, self.own + more, figure)

    def best(self, row: str, programs: tuple[str, ...]) -> tuple[float, str] | None:
        """Seconds of the fastest, and its name."""
        times = [(self.median(row, program, "seconds"), program) for program in programs]
        return min((pair for pair in times if pair[0] is not None), default=None)


# A value and what stands beside it; None where it was not measured.
Value = tuple[float, str] | None


@dataclass(frozen=True)
class Target:
    row: str
    what: str
    bound: float
    value: Callable[[Seen], Value]
    unit: str = "x"
    at_least: bool = False

    def line(self, seen: Seen) -> dict:
        found = self.value(seen)
        figure, note = found or (None, "")
        verdict = "not measured"
        if figure is not None:
            is_met = figure >= self.bound if self.at_least else figure <= self.bound
            verdict = "met" if is_met else "NOT MET"
        sign = ">=" if self.at_least else "<="
        seen_text = "-" if figure is None else f"{figure:.3g} {self.unit}"
        facts = {"row": self.row, "target": self.what, "bound": f"{sign} {self.bound:g} {self.unit}", "seen": seen_text}
        return facts | {"verdict": verdict, "beside": note, "value": figure}


def over_best(row: str, programs: tuple[str, ...]) -> Callable[[Seen], Value]:
    def value(seen: Seen) -> Value:
        mine, other = seen.mine(row, "seconds"), seen.best(row, programs)
        if mine is None or other is None:
            return None
        missing = [name for name in programs if seen.best(row, (name,)) is None]
        without = f"; without {', '.join(missing)}" if missing else ""
        return mine / other[0], f"{mine:.2f} s, {other[1]} {other[0]:.2f} s{without}"

    return value


def of_floor(row: str) -> Callable[[Seen], Value]:
    def value(seen: Seen) -> Value:
        mine, plain = seen.mine(row, "seconds"), seen.best(row, (floor.NAME,))
        return None if mine is None or plain is None else (plain[0] / mine, f"{plain[0]:.2f} s over {mine:.2f} s")

    return value


def figure(row: str, name: str, scale: float = 1, more: str = "") -> Callable[[Seen], Value]:
    def value(seen: Seen) -> Value:
        found = seen.mine(row, name, more)
        return None if found is None else (found / scale, "")

    return value


def larger_side(row: str, more: str = "") -> Callable[[Seen], Value]:
    """The resident memory of the side that had more; anonymous memory is what was not mapped from files."""

    def value(seen: Seen) -> Value:
        figures = {
            side: [seen.mine(row, f"{side}_{kind}peak_bytes", more) for kind in ("resident_", "")]
            for side in ("provider", "taker")
        }
        if any(None in pair for pair in figures.values()):
            return None
        parts = [f"{side} {resident / MIB:.0f}, {own / MIB:.0f} anonymous" for side, (resident, own) in figures.items()]
        return max(resident for resident, _ in figures.values()) / MIB, "; ".join(parts)

    return value


def eight_over_one(seen: Seen) -> Value:
    one, eight = (seen.mine("peers", "cpu_s_per_gib", f" from {count}") for count in (1, 8))
    if one is None or eight is None:
        return None
    sources = seen.mine("peers", "sources", " from 8")
    return eight / one, f"{eight:.2f} over {one:.2f} s/GiB; bytes came from {sources or 0:.0f} of 8"


def one_file(row: str) -> list[Target]:
    return [
        Target(row, "time over the best of sendme, rqbit, libtorrent, aria2", 0.45, over_best(row, ENCRYPTED_OR_SWARM)),
        Target(row, "time over nginx + curl", 1.25, over_best(row, ("nginx + curl",))),
        Target(row, "speed over a plain program's", 0.6, of_floor(row), at_least=True),
        Target(row, "processor time of both sides", 2.2, figure(row, "cpu_s_per_gib"), "s/GiB"),
        Target(row, "the same with --no-keep", 1.8, figure(row, "cpu_s_per_gib", more=" --no-keep"), "s/GiB"),
    ]


TARGETS = [
    *one_file("1GiB"),
    *one_file("4GiB"),
    Target("4GiB", "peak memory of either side", 96, larger_side("4GiB"), "MiB"),
    Target("peers", "processor time a byte, 8 providers over 1", 1.15, eight_over_one),
    Target("small", "time over the best of sendme, rqbit, libtorrent", 1.0, over_best("small", SMALL_FILES)),
    Target("idle", "resident memory", 48, figure("idle", "resident_bytes", MIB), "MiB"),
    Target("idle", "share of a core", 0.2, figure("idle", "core_share", 0.01), "%"),
    Target("first-byte", "round trips until the first byte, connected", 3, figure("first-byte", "round_trips_standing"), ""),
    Target("16GiB", "peak memory of either side, --memory 256MiB", 256, larger_side("16GiB", " --memory 256MiB"), "MiB"),
]


def summary(runs: list[dict], own: str) -> list[dict]:
    seen = Seen(runs, own)
    return [target.line(seen) for target in TARGETS]
