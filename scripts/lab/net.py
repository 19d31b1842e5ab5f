"""A network on one machine: a bridge, and hosts in namespaces of their own, each with a limit on what it sends.

The whole lab runs in a network namespace of its own (see lab.sh), which the bridge and the tracker are in.
"""

from __future__ import annotations

import json
import socket
import subprocess
import time
from dataclasses import dataclass

COMMAND_LIMIT_S = 20
# What `tc tbf` lets through at once, and how long a packet may wait in it before packets are dropped.
BURST_BYTES = 256 * 1024
LATENCY = "50ms"
# A host that sends more than this share of its rate, and a burst, is not limited as meant.
MOST_OF_RATE = 1.02


class LabError(Exception):
    """Something did not go as it must, in words for a person."""


def output_of(*argv) -> str:
    done = subprocess.run([str(word) for word in argv], capture_output=True, text=True, timeout=COMMAND_LIMIT_S)
    if done.returncode != 0:
        raise LabError(f"{' '.join(map(str, argv))}: {done.stderr.strip()}")
    return done.stdout


def free_port(address: str) -> int:
    """A TCP port that nobody uses at the moment."""
    with socket.create_server((address, 0)) as listener:
        return listener.getsockname()[1]


def set_up_namespace():
    """Once, at the start: the lab's own view of named namespaces, and a loopback device that works."""
    output_of("mkdir", "-p", "/run/netns")
    output_of("mount", "-t", "tmpfs", "casnode-lab", "/run/netns")
    output_of("ip", "link", "set", "lo", "up")


@dataclass
class Host:
    """A place where processes run. Without a namespace: the lab's own."""

    address: str
    namespace: str | None = None
    link: str | None = None  # the bridge's end of its cable
    rate_mbit: int | None = None  # what it may send; None: as much as the machine can

    def command(self, *argv) -> list[str]:
        prefix = ["ip", "netns", "exec", self.namespace] if self.namespace else []
        return prefix + [str(word) for word in argv]

    def sent_bytes(self) -> int:
        """What it has sent so far, as the bridge's end of its cable counts it."""
        if self.link is None:
            return 0
        return json.loads(output_of("ip", "-s", "-j", "link", "show", "dev", self.link))[0]["stats64"]["rx"]["bytes"]

    def limit_counts(self) -> dict:
        """What the limit itself counts: bytes on the line with all headers, and packets dropped."""
        listed = output_of("tc", "-n", self.namespace, "-s", "-j", "qdisc", "show", "dev", "eth0")
        [root] = [qdisc for qdisc in json.loads(listed) if qdisc.get("root")]
        if root["kind"] != "tbf" or root["options"]["rate"] * 8 != self.rate_mbit * 1_000_000:
            raise LabError(f"host {self.address} is not limited to {self.rate_mbit} Mbit/s: {root}")
        return {"line_bytes": root["bytes"], "drops": root["drops"]}


class Loopback:
    """Everybody on 127.0.0.1, nobody limited."""

    def __init__(self, hosts: int):
        self.hosts = [Host("127.0.0.1") for _ in range(hosts)]
        self.middle = Host("127.0.0.1")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass


class Network:
    """Hosts on one bridge; `rates_mbit` says what each may send."""

    def __init__(self, rates_mbit: list[int | None]):
        self.middle = Host("10.77.0.1")
        self.hosts = [Host(f"10.77.0.{10 + i}", f"h{i}", f"v{i}", rate) for i, rate in enumerate(rates_mbit)]

    def __enter__(self):
        try:
            output_of("ip", "link", "add", "bridge", "type", "bridge")
            output_of("ip", "address", "add", f"{self.middle.address}/24", "dev", "bridge")
            output_of("ip", "link", "set", "bridge", "up")
            for host in self.hosts:
                self._connect(host)
        except BaseException:
            self.__exit__()
            raise
        return self

    def _connect(self, host: Host):
        inside = ["ip", "-n", host.namespace]
        output_of("ip", "netns", "add", host.namespace)
        output_of("ip", "link", "add", host.link, "type", "veth", "peer", "name", "eth0", "netns", host.namespace)
        output_of("ip", "link", "set", host.link, "master", "bridge", "up")
        output_of(*inside, "address", "add", f"{host.address}/24", "dev", "eth0")
        output_of(*inside, "link", "set", "lo", "up")
        output_of(*inside, "link", "set", "eth0", "up")
        output_of(*inside, "route", "add", "default", "via", self.middle.address)
        if host.rate_mbit is not None:
            limit = ["tbf", "rate", f"{host.rate_mbit}mbit", "burst", BURST_BYTES, "latency", LATENCY]
            output_of("tc", "-n", host.namespace, "qdisc", "replace", "dev", "eth0", "root", *limit)

    def __exit__(self, *_):
        """Takes down what there is of it; its processes have ended by now."""
        for host in self.hosts:
            # The kernel ends a namespace some time after its name is gone; the next network needs the link's name now.
            subprocess.run(["ip", "link", "delete", host.link], capture_output=True, timeout=COMMAND_LIMIT_S)
            subprocess.run(["ip", "netns", "delete", host.namespace], capture_output=True, timeout=COMMAND_LIMIT_S)
        subprocess.run(["ip", "link", "delete", "bridge"], capture_output=True, timeout=COMMAND_LIMIT_S)


class Meter:
    """Counts what every host sends from now on."""

    def __init__(self, hosts: list[Host]):
        self.hosts = hosts
        self.before = [self._read(host) for host in hosts]

    @staticmethod
    def _read(host: Host) -> dict:
        counts = {"sent_bytes": host.sent_bytes()}
        if host.rate_mbit is not None:
            counts |= host.limit_counts()
        return counts | {"at": time.monotonic()}

    def since(self, seconds: float) -> list[dict]:
        """For each host what it sent, and for limited ones which share of their line they used in those seconds."""
        after = [self._read(host) for host in self.hosts]
        return [self._between(*row, seconds) for row in zip(self.hosts, self.before, after)]

    @staticmethod
    def _between(host: Host, before: dict, after: dict, seconds: float) -> dict:
        row = {key: after[key] - before[key] for key in after}
        elapsed = row.pop("at")
        if host.rate_mbit is None:
            return row
        rate = host.rate_mbit * 1e6 / 8
        if row["line_bytes"] > rate * elapsed * MOST_OF_RATE + BURST_BYTES:
            sent = f"host {host.address} sent {row['line_bytes']} bytes in {elapsed:.2f} s"
            raise LabError(f"{sent}: it is not limited to {host.rate_mbit} Mbit/s")
        return row | {"rate_mbit": host.rate_mbit, "line_use": row["line_bytes"] / (rate * seconds)}
