"""The act about ciphers: forced ones, and a processor whose AES instructions the cryptographic library may not use."""

from __future__ import annotations

import os
import time
from pathlib import Path

from acceptance_swarm import made_up

SIZE_MIB = 256
TICKS_PER_S = os.sysconf("SC_CLK_TCK")
# Clears the bits of AES and of the multiplication that GCM needs in what AWS-LC believes of an x86 processor. What the
# node itself believes is another matter: it is to work whatever it has chosen.
WITHOUT_AES = {"OPENSSL_ia32cap": "~0x200000200000000"}
CHACHA20 = "tls13-chacha20-poly1305"


def cpu_s(daemon) -> float:
    words = Path(f"/proc/{daemon.process.pid}/stat").read_text().rpartition(")")[2].split()
    return (int(words[11]) + int(words[12])) / TICKS_PER_S


def act_cipher(lab, check):
    source = made_up(lab, "cipher.bin", SIZE_MIB)
    cases = [
        ("auto", "auto", {}, None),
        ("chacha20", "auto", {}, CHACHA20),
        ("auto", "chacha20", {}, CHACHA20),
        ("chacha20", "chacha20", WITHOUT_AES, CHACHA20),
        ("auto", "auto", WITHOUT_AES, None),
        ("aes", "aes", WITHOUT_AES, "tls13-aes-128-gcm"),
    ]
    for number, (provides, fetches, env, expected) in enumerate(cases):
        a = lab.daemon(f"cipher-{number}a", options=("--cipher", provides), env=env)
        b = lab.daemon(f"cipher-{number}b", a.addr, options=("--cipher", fetches), env=env)
        [stored], _, _ = a.run("store", source)
        target = lab.dir / "cipher.out"
        before_s, started = cpu_s(a) + cpu_s(b), time.monotonic()
        b.run("get", stored["address"], "-o", target)
        seconds, used_s = time.monotonic() - started, cpu_s(a) + cpu_s(b) - before_s
        [peer] = [line for line in b.run("peers")[0] if line["peer"] == a.peer]
        what = f"--cipher {provides} -> {fetches}" + (" without AES instructions" if env else "")
        facts = f"{peer['transport']}, {peer['cipher']}, {seconds:.2f} s, {used_s * 1024 / SIZE_MIB:.1f} s/GiB of processor time"
        check(peer["transport"] == "tcp" and expected in (None, peer["cipher"]), f"{what}: {facts}")
        check(target.read_bytes() == source.read_bytes(), "  the copy is equal")
        target.unlink()
        for daemon in (a, b):
            daemon.kill()
