#!/usr/bin/env python3
"""What the tests do with small files, done with big ones, real processes and the clock beside it.

    scripts/acceptance.py [--binary PATH] [--gib 3] [--keep] [ACT...]

Acts (all by default): chain, two, kill-provider, kill-downloader, announce, provide, no-daemon, limits, share, seeding,
cipher.
Each prints one line a fact and fails loudly. Everything runs on loopback, in one temporary folder (about five times
the size of the big file), and is gone afterwards. Needs b3sum, or the `blake3` package for Python.
Python's standard library otherwise.
"""

from __future__ import annotations

import argparse
import atexit
import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import acceptance_cipher
import acceptance_swarm

ROOT = Path(__file__).resolve().parent.parent
CHUNK = 256 * 1024
MIB = 1024 * 1024


def fail(message):
    sys.exit(f"FAILED: {message}")


def check(condition, message):
    print(f"  {'ok ' if condition else 'BAD'} {message}", flush=True)
    if not condition:
        fail(message)


def b3(data: bytes) -> str:
    try:
        import blake3  # optional

        return blake3.blake3(data).hexdigest()
    except ImportError:
        return subprocess.run(["b3sum", "--no-names"], input=data, capture_output=True, check=True).stdout.decode().strip()


def b3_file(path: Path) -> str:
    if shutil.which("b3sum"):
        return subprocess.run(["b3sum", "--no-names", path], capture_output=True, check=True).stdout.decode().strip()
    import blake3

    return blake3.blake3(max_threads=2).update_mmap(str(path)).hexdigest()


class Daemon:
    """A daemon on loopback with a folder of its own; killed at the end whatever happens."""

    def __init__(self, lab, name, bootstrap=(), options=(), env=None):
        self.lab, self.name, self.bootstrap, self.options = lab, name, list(bootstrap), list(options)
        self.env = {**os.environ, **(env or {})}
        self.dir = lab.dir / name
        self.start()

    def start(self):
        args = [self.lab.binary, "--data-dir", self.dir, "--json", "daemon", "--no-mdns"]
        args += ["--listen", "/ip4/127.0.0.1/tcp/0"]
        for addr in self.bootstrap:
            args += ["--bootstrap", addr]
        args += self.options
        self.log = open(self.lab.dir / f"{self.name}.log", "ab")
        self.process = subprocess.Popen(args, stdout=subprocess.PIPE, stderr=self.log, env=self.env)
        line = self.process.stdout.readline()
        if not line:
            fail(f"daemon {self.name} did not start; see its log:\n{(self.lab.dir / f'{self.name}.log').read_text()}")
        self.addr = json.loads(line)["listen"][0]
        self.peer = json.loads(line)["peer_id"]

    def run(self, *args, **options):
        return self.lab.run(*args, dir=self.dir, **options)

    def start_command(self, *args):
        """A command in the background, its output thrown away."""
        command = [str(self.lab.binary), "--data-dir", str(self.dir), "--quiet", *map(str, args)]
        return subprocess.Popen(command, stdout=subprocess.DEVNULL)

    def status(self):
        return self.run("status")[0][0]

    def peak_mib(self):
        for line in Path(f"/proc/{self.process.pid}/status").read_text().splitlines():
            if line.startswith("VmHWM"):
                return int(line.split()[1]) / 1024
        return 0.0

    def kill(self):
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()

    def leave(self):
        self.process.terminate()
        self.process.wait(timeout=30)

    def wait_announced(self, limit=120):
        ends = time.monotonic() + limit
        while (status := self.status())["to_announce"] > 0:
            if time.monotonic() > ends:
                fail(f"{status['to_announce']} keys are still to announce after {limit} s")
            time.sleep(0.2)
        return status


