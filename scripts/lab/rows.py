"""The rows of scripts/bench-transfer.sh: what is carried in each, and who takes part."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import first_byte
import floor
import idle
import sources
from once import GIB, transfer
from programs.aria2 import Aria2Once
from programs.base import Program
from programs.casnode_get import CasnodeGet
from programs.libtorrent import LibtorrentOnce
from programs.nginx import Nginx
from programs.rqbit import Rqbit
from programs.sendme import Sendme

MIB = 1 << 20
SMALL_FILES_BYTES = 10_000 * sources.SMALL_FILE_BYTES
# The bound that both sides are given for the file that is much larger.
MEMORY = ("--memory", "256MiB")
PEERS = 8


@dataclass(frozen=True)
class Contender:
    """Somebody who takes part in a row: `run` is given the source and a folder that is not there yet."""

    name: str
    run: Callable[[Path, Path], dict]


@dataclass
class Choice:
    """What was asked for on the command line."""

    binaries: list[Path]
    libtorrent_python: str | None
    chunks: int
    others: list[str] | None  # None: all that are here
    missing: dict[str, str] = field(default_factory=dict)  # who does not take part, and why
    versions: dict[str, str] = field(default_factory=dict)

    def programs(self, candidates: list[Program]) -> list[Program]:
        """Those that were asked for, and can run here."""
        return [one for one in candidates if self._takes_part(one)]

    def _takes_part(self, program: Program) -> bool:
        is_own = isinstance(program, CasnodeGet)
        if not is_own and self.others is not None and program.name not in self.others:
            return False
        if reason := program.why_not():
            self.missing[program.name] = reason
            return False
        self.versions[program.name] = program.version()
        return True


def contender(program: Program, providers: int = 1) -> Contender:
    return Contender(program.name, partial(transfer, program, providers))


def one_file(choice: Choice) -> list[Contender]:
    own = [CasnodeGet(path, *words) for path in choice.binaries for words in ((), ("--copy",), ("--no-keep",))]
    others = [Sendme(), Rqbit(), LibtorrentOnce(choice.libtorrent_python), Aria2Once(), Nginx()]
    return [contender(program) for program in choice.programs(own + others)] + plain_program(choice)


def plain_program(choice: Choice) -> list[Contender]:
    """The first binary that has one will do: none of the nodes takes part in it."""
    for path in choice.binaries:
        reason = floor.why_not(path)
        if not reason:
            choice.missing.pop(floor.NAME, None)
            return [Contender(floor.NAME, partial(floor.run, path))]
        choice.missing[floor.NAME] = reason
    return []


def many_peers(choice: Choice) -> list[Contender]:
    found = []
    for count in (1, PEERS):
        for path in choice.binaries:
            program = CasnodeGet(path, in_place=True, label=f"from {count}")
            found += [contender(one, count) for one in choice.programs([program])]
    return found


def small_files(choice: Choice) -> list[Contender]:
    own = []
    for path in choice.binaries:
        program = CasnodeGet(path)
        if program.knows("get", "--list"):
            own.append(program)
        else:
            choice.missing[f"{program.name}, many files"] = "this binary has no get --list"
    others = [Sendme(), Rqbit(), LibtorrentOnce(choice.libtorrent_python), Nginx()]
    return [contender(program) for program in choice.programs(own + others)]


def bounded_memory(choice: Choice) -> list[Contender]:
    programs = choice.programs([CasnodeGet(path, both=MEMORY) for path in choice.binaries])
    return [contender(program) for program in programs]


def idle_daemon(choice: Choice) -> list[Contender]:
    found = []
    for path in choice.binaries:
        for name, words in (("", ("--scrub-rate", "off")), (", its store checked", ())):
            run = partial(idle.run, path, choice.chunks, words)
            found.append(Contender(path.name + name, run))
    return found


def time_to_first_byte(choice: Choice) -> list[Contender]:
    return [Contender(path.name, partial(first_byte.run, path)) for path in choice.binaries]


@dataclass(frozen=True)
class Row:
    name: str
    what: str
    size_bytes: int
    contenders: Callable[[Choice], list[Contender]]
    make: Callable[[Path, int], None] = sources.make_file
    # Copies of the source that are on the disk at once, itself included; holes take nothing.
    copies: float = 4
    takes_size: bool = True


ONE_TO_ONE = "1 provider -> 1 downloader over 127.0.0.1"
PEERS_WHAT = f"{PEERS} providers of one file at once, and one"
FIRST_BYTE_WHAT = "`get` from a provider it is told of, over a line with delay"
BOUNDED_WHAT = "a file with holes, both sides with --memory 256MiB"
ROWS = {
    row.name: row
    for row in (
        Row("1GiB", f"{ONE_TO_ONE}, file to file", GIB, one_file),
        Row("4GiB", f"{ONE_TO_ONE}, file to file", 4 * GIB, one_file),
        Row("peers", PEERS_WHAT, GIB, many_peers, copies=3),
        Row("small", f"files of 10 KiB, {ONE_TO_ONE}", SMALL_FILES_BYTES, small_files, sources.make_folder),
        Row("idle", "a daemon that nobody asks", MIB, idle_daemon, takes_size=False),
        Row("first-byte", FIRST_BYTE_WHAT, MIB, time_to_first_byte, takes_size=False),
        Row("16GiB", BOUNDED_WHAT, 16 * GIB, bounded_memory, sources.make_sparse, copies=1.3),
    )
}
