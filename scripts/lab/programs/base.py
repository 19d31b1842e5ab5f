"""What the lab asks of a program."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path

from net import Host
from proc import Process, end_all

PEERS = Path(__file__).resolve().parent.parent / "peers"


@dataclass
class Stage:
    """Where one run happens."""

    providers: list[Host]
    takers: list[Host]
    middle: Host  # for a tracker
    source: Path  # the file, readable by all providers; or a folder of files
    folder: Path  # empty, for this run


class Session(ABC):
    """One run of a program. Making it starts all that runs before the clock does."""

    def __init__(self, stage: Stage):
        self.stage = stage
        self.providers: list[Process] = []  # whose processor time and memory count, by side
        self.takers: list[Process] = []
        self.others: list[Process] = []

    def prepare(self):
        """Brings everything to the point where the takers can begin."""

    @abstractmethod
    def begin(self):
        """All takers begin, at once."""

    @abstractmethod
    def has_finished(self, taker: int) -> bool:
        """Whether this taker has it all; raises if it failed."""

    def output(self, taker: int) -> Path | None:
        """The fetched file; None if the program writes none."""
        return self.stage.folder / f"taken-{taker}" / self.stage.source.name

    def facts(self) -> dict:
        """What the program itself tells of the run."""
        return {}

    def close(self):
        end_all(self.takers + self.providers + self.others)


class EndingSession(Session):
    """One whose takers are processes that begin with the clock, and end once they have it all."""

    env: dict[str, str] = {}

    @abstractmethod
    def take(self, taker: int) -> list:
        """The command line of a taker; its working folder is the one for the output, and empty."""

    def begin(self):
        for index, host in enumerate(self.stage.takers):
            folder = self.output(index).parent
            folder.mkdir()
            log = self.stage.folder / f"taker-{index}"
            self.takers.append(Process(host.command(*self.take(index)), log, cwd=folder, env=self.env))

    def has_finished(self, taker: int) -> bool:
        return self.takers[taker].has_ended_well()


class Program(ABC):
    name: str

    def why_not(self) -> str | None:
        """Why it cannot be measured here."""
        return None

    def fits(self, takers: int) -> bool:
        """Whether it can bring a file to so many at once."""
        return True

    @abstractmethod
    def version(self) -> str: ...

    @abstractmethod
    def session(self, stage: Stage) -> Session: ...
