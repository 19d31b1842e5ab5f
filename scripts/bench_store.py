#!/usr/bin/env python3
"""The measurements of scripts/bench-store.sh, which says what they mean. Python's standard library only."""

from __future__ import annotations

import argparse
import json
import os
import platform
import random
import shutil
import statistics
import subprocess
import sys
import tarfile
import tempfile
import time
from dataclasses import asdict, dataclass
from io import BytesIO
from pathlib import Path

KIB, MIB, GIB = 1 << 10, 1 << 20, 1 << 30


@dataclass
class Run:
    """One process: how long it took, and what the kernel says it used."""

    seconds: float
    cpu_s: float
    peak_bytes: int
    written_bytes: int
    output: str


@dataclass
class Row:
    figure: str
    value: float | None
    unit: str
    target: float | None
    note: str

    @property
    def verdict(self) -> str:
        if self.value is None:
            return "skipped"
        if self.target is None:
            return ""
        met = self.value >= self.target if self.unit == "of dd" else self.value <= self.target
        return "met" if met else "MISSED"


def run(*command, env=None) -> Run:
    """Runs a command to its end; a failure ends the benchmark."""
    started = time.monotonic()
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        process = subprocess.Popen([str(word) for word in command], stdout=out, stderr=err, env=env)
        _, status, usage = os.wait4(process.pid, 0)
        seconds = time.monotonic() - started
        process.returncode = os.waitstatus_to_exitcode(status)
        out.seek(0)
        err.seek(0)
        if process.returncode != 0:
            sys.exit(f"{' '.join(map(str, command))}: exit {process.returncode}\n{err.read().decode()}")
        return Run(
            seconds, usage.ru_utime + usage.ru_stime, usage.ru_maxrss * KIB, usage.ru_oublock * 512, out.read().decode()
        )


def disk_bytes(folder: Path) -> int:
    """Allocated blocks of everything in a data directory but the store's reserve."""
    files = (path for path in folder.rglob("*") if path.is_file() and path.name != "reserve")
    return sum(path.lstat().st_blocks * 512 for path in files)


def drop_caches() -> bool:
    try:
        os.sync()
        Path("/proc/sys/vm/drop_caches").write_text("3\n")
        return True
    except OSError:
        return False


def copy_of_random(path: Path, size: int, seed: int) -> Path:
    generator = random.Random(seed)
    with path.open("wb") as file:
        for _ in range(0, size, 4 * MIB):
            file.write(generator.randbytes(min(4 * MIB, size)))
    os.sync()
    return path


def read_all(path: Path):
    with path.open("rb") as file:
        while file.read(8 * MIB):
            pass