class Lab:
    def __init__(self, binary, gib, keep):
        self.binary, self.gib = binary, gib
        self.dir = Path(tempfile.mkdtemp(prefix="casnode-acceptance-"))
        self.daemons = []
        atexit.register(self.down, keep)

    def down(self, keep):
        for daemon in self.daemons:
            daemon.kill()
        if keep:
            print(f"kept: {self.dir}")
        else:
            shutil.rmtree(self.dir, ignore_errors=True)

    def daemon(self, name, *bootstrap, options=(), env=None):
        daemon = Daemon(self, name, bootstrap, options, env)
        self.daemons.append(daemon)
        return daemon

    def chain(self, prefix):
        """A; B knows A; C knows only B."""
        a = self.daemon(prefix + "a")
        b = self.daemon(prefix + "b", a.addr)
        c = self.daemon(prefix + "c", b.addr)
        time.sleep(1)
        return a, b, c

    def run(self, *args, dir, ok=(0,), limit=600):
        """JSON lines, exit code and peak memory in MiB of one command."""
        started = time.monotonic()
        command = [str(self.binary), "--data-dir", str(dir), "--json", *map(str, args)]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        out = process.stdout.read()
        err = process.stderr.read().decode()
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = code = os.waitstatus_to_exitcode(status)
        if code not in ok:
            fail(f"{' '.join(command)}: exit {code}\n{err}")
        self.seconds = time.monotonic() - started
        return [json.loads(line) for line in out.splitlines()], code, usage.ru_maxrss / 1024

    def start(self, *args, dir):
        command = [str(self.binary), "--data-dir", str(dir), "--json", *map(str, args)]
        return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)

    def big(self):
        path = self.dir / "big.bin"
        if not path.exists():
            key = os.urandom(16).hex()
            size = int(self.gib * 1024 * MIB)
            command = f"openssl enc -aes-128-ctr -K {key} -iv {'0' * 32} -nosalt -in /dev/zero 2>/dev/null | head -c {size} > {path}"
            subprocess.run(["bash", "-c", command], check=True)
            print(f"  made {path.name}: {path.stat().st_size} bytes, {b3_file(path)}")
        return path


def real_file():
    """The toolchain's compiler driver, some 150 MB."""
    root = Path(subprocess.run(["rustc", "--print", "sysroot"], capture_output=True, text=True, check=True).stdout.strip())
    found = sorted((root / "lib").glob("librustc_driver-*.so"))
    return found[0] if found else fail("no librustc_driver in the toolchain")


def act_chain(lab):
    a, _b, c = lab.chain("chain-")
    source = real_file()
    expected = b3_file(source)
    [stored], _, _ = a.run("store", source)
    check(stored["address"] == expected, f"store of {source.stat().st_size} bytes prints what b3sum prints: {expected[:16]}…")
    target = lab.dir / "chain.out"
    [got], _, _ = c.run("get", stored["address"], "-o", target)
    check(b3_file(target) == expected, f"C, which knows only B, has it in {got['seconds']:.2f} s")
    lab.chain_nodes = (a, _b, c, stored["address"])


def act_two(lab):
    a, b, c, address = lab.chain_nodes if hasattr(lab, "chain_nodes") else (act_chain(lab), lab.chain_nodes)[1]
    b.run("get", address, "-o", lab.dir / "two-b.out")
    c.run("rm", address)
    [got], _, _ = c.run("get", address, "-o", lab.dir / "two-c.out")
    by_peer = {p["peer"]: p["bytes"] for p in got["providers"]}
    check(by_peer.get(a.peer, 0) > 0 and by_peer.get(b.peer, 0) > 0, f"C got bytes from both: {sorted(by_peer.values())}")


def wait_for_part(daemon, address, share, process):
    """Waits until `share` of a download is there; the number of chunks."""
    while process.poll() is None:
        lines, code, _ = daemon.run("stat", address, ok=(0, 10))
        if code == 0 and lines[0]["chunks_here"] >= share * lines[0]["chunks"]:
            return lines[0]["chunks_here"], lines[0]["chunks"]
    fail(f"the get ended before it could be disturbed:\n{process.stderr.read().decode()}")


