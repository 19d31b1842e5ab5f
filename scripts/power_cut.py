#!/usr/bin/env python3
"""The power cuts of scripts/power-cut.sh, which says what they are. Runs in a mount namespace of its own."""

from __future__ import annotations

import argparse
import fcntl
import os
import random
import shutil
import struct
import subprocess
import sys
import tempfile
import time
from pathlib import Path

MIB = 1 << 20
# _IOR('X', 125, __u32), and EXT4_GOING_FLAGS_NOLOGFLUSH.
EXT4_IOC_SHUTDOWN = 0x8004587D
NO_LOG_FLUSH = 2
CHECK_DEADLINE_S = 120


def run(*command):
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True, timeout=60)
    if done.returncode != 0:
        sys.exit(f"{' '.join(map(str, command))}: exit {done.returncode}\n{done.stdout}{done.stderr}")
    return done.stdout.strip()


class Disk:
    """An ext4 image on a loop device. Everything is undone by `close`, whatever state it is in."""

    def __init__(self, work: Path, size_mib: int):
        self.image, self.mounted_at = work / "image", work / "mount"
        self.mounted_at.mkdir()
        with self.image.open("wb") as file:
            file.truncate(size_mib * MIB)
        run("mkfs.ext4", "-q", "-F", self.image)
        self.device = run("losetup", "--find", "--show", self.image)
        self.is_mounted = False

    def mount(self):
        run("mount", "-t", "ext4", self.device, self.mounted_at)
        self.is_mounted = True

    def unmount(self):
        run("umount", self.mounted_at)
        self.is_mounted = False

    def cut(self):
        folder = os.open(self.mounted_at, os.O_RDONLY)
        try:
            fcntl.ioctl(folder, EXT4_IOC_SHUTDOWN, struct.pack("I", NO_LOG_FLUSH))
        finally:
            os.close(folder)

    def close(self):
        if self.is_mounted:
            subprocess.run(["umount", "--lazy", self.mounted_at], check=False)
        subprocess.run(["losetup", "--detach", self.device], check=False)


class Store:
    """The store on the disk, and its log outside."""

    def __init__(self, binary: Path, disk: Disk, work: Path):
        self.binary, self.disk, self.log, self.errors = binary, disk, work / "log", work / "errors"

    def child(self, role: str, **more):
        environment = {
            **os.environ,
            "CASNODE_CRASH_CHILD": role,
            "CASNODE_CRASH_STORE": str(self.disk.mounted_at / "store"),
            "CASNODE_CRASH_LOG": str(self.log),
            **more,
        }
        command = [self.binary, "child", "--exact", "--nocapture", "--test-threads=1"]
        with self.errors.open("wb") as errors:
            return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors, env=environment, text=True)

    def write_until_cut(self, life_s: float, more: dict[str, str]):
        writer = self.child("write", **more)
        try:
            time.sleep(life_s)
            self.disk.cut()
        finally:
            writer.kill()
            writer.communicate()

    def check(self) -> dict[str, int]:
        """Opens and reads everything; ends the script when a promise was broken."""
        checker = self.child("check", CASNODE_CRASH_BUT_LAST="1")
        try:
            output, _ = checker.communicate(timeout=CHECK_DEADLINE_S)
        except subprocess.TimeoutExpired:
            checker.kill()
            checker.communicate()
            sys.exit(f"FAILED: the check hangs\n{self.errors.read_text()}")
        errors = self.errors.read_text()
        if checker.returncode != 0 or "panicked" in errors:
            kept = Path(tempfile.mkdtemp(prefix="power-cut-failed-"))
            shutil.copytree(self.disk.mounted_at / "store", kept / "store", symlinks=True)
            shutil.copy(self.log, kept)
            sys.exit(f"FAILED: a promise was broken; the store and its log are in {kept}\n{output}{errors}")
        lines = (line.split() for line in output.splitlines())
        return {words[0]: int(words[1]) for words in lines if words and words[0] in ("opened", "kept")}


def rounds(options, disk: Disk, work: Path):
    moments = random.Random(options.seed)
    store = Store(options.binary, disk, work)
    slowest_ms, kept = 0, 0
    for number in range(1, options.cuts + 1):
        buffered = {"CASNODE_CRASH_BUFFERED": "1"} if moments.random() < 0.5 else {}
        store.write_until_cut(moments.uniform(0.01, 0.15 if number % 2 else 1.0), buffered)
        disk.unmount()
        disk.mount()
        facts = store.check()
        slowest_ms, kept = max(slowest_ms, facts["opened"]), facts["kept"]
        if number % 10 == 0 or number == options.cuts:
            print(f"{number} cuts: {kept} promises kept, slowest open {slowest_ms} ms", flush=True)
    if kept < options.cuts:
        sys.exit("FAILED: too few promises to mean anything")
    disk.unmount()


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--binary", type=Path, required=True)
    parser.add_argument("--cuts", type=int, default=50)
    parser.add_argument("--seed", type=int, default=None)
    parser.add_argument("--size-mib", type=int, default=512)
    options = parser.parse_args()
    if options.seed is None:
        options.seed = random.randrange(1 << 30)
    print(f"{options.cuts} power cuts, seed {options.seed}")
    with tempfile.TemporaryDirectory(prefix="casnode-power-cut-") as name:
        disk = Disk(Path(name), options.size_mib)
        try:
            disk.mount()
            rounds(options, disk, Path(name))
        finally:
            disk.close()
    print("PASSED")


if __name__ == "__main__":
    main()
