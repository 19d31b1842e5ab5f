"""Acts about sharing a line: limits, their changes, two downloads at once, and for how long files are served."""

from __future__ import annotations

import os
import signal
import time

MIB = 1024 * 1024
LIMIT = 10 * MIB
SPAN_S = 30.0
# A change of a limit has to be felt within this.
FELT_WITHIN_S = 2.0


def made_up(lab, name, mib):
    """A file of random bytes."""
    path = lab.dir / name
    with open(path, "wb") as file:
        for _ in range(mib):
            file.write(os.urandom(MIB))
    return path


def pair(lab, prefix, *options):
    """A node with these options, and one that knows it."""
    a = lab.daemon(prefix + "a", options=options)
    return a, lab.daemon(prefix + "b", a.addr)


def taken(daemon):
    """Bytes that a node has taken, and when that was. It takes a second, for it tells of rates, too."""
    [report], _, _ = daemon.run("limits")
    return time.monotonic(), report["down_bytes"]


def watch(daemon, span_s):
    """Samples of what a node takes in a span of time, from its first bytes on."""
    _, before = taken(daemon)
    while (sample := taken(daemon))[1] < before + MIB:
        pass
    samples = [sample]
    while samples[-1][0] < samples[0][0] + span_s:
        samples.append(taken(daemon))
    return samples


def rate_of(samples):
    (t0, b0), (t1, b1) = samples[0], samples[-1]
    return (b1 - b0) / (t1 - t0)


def act_limits(lab, check):
    for side in ("up", "down"):
        a, b = pair(lab, f"limits-{side}-", *(["--max-up", "10MiB/s"] if side == "up" else []))
        if side == "down":
            b.run("limits", "--down", "10MiB/s")
        [stored], _, _ = a.run("store", made_up(lab, f"limits-{side}.bin", 640))
        get = b.start_command("get", stored["address"], "-o", lab.dir / f"limits-{side}.out")
        samples = watch(b, SPAN_S)
        rate = rate_of(samples)
        t0, b0 = samples[0]
        over_s = max((bytes_ - b0) / LIMIT - (t - t0) for t, bytes_ in samples)
        check(abs(rate / LIMIT - 1) <= 0.03, f"--max-{side} 10MiB/s: {rate / MIB:.3f} MiB/s over {SPAN_S:.0f} s")
        check(over_s <= 1.0, f"never more than {over_s:.2f} s of it ahead")
        daemon = a if side == "up" else b
        for limit in (20, 4):
            daemon.run("limits", f"--{side}", f"{limit}MiB/s")
            time.sleep(FELT_WITHIN_S)
            samples = watch(b, 2)
            rate = rate_of(samples) / MIB
            check(0.85 * limit <= rate <= 1.1 * limit, f"{FELT_WITHIN_S:.0f} s after limits --{side} {limit}MiB/s: {rate:.2f} MiB/s")
        daemon.run("limits", f"--{side}", "none")
        started = time.monotonic()
        code = get.wait(timeout=120)
        check(code == 0, f"without a limit the rest takes {time.monotonic() - started:.1f} s")


def act_share(lab, check):
    a, b = pair(lab, "share-", "--max-up", "20MiB/s")
    names = ("share-1.bin", "share-2.bin")
    addresses = [a.run("store", made_up(lab, name, 100))[0][0]["address"] for name in names]
    started = time.monotonic()
    gets = [b.start_command("get", address, "-o", lab.dir / f"{address[:8]}.out") for address in addresses]
    ends = []
    for get in gets:
        check(get.wait(timeout=120) == 0, "a get of two at the same time ends 0")
        ends.append(time.monotonic() - started)
    check(min(ends) >= 0.8 * max(ends), f"two gets from one node at the same time end after {ends[0]:.1f} and {ends[1]:.1f} s")


def act_seeding(lab, check):
    source = made_up(lab, "seeding.bin", 8)
    a, b = pair(lab, "seeding-")
    [stored], _, _ = a.run("store", source)
    address = stored["address"]
    b.run("get", address, "-o", lab.dir / "seeding-b.out", "--seed", "6s")
    third = lab.daemon("seeding-c", b.addr)
    a.leave()
    third.run("get", address, "-o", lab.dir / "seeding-c.out", "--timeout", "20s")
    check(True, "--seed 6s: served for a while")
    time.sleep(8)
    fourth = lab.daemon("seeding-d", b.addr)
    third.leave()
    _, code, _ = fourth.run("get", address, "-o", lab.dir / "seeding-d.out", "--timeout", "10s", ok=(0, 10, 11, 15))
    check(code != 0, f"and 8 s later no more: exit {code}")
    linger(lab, check, source)


def linger(lab, check, source):
    """A get without a daemon that serves until what it was told."""
    a = lab.daemon("linger-a")
    [stored], _, _ = a.run("store", source)
    home = lab.dir / "linger-home"
    words = ["get", stored["address"], "-o", lab.dir / "linger.out", "--no-mdns", "--bootstrap", a.addr]
    words += ["--listen", "/ip4/127.0.0.1/tcp/0"]
    get = lab.start(*words, "--seed", "ratio=1", dir=home)
    time.sleep(4)
    check(get.poll() is None, "--seed ratio=1 without a daemon: it stays")
    c = lab.daemon("linger-c", a.addr)
    a.run("limits", "--up", "64KiB/s")
    c.run("get", stored["address"], "-o", lab.dir / "linger-c.out", "--timeout", "120s")
    code = get.wait(timeout=60)
    check(code == 0, f"and ends when it has given as much as it has taken: exit {code}")
    get = lab.start(*words, "--force", "--seed", "forever", dir=home)
    time.sleep(3)
    check(get.poll() is None, "--seed forever without a daemon: it stays")
    get.send_signal(signal.SIGINT)
    check(get.wait(timeout=20) == 0, "until Ctrl-C: exit 0")