def act_kill_provider(lab):
    a, b, c = lab.chain("killp-")
    big = lab.big()
    [stored], _, _ = a.run("store", big)
    b.run("get", "--copy", stored["address"], "-o", lab.dir / "killp-b.out")
    (lab.dir / "killp-b.out").unlink()
    target = lab.dir / "killp-c.out"
    process = lab.start("get", stored["address"], "-o", target, dir=c.dir)
    here, of = wait_for_part(c, stored["address"], 0.2, process)
    a.kill()
    out, err = process.communicate(timeout=600)
    check(process.returncode == 0, f"A was killed at {here} of {of} chunks; C ended {process.returncode} {err.decode().strip()[-200:]}")
    got = json.loads(out)
    check(b3_file(target) == stored["address"], f"right bytes after {got['seconds']:.1f} s, {got['duplicate_bytes']} duplicate bytes")
    target.unlink()


def act_kill_downloader(lab):
    a, b, c = lab.chain("killd-")
    big = lab.big()
    [stored], _, _ = a.run("store", big)
    target = lab.dir / "killd-c.out"
    process = lab.start("get", "--copy", stored["address"], "-o", target, dir=c.dir)
    wait_for_part(c, stored["address"], 0.3, process)
    c.kill()
    process.communicate(timeout=60)
    check(not target.exists(), "no output file after the kill")
    c.bootstrap = [b.addr]
    c.start()
    [before], _, _ = c.run("stat", stored["address"])
    [got], _, _ = c.run("get", "--copy", stored["address"], "-o", target)
    check(b3_file(target) == stored["address"], f"the next get ended 0 with right bytes in {got['seconds']:.1f} s")
    check(
        got["local_chunks"] >= before["chunks_here"] and got["fetched_chunks"] <= got["chunks"] - before["chunks_here"],
        f"{before['chunks_here']} of {got['chunks']} chunks were acknowledged; {got['fetched_chunks']} were fetched",
    )
    target.unlink()


def act_announce(lab):
    a, b, c = lab.chain("ann-")
    big = lab.big()
    [stored], _, _ = a.run("store", "--chunker", "fixed", big)
    check(True, f"store of {stored['bytes']} bytes took {lab.seconds:.2f} s; {stored['chunks']} chunks, daemon's peak memory {a.peak_mib():.0f} MiB")
    started = time.monotonic()
    status = a.wait_announced()
    check(True, f"to_announce is 0 (announced {status['announced']}) {time.monotonic() - started:.1f} s after store returned")
    with open(big, "rb") as file:
        hashes = []
        for index in random.sample(range(stored["chunks"]), 20):
            file.seek(index * CHUNK)
            hashes.append(b3(file.read(CHUNK)))

    def found():
        count = 0
        for key in hashes:
            lines, _, _ = c.run("providers", key, ok=(0, 10))
            count += any(a.peer == provider["peer"] for line in lines for provider in line.get("providers", []))
        return count

    check(found() == 20, "providers on C finds A for each of 20 random chunk hashes")
    c.kill()
    c.start()
    check(found() == 20, "the same after C was killed and started again")
    a.bootstrap = [b.addr]
    a.leave()
    a.start()
    time.sleep(2)
    status = a.status()
    check(status["to_announce"] == 0, f"A, stopped and started again, has nothing to announce again (announced {status['announced']}, due {status['to_announce']})")
    check(found() == 20, "and C still finds it for each")


def announced_since_start(daemon):
    """Keys announced since the daemon's start, by its own count."""
    text = subprocess.run([daemon.lab.binary, "--data-dir", daemon.dir, "metrics"], capture_output=True, text=True, check=True).stdout
    [value] = [line.split()[1] for line in text.splitlines() if line.startswith("casnode_dht_announced_keys_total ")]
    return int(float(value))


