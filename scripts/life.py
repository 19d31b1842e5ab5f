#!/usr/bin/env python3
"""The day of scripts/life.sh, which says what happens in it. Python's standard library only."""

from __future__ import annotations

import argparse
import collections
import json
import random
import signal
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

MIB = 1 << 20
NO_SPACE = 13
# A command that takes longer hangs.
DEADLINE_S = 120
# Files of the other node: together more than the limit.
ORIGIN_FILES = 40


class Broken(Exception):
    """Something that must not happen."""


def b3(path: Path) -> str:
    done = subprocess.run(["b3sum", "--no-names", path], capture_output=True, text=True, check=True)
    return done.stdout.strip()


class Node:
    """A daemon on loopback with a folder of its own."""

    def __init__(self, binary: Path, folder: Path, *arguments: str):
        self.binary, self.folder, self.arguments = binary, folder, arguments
        self.log = folder.with_suffix(".log")
        # What was said to commands that failed as they may.
        self.refusals: collections.deque[str] = collections.deque(maxlen=8)
        self.start()

    def start(self):
        command = [self.binary, "--data-dir", self.folder, "--json", *self.arguments]
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log)
        line = self.process.stdout.readline()
        if not line:
            raise Broken(f"a daemon did not start:\n{self.log.read_text()}")
        self.address = json.loads(line)["listen"][0]

    def kill(self):
        self.process.kill()
        self.process.wait()
        self.process.stdout.close()

    def leave(self):
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(timeout=DEADLINE_S)

    def ask(self, *words, ok=(0,)) -> tuple[int, list[dict]]:
        """Exit code and JSON lines of one command."""
        command = [str(self.binary), "--data-dir", str(self.folder), "--json", "--quiet", *map(str, words)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=DEADLINE_S)
        if done.returncode not in ok or "panicked" in done.stderr:
            raise Broken(f"{' '.join(map(str, words))}: exit {done.returncode}\n{done.stdout}{done.stderr}")
        if done.returncode != 0:
            self.refusals.append(done.stderr.strip())
        return done.returncode, [json.loads(line) for line in done.stdout.splitlines()]

    def one(self, *words) -> dict:
        return self.ask(*words)[1][-1]