class Bench:
    def __init__(self, options, work: Path):
        self.binary, self.store_bench, self.work = options.binary, options.store_bench, work
        self.quick = options.quick
        self.rounds = 3 if options.quick else 5
        self.size = 256 * MIB if options.quick else GIB
        self.rows: list[Row] = []
        self.runs: dict[str, list[float]] = {}
        self.source: Path | None = None

    def add(self, figure, value, unit, target, note=""):
        row = Row(figure, None if value is None else round(value, 4), unit, target, note)
        self.rows.append(row)
        shown = "-" if value is None else f"{value:.3f}"
        print(f"  {figure}: {shown} {unit} {row.verdict}", file=sys.stderr, flush=True)

    def casnode(self, data: Path, *words, env=None) -> Run:
        merged = {**os.environ, "CASNODE_BOOTSTRAP": "", **(env or {})}
        return run(self.binary, "--data-dir", data, "--json", "--quiet", *words, env=merged)

    def store(self, data: Path, path: Path, *words) -> Run:
        return self.casnode(data, "store", "--no-mdns", *words, path)

    def fresh(self, name: str) -> Path:
        """A data directory with a store in it and nothing else."""
        data = self.work / name
        shutil.rmtree(data, ignore_errors=True)
        self.casnode(data, "ls")
        return data

    def random_source(self) -> Path:
        if self.source is None:
            self.source = copy_of_random(self.work / "source", self.size, 1)
        read_all(self.source)
        return self.source

    def turns(self, once=(), **steps) -> dict[str, list[Run]]:
        """Every step once a round, in turn; the first round warms up and does not count. Those named in `once`
        have one round."""
        results: dict[str, list[Run]] = {name: [] for name in steps}
        for number in range(self.rounds + 1):
            for name, step in steps.items():
                if name in once and number != 1:
                    continue
                self.random_source()
                done = step()
                if number > 0:
                    results[name].append(done)
        for name, runs in results.items():
            self.runs[name] = [round(done.seconds, 4) for done in runs]
        return results

    # ------------------------------------------------------------------------------------------- figures

    def copy(self) -> Run:
        target = self.work / "copy"
        target.unlink(missing_ok=True)
        source = self.work / "source"
        return run("sh", "-c", 'cp "$1" "$2" && sync "$2"', "sh", source, target)

    def measure_store(self):
        """Storing a file that does not compress, against cp + fsync and b3sum, with both chunkers."""
        source = self.random_source()
        data = self.work / "data"

        def into_new_store(chunker):
            return lambda: self.store(self.fresh("data"), source, "--chunker", chunker)

        steps = {
            "cp+fsync": self.copy,
            "b3sum": lambda: run("b3sum", source),
            "fastcdc": into_new_store("fastcdc"),
            "fixed": into_new_store("fixed"),
        }
        others = self.others(source)
        results = self.turns(once=others, **steps, **others)
        seconds = {name: statistics.median(one.seconds for one in runs) for name, runs in results.items()}
        cpu = {name: statistics.median(one.cpu_s for one in runs) * GIB / self.size for name, runs in results.items()}
        speeds = ", ".join(f"{name} {self.size / s / 1e6:.0f} MB/s" for name, s in seconds.items())
        self.add("store, fixed, over cp + fsync", seconds["fixed"] / seconds["cp+fsync"], "x", 1.0, speeds)
        self.add("store, fastcdc, over cp + fsync", seconds["fastcdc"] / seconds["cp+fsync"], "x", None)
        self.add("store, fixed, over b3sum", seconds["fixed"] / seconds["b3sum"], "x", None, "b3sum does not write")
        self.add("time of fastcdc over fixed", seconds["fastcdc"] / seconds["fixed"], "x", 1.15)
        self.add("processor time, fixed", cpu["fixed"], "s/GiB", 0.6, f"cp+fsync {cpu['cp+fsync']:.2f}")
        self.add("processor time, fastcdc", cpu["fastcdc"], "s/GiB", 1.2, f"b3sum {cpu['b3sum']:.2f}")
        for name in others:
            note = f"once; {name} {cpu[name]:.2f} s/GiB of processor time"
            self.add(f"store, fixed, over {name}", seconds["fixed"] / seconds[name], "x", None, note)
        written = statistics.median(one.written_bytes for one in results["fixed"])
        self.add("bytes written / stored", written / self.size, "", 1.02, "as accounted to the process")
        self.add("bytes on disk / stored, 256 KiB chunks", disk_bytes(data) / self.size, "", 1.01, "without the reserve")
        (self.work / "copy").unlink()

    def others(self, source: Path):
        """Other chunk stores, as far as they are installed; every run into a new one."""
        steps = {}

        def restic():
            repository = self.work / "restic"
            shutil.rmtree(repository, ignore_errors=True)
            env = {**os.environ, "RESTIC_PASSWORD": "bench", "RESTIC_REPOSITORY": str(repository)}
            run("restic", "init", "--quiet", "--no-cache", env=env)
            done = run("restic", "backup", "--quiet", "--no-cache", source, env=env)
            shutil.rmtree(repository)
            return done

        def desync():
            chunks, index = self.work / "desync", self.work / "desync.caibx"
            shutil.rmtree(chunks, ignore_errors=True)
            chunks.mkdir()
            done = run("desync", "make", "--store", chunks, index, source)
            shutil.rmtree(chunks)
            return done

        if shutil.which("restic"):
            steps["restic backup"] = restic
        if shutil.which("desync"):
            steps["desync make"] = desync
        return steps

    def measure_memory(self):
        """The most memory while a large sparse file with random blocks in it is stored."""
        size = (2 if self.quick else 16) * GIB
        path = self.work / "sparse"
        generator = random.Random(2)
        with path.open("wb") as file:
            file.truncate(size)
            for offset in range(0, size, 16 * MIB):
                file.seek(offset + generator.randrange(15 * MIB))
                file.write(generator.randbytes(MIB))
        done = self.store(self.fresh("data"), path)
        note = f"{size >> 30} GiB in {done.seconds:.1f} s, {done.cpu_s * GIB / size:.2f} s/GiB of processor time"
        self.add("peak memory while storing", done.peak_bytes / MIB, "MiB", 64, note)
        path.unlink()

    def bench(self, *words) -> tuple[Run, dict]:
        done = run(self.store_bench, *words)
        return done, json.loads(done.output)

    def measure_chunks(self):
        """Many chunks: small ones on disk, a million and two in the index."""
        store = self.work / "chunks"
        count = 20_000 if self.quick else 100_000
        done, facts = self.bench("fill", store, count, 4096)
        note = f"{count} chunks, {facts['bytes'] / facts['seconds'] / 1e6:.0f} MB/s"
        self.add("bytes on disk / stored, 4 KiB chunks", disk_bytes(store) / facts["bytes"], "", 1.08, note)
        written = f"{done.written_bytes / facts['bytes']:.3f} bytes written / stored"
        shutil.rmtree(store)
        million = 100_000 if self.quick else 1_000_000
        _, filled = self.bench("fill", store, million, 1_100)
        is_cold = drop_caches()
        _, opened = self.bench("open", store)
        note = f"{'cold' if is_cold else 'warm'}; 4 KiB chunks: {written}"
        self.add(f"open with {million / 1e6:g} M chunks", opened["open_s"], "s", 1.0, note)
        _, grown = self.bench("fill", store, million, 1_100)
        _, again = self.bench("open", store)
        peaks = {"filling": filled["peak_kib"], "growing": grown["peak_kib"], "walking": again["peak_kib"]}
        note = "MiB: " + ", ".join(f"{name} {kib // KIB}" for name, kib in peaks.items())
        figure = f"peak memory with {2 * million / 1e6:g} M chunks"
        self.add(figure, max(peaks.values()) / KIB, "MiB", 300, note)
        shutil.rmtree(store)

    def measure_read(self):
        """Cold reads in order through the store, every byte verified, against dd of the source."""
        source = self.random_source()
        data = self.fresh("data")
        address = json.loads(self.store(data, source).output)["address"]
        folder = next(path.parent for path in data.rglob("LOCK"))
        speeds: dict[str, list[float]] = {"dd": [], "cold": [], "warm": []}
        for _ in range(self.rounds):
            if not drop_caches():
                self.add("cold sequential read", None, "of dd", 0.8, "only root can drop the page cache")
                return
            speeds["dd"].append(self.size / run("dd", f"if={source}", "of=/dev/null", "bs=1M").seconds)
            drop_caches()
            for kind in ("cold", "warm"):
                _, facts = self.bench("read", folder, address)
                speeds[kind].append(facts["bytes"] / facts["seconds"])
        median = {name: statistics.median(values) for name, values in speeds.items()}
        note = ", ".join(f"{name} {value / 1e6:.0f} MB/s" for name, value in median.items())
        self.add("cold sequential read", median["cold"] / median["dd"], "of dd", 0.8, note)

    def measure_space(self):
        """Half of the files removed: what the rest occupies after a collection."""
        data = self.fresh("data")
        addresses, size = [], self.size // 16
        for number in range(16):
            path = copy_of_random(self.work / "part", size, 100 + number)
            addresses.append(json.loads(self.store(data, path).output)["address"])
        before = disk_bytes(data)
        for address in addresses[::2]:
            self.casnode(data, "rm", address)
        removed = disk_bytes(data)
        collected = self.casnode(data, "gc")
        after = disk_bytes(data)
        note = f"rm alone {removed / (8 * size):.3f}; before {before / (8 * size):.3f}; gc {collected.seconds:.2f} s"
        self.add("space after deleting half and gc / live bytes", after / (8 * size), "", 1.01, note)
        (self.work / "part").unlink()

    def measure_again(self):
        """Storing what is there already."""
        source = self.random_source()
        data = self.fresh("data")
        self.store(data, source)
        before = disk_bytes(data)
        results = self.turns(
            b3sum=lambda: run("b3sum", source),
            one_thread=lambda: run("b3sum", "--num-threads", "1", source),
            again=lambda: self.store(data, source),
        )
        seconds = {name: statistics.median(one.seconds for one in runs) for name, runs in results.items()}
        new = sum(json.loads(one.output)["new_bytes"] for one in results["again"])
        note = f"{new} new bytes, disk {disk_bytes(data) - before:+d}; " + ", ".join(
            f"{name} {value:.3f} s" for name, value in seconds.items()
        )
        self.add("storing it again, over b3sum", seconds["again"] / seconds["b3sum"], "x", 1.10, note)
        self.add("chunk bytes written again", float(new), "bytes", 0)

    def measure_delta(self):
        """The next version of a toolchain: files of at least 1 % of number and bytes are other files."""
        sysroot = run("rustc", "--print", "sysroot").output.strip()
        root = Path(sysroot) / "lib"
        paths = sorted(path for path in root.rglob("*") if path.is_file() and not path.is_symlink())
        total = sum(path.stat().st_size for path in paths)
        generator = random.Random(3)
        changed: dict[Path, bytes] = {}
        for path in generator.sample(paths, len(paths)):
            if len(changed) >= len(paths) / 100 and sum(map(len, changed.values())) >= total / 100:
                break
            changed[path] = generator.randbytes(path.stat().st_size + generator.randrange(5000))
        data = self.fresh("data")
        for version in (1, 2):
            archive = self.work / "toolchain.tar"
            with tarfile.open(archive, "w") as tar:
                for path in paths:
                    facts = tar.gettarinfo(path, str(path.relative_to(root)))
                    if version == 2 and path in changed:
                        facts.size = len(changed[path])
                        tar.addfile(facts, BytesIO(changed[path]))
                    else:
                        with path.open("rb") as file:
                            tar.addfile(facts, file)
            stored = json.loads(self.store(data, archive, "--chunker", "fastcdc").output)
        changed_bytes = sum(map(len, changed.values()))
        note = f"{len(changed)} of {len(paths)} files, {changed_bytes / MIB:.1f} of {total / MIB:.0f} MiB"
        self.add("second version: new bytes / changed bytes", stored["new_bytes"] / changed_bytes, "", 1.5, note)
        archive.unlink()