def act_provide(lab):
    a, b, _c = lab.chain("prov-")
    big = lab.big()
    storing = a.start_command("store", big)
    ends = time.monotonic() + 600
    # Killed as soon as some keys are announced, and far from all.
    while True:
        [status], _, _ = a.run("provide", "status")
        if status["due"] > 1000 and 1000 < status["done"] < status["keys"] * 0.8 and storing.poll() is not None:
            break
        if time.monotonic() > ends or (storing.poll() is not None and status["keys"] and status["due"] == 0):
            fail(f"was never seen in the middle: {status}")
        time.sleep(0.02)
    before = announced_since_start(a)
    a.kill()
    check(storing.returncode == 0, f"A was killed (-9) when {before} of {status['keys']} keys were announced")
    a.bootstrap = [b.addr]
    a.start()
    [resumed], _, _ = a.run("provide", "status")
    while (status := a.run("provide", "status")[0][0])["due"] > 0:
        if time.monotonic() > ends:
            fail(f"announcing did not come to its end: {status}")
        time.sleep(0.2)
    after = announced_since_start(a)
    check(status["done"] == status["keys"], f"then it went on from {resumed['done']}, to {status['done']} of {status['keys']} (100 %), nobody having asked")
    twice = before + after - status["keys"]
    # What a peer acknowledged in the very moment of the kill cannot be on the disk: a batch of 1,024 keys at most.
    check(twice <= 1024, f"announced by both lives together: {before} + {after}, so {max(twice, 0)} keys twice")
    a.leave()
    a.start()
    time.sleep(10)
    again = announced_since_start(a)
    check(again == 0, f"after another restart {again} keys were announced within 10 s")


def act_no_daemon(lab):
    boot = lab.daemon("nod-boot")
    big = lab.big()
    storing, getting = lab.dir / "nod-store", lab.dir / "nod-get"
    [stored], _, peak = lab.run("store", big, "--no-mdns", "--bootstrap", boot.addr, "--listen", "/ip4/127.0.0.1/tcp/0", dir=storing)
    check(peak < 200, f"store with no daemon: {lab.seconds:.2f} s, peak memory {peak:.0f} MiB")
    server = lab.daemon("nod-store", boot.addr)
    target = lab.dir / "nod.out"
    [got], _, peak = lab.run(
        "get", stored["address"], "-o", target, "--no-mdns", "--bootstrap", boot.addr, "--listen", "/ip4/127.0.0.1/tcp/0", dir=getting
    )
    check(peak < 200, f"get with no daemon: {got['seconds']:.2f} s, peak memory {peak:.0f} MiB; serving daemon's {server.peak_mib():.0f} MiB")
    check(b3_file(target) == stored["address"], "right bytes")
    target.unlink()


ACTS = {
    "chain": act_chain,
    "two": act_two,
    "kill-provider": act_kill_provider,
    "kill-downloader": act_kill_downloader,
    "announce": act_announce,
    "provide": act_provide,
    "no-daemon": act_no_daemon,
    "limits": lambda lab: acceptance_swarm.act_limits(lab, check),
    "share": lambda lab: acceptance_swarm.act_share(lab, check),
    "seeding": lambda lab: acceptance_swarm.act_seeding(lab, check),
    "cipher": lambda lab: acceptance_cipher.act_cipher(lab, check),
}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("acts", nargs="*", metavar="ACT", help=", ".join(ACTS))
    parser.add_argument("--binary", default=ROOT / "target/release/casnode", type=Path)
    parser.add_argument("--gib", default=3.0, type=float, help="size of the big file")
    parser.add_argument("--keep", action="store_true", help="keep the temporary folder")
    options = parser.parse_args()
    if not options.binary.exists():
        fail(f"{options.binary} is not there: cargo build --release")
    if unknown := set(options.acts) - set(ACTS):
        fail(f"no act {', '.join(unknown)}; there are {', '.join(ACTS)}")
    lab = Lab(options.binary.resolve(), options.gib, options.keep)
    for name in options.acts or ACTS:
        print(f"{name}:", flush=True)
        ACTS[name](lab)
        for daemon in lab.daemons:
            daemon.kill() if name not in ("chain",) else None
    print("all acts passed")


if __name__ == "__main__":
    main()
