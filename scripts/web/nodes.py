"""Daemons on loopback, for tests."""

import json
import os
import pathlib
import shutil
import subprocess

LIMIT_S = 90


def environment():
    """Nothing of whoever runs the test reaches the program."""
    clean = {key: value for key, value in os.environ.items() if not key.startswith("CASNODE_")}
    return {**clean, "CASNODE_CONFIG": "none"}


class Node:
    """A daemon with a data directory of its own; found by those that are told of it alone."""

    def __init__(self, binary, folder, friends=(), options=()):
        self.binary, self.data = binary, pathlib.Path(folder)
        words = ["daemon", "--no-mdns", "--listen", "/ip4/127.0.0.1/tcp/0", "--http", "127.0.0.1:0", "--json", *options]
        for friend in friends:
            words += ["--bootstrap", friend.status["listen"][0]]
        self.log = open(f"{folder}.log", "wb")
        self.process = subprocess.Popen(
            self.command(words), stdout=subprocess.PIPE, stderr=self.log, text=True, env=environment(),
        )
        # What the daemon says of itself is its first line.
        self.status = json.loads(self.process.stdout.readline())
        self.peer = self.status["peer_id"]
        self.http = f"http://{self.status['http']}"
        self.token = (self.data / "api.token").read_text().strip()

    def command(self, words):
        return [self.binary, *words, "--data-dir", str(self.data)]

    def casnode(self, *words):
        """What a command of the same data directory prints."""
        done = subprocess.run(self.command(words), capture_output=True, text=True, env=environment(), timeout=LIMIT_S)
        assert done.returncode == 0, f"casnode {words}: {done.stderr}"
        return done.stdout

    def start(self, *words):
        """A command that goes on by itself, and ends with the daemon at the latest."""
        return subprocess.Popen(self.command(words), stdout=subprocess.DEVNULL, stderr=self.log, env=environment())

    def stop(self):
        self.process.terminate()
        try:
            self.process.wait(LIMIT_S)
        finally:
            self.process.kill()
            self.process.stdout.close()
            self.log.close()


def address_of(binary, file, folder):
    """A file's address by an independent program, else by a store that nobody else uses."""
    if shutil.which("b3sum"):
        return subprocess.run(["b3sum", "--no-names", file], capture_output=True, text=True, check=True).stdout.strip()
    words = [binary, "store", file, "--no-mdns", "--listen", "/ip4/127.0.0.1/tcp/0", "--data-dir", f"{folder}/apart"]
    return subprocess.run(words, capture_output=True, text=True, check=True, env=environment()).stdout.strip()