class Life:
    def __init__(self, options, work: Path):
        self.work = work
        self.limit, self.workers = options.max_store_mib * MIB, options.workers
        self.random = random.Random(options.seed)
        self.ends = time.monotonic() + options.seconds
        # Guards everything below; never held while a command runs.
        self.lock = threading.Lock()
        # Address to length of the files that must be there.
        self.pinned: dict[str, int] = {}
        # Addresses that a command is busy with: nobody else touches them.
        self.busy: set[str] = set()
        self.done = collections.Counter()
        self.most_bytes = 0
        self.serial = 0
        self.failure: Exception | None = None
        self.origin = Node(options.binary, work / "origin", "daemon", "--no-mdns", "--listen", "/ip4/127.0.0.1/tcp/0")
        self.offered = [self.offer(number) for number in range(ORIGIN_FILES)]
        self.node = Node(
            options.binary, work / "node", "--max-store", f"{options.max_store_mib}MiB",
            "daemon", "--no-mdns", "--listen", "/ip4/127.0.0.1/tcp/0", "--bootstrap", self.origin.address,
        )

    def file(self, name: str, size: int) -> Path:
        path = self.work / name
        path.write_bytes(random.Random(name).randbytes(size))
        return path

    def offer(self, number: int) -> str:
        path = self.file(f"offered {number}", (1 + number * 7 % 16) * MIB + number)
        address = self.origin.one("store", path)["address"]
        path.unlink()
        return address

    def pinned_bytes(self) -> int:
        return sum(self.pinned.values())

    def claim(self, addresses) -> str | None:
        """One of them that nobody is busy with."""
        with self.lock:
            free = sorted(set(addresses) - self.busy)
            if not free:
                return None
            address = self.random.choice(free)
            self.busy.add(address)
            return address

    def release(self, address: str):
        with self.lock:
            self.busy.discard(address)

    # ----------------------------------------------------------------------------------- what may happen

    def store(self):
        with self.lock:
            self.serial += 1
            name, size = f"own {self.serial}", self.random.randrange(1, 24 * MIB)
        path = self.file(name, size)
        code, lines = self.node.ask("store", path, ok=(0, NO_SPACE))
        path.unlink()
        if code == NO_SPACE:
            self.done["store refused"] += 1
            with self.lock:
                # Half of the limit is left for what cannot be helped: other commands' files, dead records.
                if self.pinned_bytes() + size < self.limit / 2:
                    raise Broken(f"{size} bytes were refused beside {self.pinned_bytes()} pinned ones")
            return
        with self.lock:
            self.pinned[lines[-1]["address"]] = size

    def get(self):
        address = self.claim(self.offered)
        if address is None:
            return
        copy = self.work / f"copy {address}"
        try:
            code, _ = self.node.ask("get", "--copy", address, "-o", copy, "--force", ok=(0, NO_SPACE))
            if code == NO_SPACE:
                self.done["get refused"] += 1
            elif b3(copy) != address:
                raise Broken(f"get {address} wrote other bytes")
        finally:
            copy.unlink(missing_ok=True)
            self.release(address)

    def read_pinned(self):
        address = self.claim(self.pinned)
        if address is None:
            return
        copy = self.work / f"copy {address}"
        try:
            self.node.ask("get", "--copy", address, "-o", copy, "--force")
            if b3(copy) != address:
                raise Broken(f"pinned {address} has other bytes")
        finally:
            copy.unlink(missing_ok=True)
            self.release(address)

    def rm(self):
        address = self.claim(self.pinned)
        if address is None:
            return
        with self.lock:
            del self.pinned[address]
        try:
            self.node.ask("rm", address)
        finally:
            self.release(address)

    def pin(self):
        """Pins a fetched file, if it is there still and leaves room for others."""
        with self.lock:
            if self.pinned_bytes() > self.limit / 2:
                return
        cached = {line["address"]: line["bytes"] for line in self.files() if line["state"] == "complete"}
        address = self.claim(set(cached) & set(self.offered))
        if address is None:
            return
        try:
            code, _ = self.node.ask("pin", "add", address, ok=(0, 10))
            if code == 0:
                with self.lock:
                    self.pinned[address] = cached[address]
        finally:
            self.release(address)

    def unpin(self):
        address = self.claim(self.pinned)
        if address is None:
            return
        with self.lock:
            del self.pinned[address]
        try:
            self.node.ask("pin", "rm", address)
        finally:
            self.release(address)

    def gc(self):
        self.node.ask("gc")

    def look(self):
        status = self.node.one("status")
        with self.lock:
            self.most_bytes = max(self.most_bytes, status["disk_bytes"])
        if status["disk_bytes"] > self.limit:
            raise Broken(f"{status['disk_bytes']} bytes on disk are more than {self.limit}")

    def files(self) -> list[dict]:
        return self.node.ask("ls")[1]

    # --------------------------------------------------------------------------------------- the day

    def hour(self, ends: float):
        """One worker: random commands until it is over."""
        steps = [self.store, self.get, self.read_pinned, self.rm, self.pin, self.unpin, self.gc, self.look]
        weights = [6, 10, 3, 3, 2, 2, 1, 2]
        while time.monotonic() < ends and self.failure is None:
            with self.lock:
                step = self.random.choices(steps, weights)[0]
                # What is stored is pinned: somebody has to make room.
                if step == self.store and self.pinned_bytes() > self.limit * 0.7 and self.random.random() < 0.7:
                    step = self.rm
            try:
                step()
                self.done[step.__name__] += 1
            except Exception as failure:
                self.failure = self.failure or failure

    def live(self):
        while time.monotonic() < self.ends:
            hour = min(self.ends, time.monotonic() + 8)
            workers = [threading.Thread(target=self.hour, args=(hour,)) for _ in range(self.workers)]
            for worker in workers:
                worker.start()
            for worker in workers:
                worker.join()
            if self.failure:
                raise self.failure
            self.check_pins()
            self.node.kill()
            self.node.start()
            self.check_pins()
            self.done["killed"] += 1

    def check_pins(self):
        there = {line["address"]: line for line in self.files()}
        for address in self.pinned:
            if address not in there or not there[address]["pinned"]:
                raise Broken(f"pinned {address} is gone")

    def end(self):
        self.node.ask("gc")
        self.look()
        self.node.ask("verify")
        for address in list(self.pinned):
            self.read_pinned_one(address)
        self.node.leave()
        self.origin.kill()
        status = self.node.one("status")
        print(
            f"{sum(self.done.values())} steps: " + ", ".join(f"{count} {name}" for name, count in sorted(self.done.items()))
        )
        print(
            f"in the end {len(self.pinned)} pinned files of {self.pinned_bytes() / MIB:.0f} MiB, all right;"
            f" {status['disk_bytes'] / MIB:.0f} MiB on disk, {self.most_bytes / MIB:.0f} at most seen, limit {self.limit / MIB:.0f}"
        )
        if status["disk_bytes"] > self.limit:
            raise Broken("more than the limit on disk")

    def read_pinned_one(self, address: str):
        copy = self.work / "copy"
        self.node.ask("get", "--copy", address, "-o", copy, "--force")
        if b3(copy) != address:
            raise Broken(f"pinned {address} has other bytes")
        copy.unlink()


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--binary", type=Path, required=True)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--seed", type=int, default=None)
    parser.add_argument("--max-store-mib", type=int, default=256)
    parser.add_argument("--workers", type=int, default=3)
    options = parser.parse_args()
    if options.seed is None:
        options.seed = random.randrange(1 << 30)
    print(f"{options.seconds:.0f} s, seed {options.seed}")
    with tempfile.TemporaryDirectory(prefix="casnode-life-") as name:
        life = None
        try:
            life = Life(options, Path(name))
            life.ends = time.monotonic() + options.seconds
            life.live()
            life.end()
        except (Broken, subprocess.TimeoutExpired) as failure:
            told = "\n".join(life.node.refusals) + "\n" + life.node.log.read_text()[-4000:] if life else ""
            sys.exit(f"FAILED: {failure}\n{told}")
        finally:
            if life:
                life.node.kill()
                life.origin.kill()
    print("PASSED")


if __name__ == "__main__":
    main()