FIGURES = ["store", "memory", "chunks", "read", "space", "again", "delta"]


def machine() -> str:
    cpu = next((line.split(":")[1].strip() for line in open("/proc/cpuinfo") if line.startswith("model name")), "?")
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / GIB
    return f"{cpu}, {os.cpu_count()} processors, {memory:.0f} GiB, {platform.system()} {platform.release()}"


def file_system(folder: Path) -> str:
    return run("df", "--output=fstype,source", folder).output.splitlines()[-1].strip()


def print_table(rows: list[Row]):
    width = max(len(row.figure) for row in rows)
    print(f"{'figure':<{width}}  {'measured':>14}  {'target':>8}  {'':7}  beside it")
    for row in rows:
        measured = "-" if row.value is None else f"{row.value:.3f} {row.unit}".rstrip()
        sign = ">=" if row.unit == "of dd" else "<="
        target = "" if row.target is None else f"{sign} {row.target:g}"
        print(f"{row.figure:<{width}}  {measured:>14}  {target:>8}  {row.verdict:7}  {row.note}")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--binary", type=Path, required=True)
    parser.add_argument("--store-bench", type=Path, required=True)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--dir", type=Path)
    parser.add_argument("figures", nargs="*", metavar="FIGURE", choices=[[], *FIGURES], default=[])
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="casnode-bench-", dir=options.dir) as name:
        bench = Bench(options, Path(name))
        head = f"{machine()}; {file_system(Path(name))}; {bench.size >> 20} MiB, median of {bench.rounds}"
        for figure in options.figures or FIGURES:
            getattr(bench, f"measure_{figure}")()
    print(head)
    print_table(bench.rows)
    if options.json:
        figures = [{**asdict(row), "verdict": row.verdict} for row in bench.rows]
        options.json.write_text(json.dumps({"machine": head, "figures": figures, "runs": bench.runs}, indent=1) + "\n")


if __name__ == "__main__":
    main()
