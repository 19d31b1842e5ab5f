#!/usr/bin/env python3
"""Proves the arrows between casnode's crates, and a few rules that the compiler does not know.

    scripts/check_layers.py

scripts/check_layers_selftest.py plants a violation of every rule and sees that it is caught.
Arrows come from `cargo metadata` (normal and build dependencies; tests may reach further). The other
rules read the crates' `src` folders with comments, string literals and `#[cfg(test)]` items blanked out.
Exit code: 0 all rules hold, 1 a rule is broken, 2 the check itself could not run.
Python's standard library only.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

# ---------------------------------------------------------------------------------------------------
# The rules. To change one, change it here, with the reason.

# cli -> node -> {cas, dht}, and nothing else.
ARROWS = {
    "casnode-cli": {"casnode-node"},
    "casnode-node": {"casnode-cas", "casnode-dht"},
    "casnode-cas": set(),
    "casnode-dht": set(),
}

# External crate (or prefix ending in '*') -> the only members that may depend on it directly.
RESERVED = {
    "libp2p*": {"casnode-dht"},  # nobody above the network crate names its library
    "bincode": {"casnode-cas", "casnode-dht"},  # one codec module each; unmaintained, must stay replaceable
    "sled": {"casnode-cas", "casnode-dht"},  # one module each, behind a trait
    "anyhow": {"casnode-cli"},  # libraries have typed errors
}

# Member -> external crates it must not even reach through others.
UNREACHABLE = {
    "casnode-cas": ("tokio", "libp2p", "libp2p-core", "futures"),  # content: no network, no async runtime
    "casnode-dht": ("blake3", "fastcdc"),  # the network knows keys and bytes, not content
}


@dataclass(frozen=True)
class Ban:
    """Code that may appear in the listed files only."""

    name: str
    pattern: str  # searched in blanked source
    allowed: dict = field(default_factory=dict)  # file or folder -> reason
    within: tuple = ("cas/src", "dht/src", "node/src", "cli/src")
    files_per_crate: int | None = None  # instead of `allowed`: how many files of one crate may match
    crate: str | None = None  # the pattern is the use of this crate: a module of that name is not it
    must_exist: bool = False  # every folder of `within` must hold source, or the rule proves nothing


def crate_use(name):
    """A path that starts at the crate `name`, or an import of it."""
    return rf"(?<![\w:])(?:::)?{name}\s*::|\buse\s+(?:::)?{name}\b|\bextern\s+crate\s+{name}\b"


BANS = (
    Ban("bincode is named in one module a crate", crate_use("bincode"), files_per_crate=1, crate="bincode"),
    Ban(
        "sled is named in the store modules alone",
        crate_use("sled"),
        allowed={
            "cas/src/store/sled.rs": "the index of the chunk store",
            "dht/src/records/disk.rs": "provider records, values and the announce schedule",
        },
        crate="sled",
    ),
    Ban(
        "libp2p is named in dht alone",
        r"\blibp2p\w*",
        allowed={"dht/src": "the crate that wraps it"},
    ),
    Ban(
        "no unbounded channels",
        r"\bunbounded(?:_channel)?\s*(?:::\s*<[^;{]*?>)?\s*\("
        r"|\bUnbounded(?:Sender|Receiver)\b"
        r"|\buse\b[^;]*\bunbounded(?:_channel)?\b"
        r"|\bmpsc::channel\s*(?:::\s*<[^;{]*?>)?\s*\(\s*\)",
    ),
    Ban(
        "tasks are spawned where they are owned",
        # Elsewhere a task belongs to a JoinSet or a tracker, which ends it.
        r"\btokio::(?:task::)?spawn(?:_local)?\b|(?<![\w:])task::spawn(?:_local)?\b",
        allowed={
            "cli/src/signals.rs": "waits for signals as long as the process lives",
            "cli/src/cmd/daemon.rs": "waits for the end of standard input as long as the process lives",
        },
    ),
    Ban(
        "the state machines know no clock, no socket, no disk and no async",
        r"\bInstant\b|\bSystemTime\b|\btokio\b|\basync\b|\.await\b|\bstd::(?:fs|net|thread)\b|\brand::rng\b|\bthread_rng\b",
        within=("node/src/sched", "dht/src/announce/plan.rs"),
        must_exist=True,
    ),
)

# ---------------------------------------------------------------------------------------------------
# Reading Rust: blank what is not code, keep every line where it was.

LEXEME = re.compile(
    r"""(?P<line>//[^\n]*)
      | (?P<block>/\*)
      | (?P<raw>\b(?:b|c)?r(?P<hashes>\#*)")
      | (?P<string>(?:\bb|\bc)?")
      | (?P<char>(?:\bb)?'(?:\\(?:x[0-9a-fA-F]{2}|u\{[0-9a-fA-F_]*\}|[^\n])|[^'\\\n])')""",
    re.VERBOSE,
)


def spaces(text):
    return re.sub(r"[^\n]", " ", text)


def end_of_block_comment(source, start):
    depth, at = 1, start
    for mark in re.finditer(r"/\*|\*/", source[start:]):
        depth += 1 if mark.group() == "/*" else -1
        at = start + mark.end()
        if depth == 0:
            return at
    return len(source)


def end_of_string(source, start):
    while start < len(source) and source[start] != '"':
        start += 2 if source[start] == "\\" else 1
    return start + 1


def blank_literals(source):
    """Comments, strings and character literals become spaces; lifetimes stay."""
    out, at = [], 0
    while match := LEXEME.search(source, at):
        start, end = match.span()
        if match.lastgroup == "block" or match.group("block"):
            end = end_of_block_comment(source, end)
        elif match.group("raw"):
            close = source.find('"' + match.group("hashes"), end)
            end = len(source) if close < 0 else close + 1 + len(match.group("hashes"))
        elif match.group("string"):
            end = end_of_string(source, end)
        out += [source[at:start], spaces(source[start:end])]
        at = end
    return "".join(out) + source[at:]


def end_of_item(code, start):
    """Where the item after an attribute ends: its closing brace, or a semicolon before any brace."""
    depth = 0
    for at in range(start, len(code)):
        char = code[at]
        if char in "{([":
            depth += 1
        elif char in "})]":
            depth -= 1
            if depth == 0 and char == "}":
                return at + 1
        elif char == ";" and depth == 0:
            return at + 1
    return len(code)


TEST_ATTRIBUTE = re.compile(r"#\s*\[\s*cfg\s*\(\s*(?:all\s*\(\s*)?test\b[^\]]*\]|#\s*\[\s*(?:tokio::)?test\b[^\]]*\]")


def product_code(source):
    """The source with only what ships left in it, line for line."""
    code = blank_literals(source)
    while match := TEST_ATTRIBUTE.search(code):
        end = end_of_item(code, match.end())
        code = code[: match.start()] + spaces(code[match.start() : end]) + code[end:]
    return code


def test_only(path):
    """Files that are test modules by name (`mod tests;` is declared under cfg(test))."""
    return path.name in ("tests.rs", "test.rs") or "tests" in path.parts


def sources(root, folder):
    top = root / folder
    files = [top] if top.is_file() else sorted(top.rglob("*.rs")) if top.is_dir() else []
    return [f for f in files if not test_only(f.relative_to(root))]


# ---------------------------------------------------------------------------------------------------
# The checks. Each yields findings ("file:line: what") and returns what it proved.


def is_allowed(relative, allowed):
    return any(relative == entry or relative.startswith(entry + "/") for entry in allowed)


def matches(ban, code):
    """Line numbers where the ban's pattern appears, a local module of the crate's name aside."""
    local = ban.crate and re.search(rf"\bmod\s+{ban.crate}\s*[;{{]", code)
    for match in re.finditer(ban.pattern, code):
        if local and not match.group().lstrip().startswith("::"):
            continue
        yield code.count("\n", 0, match.start()) + 1


def check_ban(root, ban, findings):
    seen, per_crate, scanned = [], {}, 0
    for folder in ban.within:
        files = sources(root, folder)
        if ban.must_exist and not files:
            findings.append(f"{folder}:1: no source here, so the rule '{ban.name}' proves nothing: correct the rule")
        for path in files:
            scanned += 1
            relative = path.relative_to(root).as_posix()
            lines = list(matches(ban, product_code(path.read_text(encoding="utf-8"))))
            if not lines:
                continue
            if ban.files_per_crate is not None:
                per_crate.setdefault(relative.split("/")[0], []).append((relative, lines[0]))
            elif is_allowed(relative, ban.allowed):
                seen.append(relative)
            else:
                findings += [f"{relative}:{line}: breaks '{ban.name}'" for line in lines]
    for crate, places in per_crate.items():
        if len(places) > ban.files_per_crate:
            others = ", ".join(name for name, _ in places)
            findings += [f"{name}:{line}: breaks '{ban.name}': {crate} has it in {others}" for name, line in places]
        seen += [name for name, _ in places]
    where = f"; found in {', '.join(seen)}" if 0 < len(seen) <= 4 else f"; found in {len(seen)} files" if seen else ""
    return f"{ban.name} ({scanned} files{where})"


def manifest_line(package, name):
    """`file:line` of a dependency in its package's manifest, relative to the workspace."""
    path = Path(package["manifest_path"])
    shown = f"{path.parent.name}/{path.name}"
    try:
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
            if re.match(rf'\s*"?{re.escape(name)}"?\s*[.=]|\[.*dependencies\.{re.escape(name)}\]', line):
                return f"{shown}:{number}"
    except OSError:
        pass
    return f"{shown}:1"


def ships(dependency):
    return dependency["kind"] in (None, "normal", "build")


def check_arrows(metadata, findings):
    ids = set(metadata["workspace_members"])
    members = {p["name"]: p for p in metadata["packages"] if p["id"] in ids}
    for name in sorted(ARROWS.keys() ^ members.keys()):
        what = "is not in the workspace" if name in ARROWS else "has no place in the layers"
        findings.append(f"Cargo.toml:1: crate {name} {what}")
    arrows = []
    for name, package in sorted(members.items()):
        for dependency in filter(ships, package["dependencies"]):
            target = dependency["name"]
            if target in members:
                arrows.append(f"{name} -> {target}")
                if target not in ARROWS.get(name, set()):
                    findings.append(f"{manifest_line(package, target)}: forbidden arrow {name} -> {target}")
            for reserved, owners in RESERVED.items():
                hit = target.startswith(reserved[:-1]) if reserved.endswith("*") else target == reserved
                if hit and name not in owners:
                    who = ", ".join(sorted(owners))
                    findings.append(f"{manifest_line(package, target)}: {name} depends on {target}, which belongs to {who}")
    shown = ", ".join(sorted(set(arrows))).replace("casnode-", "")
    return f"arrows between {len(members)} crates: {shown}; {', '.join(RESERVED)} only where they belong"


def check_reach(metadata, findings):
    names = {p["id"]: p["name"] for p in metadata["packages"]}
    manifests = {p["name"]: p for p in metadata["packages"]}
    edges = {
        node["id"]: [d["pkg"] for d in node["deps"] if any(ships(kind) for kind in d["dep_kinds"])]
        for node in metadata["resolve"]["nodes"]
    }
    proved = []
    for member, banned in UNREACHABLE.items():
        start = next((i for i in metadata["workspace_members"] if names.get(i) == member), None)
        if start is None:
            continue
        came_from, todo = {start: None}, [start]
        while todo:
            here = todo.pop()
            for there in edges.get(here, []):
                if there not in came_from:
                    came_from[there] = here
                    todo.append(there)
        for found in sorted(came_from, key=names.get):
            if names[found] in banned:
                trail, step = [], found
                while step is not None:
                    trail.append(names[step])
                    step = came_from[step]
                via = " -> ".join(reversed(trail))
                findings.append(f"{manifest_line(manifests[member], trail[-2])}: {member} must not reach {names[found]}: {via}")
        proved.append(f"{member} reaches {len(came_from) - 1} crates, none of {', '.join(banned)}")
    return "; ".join(proved)


def version(text):
    return tuple(int(part) for part in (text.split("-")[0] + ".0.0").split(".")[:3])


def check_rust_version(metadata, findings):
    """The stated minimum Rust is one that every dependency can be built with."""
    ids = set(metadata["workspace_members"])
    stated = {p["rust_version"] for p in metadata["packages"] if p["id"] in ids}
    if len(stated) != 1 or None in stated:
        findings.append(f"Cargo.toml:1: the crates do not state one minimum Rust version: {sorted(map(str, stated))}")
        return ""
    (minimum,) = stated
    others = [p for p in metadata["packages"] if p["id"] not in ids and p.get("rust_version")]
    for package in others:
        if version(package["rust_version"]) > version(minimum):
            needs = f"{package['name']} {package['version']} needs Rust {package['rust_version']}"
            findings.append(f"Cargo.lock:1: {needs}, the workspace promises {minimum}")
    return f"Rust {minimum} is what every crate states, and none of {len(others)} dependencies needs a newer one"


def check(root, metadata):
    """All rules over one workspace: (what was proved, findings)."""
    findings = []
    proved = [f(metadata, findings) for f in (check_arrows, check_reach, check_rust_version)]
    proved += [check_ban(root, ban, findings) for ban in BANS]
    return proved, findings


def main():
    root = Path(__file__).resolve().parent.parent
    command = ["cargo", "metadata", "--format-version", "1", "--locked"]
    try:
        answer = subprocess.run(command, cwd=root, capture_output=True, text=True, check=True, timeout=300)
    except (OSError, subprocess.SubprocessError) as error:
        print(f"layer check: `{' '.join(command)}` failed: {error}\n{getattr(error, 'stderr', '') or ''}", file=sys.stderr)
        return 2
    proved, findings = check(root, json.loads(answer.stdout))
    if findings:
        print(*sorted(set(findings)), sep="\n", file=sys.stderr)
        print(f"layer check: {len(set(findings))} violation(s)", file=sys.stderr)
        return 1
    print(*(f"layer check: {line}" for line in proved), sep="\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
