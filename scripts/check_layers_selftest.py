#!/usr/bin/env python3
"""The check of the layer check: clean input passes, and every rule catches a planted violation at its line.

    scripts/check_layers_selftest.py

Exit code: 0 all violations were found, 1 the check is blind somewhere. Python's standard library only.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from check_layers import ARROWS, check

CLEAN = {
    "cas/src/codec.rs": "use bincode::config;\n",
    "cas/src/store/mod.rs": "mod sled;\npub use self::sled::Index;\nfn f() { sled::open(); }\n",
    "cas/src/store/sled.rs": "use sled::Db;\nfn open(d: &sled::Db) {}\n",
    "dht/src/codec.rs": "fn f() { bincode::encode(); }\n",
    "dht/src/lib.rs": "use libp2p::PeerId;\nfn g() { set.spawn(async {}); }\n",
    "dht/src/announce/plan.rs": "pub fn plan<'a>(x: &'a str) -> char { '\"' }\n",
    "node/src/sched/mod.rs": "//! No Instant, no tokio.\npub fn next(now: u64) {} /* async /* Instant */ tokio */\n",
    "node/src/lib.rs": (
        'const A: &str = "libp2p::x \\" bincode::y";\nconst B: &str = r#"tokio::spawn " sled::z"#;\n'
        "// tokio::spawn, unbounded_channel()\n"
        "#[cfg(test)]\nmod tests {\n    fn t() { tokio::spawn(x); unbounded_channel(); }\n}\n"
        "#[cfg(test)]\nuse libp2p::X;\n#[tokio::test]\nasync fn t() { tokio::spawn(x); }\n"
        "fn f() { let (a, b) = mpsc::channel(8); set.spawn(x); tokio::task::spawn_blocking(y); }\n"
    ),
    "cli/src/main.rs": "fn main() {}\n",
    "cli/src/signals.rs": "fn g() { tokio::spawn(async {}); }\n",
}

# (file, source, the line where a finding is due)
PLANTED = (
    ("cas/src/manifest.rs", "// x\nuse bincode::Encode;\n", 2),
    ("cas/src/import.rs", "\n\nfn f(d: ::sled::Db) {}\n", 3),
    ("dht/src/lib.rs", "use sled::Db;\n", 1),
    ("node/src/peer.rs", "/* a\n b */ use libp2p::PeerId;\n", 2),
    ("node/src/engine.rs", "fn f() {\n  let x = tokio::sync::mpsc::unbounded_channel::<Vec<u8>>();\n}\n", 2),
    ("cli/src/main.rs", "fn f() { let x = std::sync::mpsc::channel::<u8>(); }\n", 1),
    ("node/src/engine.rs", "#[cfg(test)]\nmod tests { fn a() {} }\nfn f() { tokio::spawn(x); }\n", 3),
    ("cli/src/main.rs", "use tokio::task;\nfn f() { task::spawn(x); }\n", 2),
    ("node/src/sched/mod.rs", "fn f() { let s = ['\\x22', '{', b'\\'']; let t = Instant::now(); }\n", 1),
    ("node/src/sched/limiter.rs", "async fn f() {}\n", 1),
)


def synthetic_metadata(extra_arrow=None, extra_kind=None, newest="1.88.1"):
    """What `cargo metadata` says of a workspace with the right arrows, and one more."""
    externals = ("tokio", "libp2p", "blake3", "anyhow")
    arrows = [(a, b, None) for a, targets in ARROWS.items() for b in sorted(targets)]
    arrows += [("casnode-dht", "libp2p", None), ("libp2p", "tokio", None), ("casnode-cas", "blake3", None)]
    arrows += [("casnode-cas", "tokio", "dev"), ("casnode-cli", "casnode-dht", "dev")]
    if extra_arrow:
        arrows.append((*extra_arrow, extra_kind))
    names = [*ARROWS, *externals]
    packages = [
        {
            "name": n,
            "id": n,
            "version": "1.0.0",
            "rust_version": newest if n == "tokio" else "1.89",
            "manifest_path": f"/nowhere/{n.removeprefix('casnode-')}/Cargo.toml",
            "dependencies": [{"name": b, "kind": kind} for a, b, kind in arrows if a == n],
        }
        for n in names
    ]
    nodes = [
        {"id": n, "deps": [{"pkg": b, "dep_kinds": [{"kind": kind}]} for a, b, kind in arrows if a == n]}
        for n in names
    ]
    return {"packages": packages, "workspace_members": list(ARROWS), "resolve": {"nodes": nodes}}


def findings_for(files, metadata):
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        for name, text in files.items():
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            (root / name).write_text(text, encoding="utf-8")
        return check(root, metadata)[1]


def self_test():
    """Every rule passes clean input and catches a planted violation at its line."""
    failures = []
    clean = findings_for(CLEAN, synthetic_metadata())
    if clean:
        failures.append(f"a clean workspace has findings: {clean}")
    for name, source, line in PLANTED:
        found = findings_for({**CLEAN, name: source}, synthetic_metadata())
        if not any(f.startswith(f"{name}:{line}:") for f in found):
            failures.append(f"violation planted at {name}:{line} was not found; findings: {found}")
    bad_arrows = [
        (("casnode-cas", "casnode-dht"), None),
        (("casnode-dht", "casnode-cas"), "build"),
        (("casnode-cli", "casnode-cas"), None),
        (("casnode-node", "casnode-cli"), None),
        (("casnode-cli", "libp2p"), None),
        (("casnode-node", "anyhow"), None),
        (("casnode-cas", "tokio"), None),
        (("blake3", "tokio"), None),
    ]
    for arrow, kind in bad_arrows:
        if not findings_for(CLEAN, synthetic_metadata(arrow, kind)):
            failures.append(f"the forbidden arrow {arrow[0]} -> {arrow[1]} was not found")
    gone = {name: text for name, text in CLEAN.items() if not name.startswith("node/src/sched")}
    if not findings_for(gone, synthetic_metadata()):
        failures.append("a rule about a folder that is not there was not reported")
    if not findings_for(CLEAN, synthetic_metadata(newest="1.90")):
        failures.append("a dependency that needs a newer Rust was not reported")
    for failure in failures:
        print(f"self-test: {failure}", file=sys.stderr)
    planted = len(PLANTED) + len(bad_arrows) + 2
    print(f"layer check, self-test: {planted - len(failures)} of {planted} planted violations found")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(self_test())
