"""Measures directories over loopback.

Two rows. `tree`: a folder (by default the Rust toolchain of whoever runs this) is stored, stored again, and fetched by another node;
`diff -r` and the bits that let files be run say whether it is the same folder. `many`: 10,000 files of 10 KiB are stored and fetched,
beside one tar of them that is made, stored, fetched and unpacked. Every figure is wall time; ratios are printed with what they should be.
"""

import argparse
import json
import os
import shutil
import stat
import subprocess
import sys
import tempfile
import time
from pathlib import Path


def options():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bin", default="target/release/casnode", help="the binary to measure [target/release/casnode]")
    parser.add_argument("--tree", type=Path, default=toolchain(), help="the folder of the row `tree` [the Rust toolchain]")
    parser.add_argument("--dir", help="where everything is made and removed again [the temporary folder]")
    parser.add_argument("--only", choices=["tree", "many"], help="this row alone")
    parser.add_argument("--runs", type=int, default=3, help="how often the row `many` is run; the medians are compared [3]")
    return parser.parse_args()


def toolchain():
    try:
        found = subprocess.run(["rustc", "--print", "sysroot"], capture_output=True, text=True, check=True)
        return Path(found.stdout.strip())
    except (OSError, subprocess.CalledProcessError):
        return None


class Node:
    """A daemon on a fresh data directory, listening on loopback alone."""

    def __init__(self, binary, home, bootstrap=()):
        self.binary, self.home = binary, home
        words = ["daemon", "--json", "--no-mdns", "--listen", "/ip4/127.0.0.1/tcp/0"]
        for peer in bootstrap:
            words += ["--bootstrap", peer]
        self.log = open(home.with_suffix(".log"), "wb")
        self.process = subprocess.Popen(self.words(words), stdout=subprocess.PIPE, stderr=self.log)
        self.address = json.loads(self.process.stdout.readline())["listen"][0]

    def words(self, words):
        return [self.binary, "--data-dir", str(self.home), *words]

    def call(self, *words):
        """Seconds, and what `--json` says."""
        began = time.monotonic()
        ran = subprocess.run(self.words([*words, "--json"]), capture_output=True, text=True)
        took = time.monotonic() - began
        if ran.returncode != 0:
            sys.exit(f"casnode {' '.join(words)} ended with {ran.returncode}:\n{ran.stderr}")
        return took, json.loads(ran.stdout)

    def memory_mib(self):
        for line in Path(f"/proc/{self.process.pid}/status").read_text().splitlines():
            if line.startswith("VmHWM"):
                return int(line.split()[1]) / 1024
        return 0.0

    def end(self):
        self.process.terminate()
        self.process.wait()
        self.log.close()


def pair(binary, work):
    """A node that stores and one that fetches, which know each other."""
    store, fetch = work / "store", work / "fetch"
    for home in (store, fetch):
        home.mkdir()
    first = Node(binary, store)
    return first, Node(binary, fetch, [first.address])


def is_same(one, other):
    """Whether two folders have the same files, links and bits that let files be run."""
    if subprocess.run(["diff", "-r", "--no-dereference", one, other]).returncode != 0:
        return False
    for folder, _, files in os.walk(one):
        for name in files:
            path = Path(folder) / name
            twin = other / path.relative_to(one)
            if not path.is_symlink() and (path.stat().st_mode ^ twin.stat().st_mode) & stat.S_IXUSR:
                print(f"{path} and {twin} differ in who may run them")
                return False
    return True


def show(what, seconds, more=""):
    print(f"  {what:<44} {seconds:8.2f} s  {more}", flush=True)


def judge(what, ratio, most):
    verdict = "met" if ratio <= most else "MISSED"
    print(f"  {what:<44} {ratio:8.2f}    at most {most}: {verdict}", flush=True)
    return ratio <= most


def tree(binary, work, source):
    print(f"tree: {source}")
    first, second = pair(binary, work)
    try:
        took, told = first.call("store", str(source))
        show("store", took, f"{told['files']} files, {told['bytes'] / 1e6:.0f} MB; peak {first.memory_mib():.0f} MiB")
        again, repeated = first.call("store", str(source))
        show("store again", again, f"{repeated['read_files']} read, {repeated['new_bytes']} bytes written")
        out = work / "out"
        got, made = second.call("get", told["address"], "-o", str(out))
        show("get over loopback", got, f"{made['fetched']} fetched; peak {second.memory_mib():.0f} MiB")
        there, _ = second.call("get", told["address"], "-o", str(out))
        show("get again, all of it in place", there)
        same = is_same(source, out)
        print(f"  diff -r and executable bits: {'the same' if same else 'DIFFERENT'}")
        met = judge("store again / store", again / took, 0.1)
        return same and met and repeated["new_bytes"] == 0
    finally:
        first.end()
        second.end()


def make_many(folder, count=10_000, size=10 << 10):
    for number in range(count):
        path = folder / f"{number % 100:02}" / f"{number}.bin"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(os.urandom(size))


def many(binary, work, runs):
    print("many: 10,000 files of 10 KiB")
    times = {name: [] for name in ("store", "tar", "get", "untar")}
    for run in range(runs):
        place = work / f"run{run}"
        source, out = place / "source", place / "out"
        make_many(source)
        os.sync()
        first, second = pair(binary, place)
        try:
            took, told = first.call("store", str(source))
            times["store"].append(took)
            got, _ = second.call("get", told["address"], "-o", str(out))
            times["get"].append(got)
            if not is_same(source, out):
                sys.exit("the folder that was fetched is another one")
        finally:
            first.end()
            second.end()
        shutil.rmtree(place / "store")
        shutil.rmtree(place / "fetch")
        os.sync()
        first, second = pair(binary, place)
        try:
            tar = place / "one.tar"
            began = time.monotonic()
            subprocess.run(["tar", "-cf", tar, "-C", place, "source"], check=True)
            packed = time.monotonic() - began
            took, told = first.call("store", str(tar))
            times["tar"].append(packed + took)
            got, _ = second.call("get", told["address"], "-o", str(place / "got.tar"))
            (place / "untar").mkdir()
            began = time.monotonic()
            subprocess.run(["tar", "-xf", place / "got.tar", "-C", place / "untar"], check=True)
            times["untar"].append(got + time.monotonic() - began)
        finally:
            first.end()
            second.end()
        shutil.rmtree(place)
    middle = {name: sorted(took)[len(took) // 2] for name, took in times.items()}
    show("store", middle["store"])
    show("tar, and store of that", middle["tar"])
    show("get over loopback", middle["get"])
    show("get of the tar, and untar", middle["untar"])
    met = judge("store / (tar + store)", middle["store"] / middle["tar"], 2)
    return judge("get / (get + untar)", middle["get"] / middle["untar"], 2) and met


def main():
    chosen = options()
    binary = str(Path(chosen.bin).resolve())
    with tempfile.TemporaryDirectory(prefix="cnt", dir=chosen.dir) as work:
        met = True
        if chosen.only != "tree":
            (Path(work) / "many").mkdir()
            met = many(binary, Path(work) / "many", chosen.runs)
        if chosen.only != "many":
            if chosen.tree is None:
                sys.exit("name a folder with --tree: no Rust toolchain was found")
            (Path(work) / "tree").mkdir()
            met = tree(binary, Path(work) / "tree", chosen.tree.resolve()) and met
    sys.exit(0 if met else 1)


if __name__ == "__main__":
    main()
