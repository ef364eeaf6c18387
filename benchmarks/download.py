"""From STAC items to a finished cube on disk: `eearth download` beside other libraries, on one server and one machine.

    python benchmarks/download.py [--folder DIR] [--contenders NAME ...] [--latencies 0 50] [--repeats 3] [--json FILE]

Needs nginx with its echo module (Debian: `apt-get install nginx-light`) and `pip install -e '.[bench]'`.

Every contender writes the same cube (24 dates, 10 bands and the mask, 1024 x 1024 pixels off the files' blocks) in a
fresh process from the same nginx on the loopback, which waits before it answers each request. Requests and bytes are
the server's count. All pixels are compared with the files'. The rows "reading alone" end with pixels in memory.

`whole` is the wall clock of the process, `work` leaves out the interpreter's start and the imports: for eearth the
seconds in its manifest, for a library from its first call on. A library writes with xarray's `to_zarr` as it comes, and
once more (`lz4`) with the codec that eearth writes, which is faster. CPU is the process's, or, for what only reads, the
work's. Contenders take turns; each row is the fastest of the repeats, with the share of the machine's CPU time that
something else used meanwhile, and the load average when it began: where the former is more than a few per cent, the
seconds tell little.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from itertools import product
from pathlib import Path
from typing import Any

from download_site import BANDS, DATES, MASK, Server, file_of, make_site, serving, write_catalog

HERE = Path(__file__).parent
EEARTH = "eearth download"
MEGA = 1e6
IDLE = 0.1
# Share of the machine's CPU time that something else may use during a run that counts as one on a quiet machine.
QUIET = 0.03

# (name, threads): None is the contender's own choice.
LIBRARIES = ("odc-stac pool", "odc-stac dask", "stackstac dask")
CUBES = (
    (EEARTH, None),
    *((library + codec, threads) for library in LIBRARIES for codec in ("", " lz4") for threads in (16, 32)),
)
READERS = (
    ("the wire", 32),
    ("the ceiling", 32),
    ("rasterio", 8),
    ("rasterio", 16),
    ("rasterio", 32),
    ("eearth reader", 8),
    ("eearth reader", 16),
    ("eearth reader", 32),
)


@dataclass(frozen=True)
class Contender:
    """Who, and with how many threads."""

    name: str
    threads: int | None
    cube: bool

    @property
    def title(self) -> str:
        """As it stands in the table."""
        return f"{self.name} {self.threads}" if self.threads else self.name


@dataclass(frozen=True)
class Result:
    """What one run took.

    Attributes:
        whole: Seconds of the process.
        work: Seconds without the interpreter's start and the imports.
        cpu: CPU seconds, user and system.
        rss: Most memory at a time, in bytes, of the process or of one that it started.
        requests: Requests that the server got.
        received: Bytes of bodies that the server sent.
        server: CPU seconds of the server.
        others: Share of the machine's CPU time that was used by anything else meanwhile.
        load: The machine's load average over a minute when the run began.
        right: Whether the pixels are those of the files.
    """

    whole: float
    work: float
    cpu: float
    rss: int
    requests: int
    received: int
    server: float
    others: float
    load: float
    right: bool


class FailedError(Exception):
    """A contender's process failed: the others are measured all the same."""


class Bench:
    """The files, and where everything is written."""

    def __init__(self, folder: Path) -> None:
        """Make the files, in a process of its own: what this one held would count as its children's memory."""
        self.folder = folder
        self.site = folder / "site"
        subprocess.run([sys.executable, HERE / "download_site.py", self.site], check=True)
        self.facts = make_site(self.site)

    @property
    def needed(self) -> int:
        """Bytes of the blocks that the region touches."""
        return sum(facts["needed"] for facts in self.facts.values())

    def run(self, contender: Contender, server: Server) -> Result:
        """Run a contender in a fresh process and check what it made."""
        catalog = write_catalog(self.folder / "catalog", server.address)
        output = self.folder / "output"
        shutil.rmtree(output, ignore_errors=True)
        output.mkdir()
        os.sync()  # what the one before wrote must not be written at this one's expense
        server.traffic()
        load, busy, served = os.getloadavg()[0], _busy_seconds(), server.cpu()
        said, whole, cpu, rss = _timed(self._command(contender, catalog, output), output)
        busy, served = _busy_seconds() - busy, server.cpu() - served
        others = max(0.0, busy - served - cpu) / (whole * (os.cpu_count() or 1))
        requests, received = server.traffic()
        if contender.name == EEARTH:
            work = float(json.loads((output / "imagery" / "manifest.json").read_text(encoding="utf-8"))["seconds"])
        else:
            inside = json.loads(said)
            work = inside["seconds"]
        if contender.cube:
            right = self._is_right(output / "imagery/cube.zarr" if contender.name == EEARTH else output / "cube.zarr")
        else:
            cpu, rss = inside["cpu"], inside["rss"]
            right = inside["crc"] is None or inside["crc"] == {path: facts["crc"] for path, facts in self.facts.items()}
        shutil.rmtree(output)
        return Result(whole, work, cpu, rss, requests, received, served, others, load, right)

    def _command(self, contender: Contender, catalog: Path, output: Path) -> list[str]:
        if contender.name == EEARTH:
            region = str(catalog.parent / "region.geojson")
            given = [
                "--catalog",
                str(catalog),
                "--datetime",
                DATES[0][:4],
                "--bands",
                ",".join(BANDS),
                "-w",
                str(output),
            ]
            return [str(Path(sys.executable).parent / "eearth"), "download", region, *given]
        script, threads = str(HERE / "download_contenders.py"), str(contender.threads)
        return [sys.executable, script, contender.name, threads, str(catalog), str(output / "cube.zarr")]

    def _is_right(self, cube: Path) -> bool:
        command = [sys.executable, str(HERE / "download_contenders.py"), "check", "1", str(cube)]
        found = json.loads(subprocess.run(command, check=True, capture_output=True).stdout)
        expected = {name: [self.facts[file_of(date, name)]["crc"] for date in DATES] for name in BANDS}
        return bool(found == expected | {"valid": [self.facts[file_of(date, MASK)]["valid"] for date in DATES]})


def _busy_seconds() -> float:
    """CPU seconds that the machine has worked: user, nice, system, irq, softirq and steal of proc_stat(5)."""
    fields = Path("/proc/stat").read_text(encoding="utf-8").split("\n", 1)[0].split()
    return sum(int(fields[number]) for number in (1, 2, 3, 6, 7, 8)) / os.sysconf("SC_CLK_TCK")


def _wait_for_quiet(seconds: float) -> None:
    """Wait until the machine was idle for a second but for a tenth of a core, for some seconds at most."""
    given_up = time.monotonic() + seconds
    while time.monotonic() < given_up:
        before = _busy_seconds()
        time.sleep(1)
        if _busy_seconds() - before < IDLE:
            return


def _timed(command: list[str], output: Path) -> tuple[str, float, float, int]:
    """Run to the end: (standard output, wall seconds, CPU seconds, peak memory in bytes)."""
    with (output / "stdout").open("w") as said, (output / "stderr").open("w") as errors:
        begun = time.perf_counter()
        process = subprocess.Popen(command, stdout=said, stderr=errors)
        _, status, usage = os.wait4(process.pid, 0)
        seconds = time.perf_counter() - begun
        process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise FailedError((output / "stderr").read_text(encoding="utf-8")[-2000:])
    return (output / "stdout").read_text(), seconds, usage.ru_utime + usage.ru_stime, usage.ru_maxrss * 1024


def table(title: str, results: dict[str, Result], needed: int) -> str:
    """One latency's results as Markdown."""
    columns = ("work s", "whole s", "CPU s", "peak MB", "requests a scene", "MB fetched", "fetched / needed")
    heads = (title, *columns, "others' CPU", "load", "right")
    lines = [f"| {' | '.join(heads)} |", "|---" * len(heads) + "|"]
    for name, one in results.items():
        cells = (
            *(name, f"{one.work:.2f}", f"{one.whole:.2f}", f"{one.cpu:.1f}", f"{one.rss / MEGA:.0f}"),
            *(f"{one.requests / len(DATES):.1f}", f"{one.received / MEGA:.0f}", f"{one.received / needed:.3f}"),
            *(f"{one.others:.0%}", f"{one.load:.1f}", "yes" if one.right else "NO"),
        )
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def ratios(results: dict[str, Result]) -> dict[str, dict[str, float]]:
    """How many times as long, and as much memory, as eearth the best run of each other library takes."""
    found = {}
    for other, codec in product(("odc-stac", "stackstac"), ("", " lz4")):
        rivals = [one for name, one in results.items() if name.startswith(other) and (" lz4" in name) == bool(codec)]
        if rivals and EEARTH in results:
            own = results[EEARTH]
            found[other + codec] = {
                "work": min(one.work for one in rivals) / own.work,
                "whole": min(one.whole for one in rivals) / own.whole,
                "peak memory": min(one.rss for one in rivals) / own.rss,
            }
    return found


def measure(bench: Bench, chosen: list[Contender], latency: float, given: argparse.Namespace) -> dict[str, Result]:
    """The fastest run of each contender; they take turns, until each had its repeats on a quiet machine."""
    runs: dict[str, list[Result]] = {contender.title: [] for contender in chosen}
    with serving(bench.site / "files", bench.folder / "server", latency) as server:
        for number in range(given.rounds or given.repeats):
            for contender in chosen:
                each = runs[contender.title]
                if sum(one.others <= QUIET for one in each) >= given.repeats:
                    continue
                _wait_for_quiet(given.wait)
                try:
                    each.append(bench.run(contender, server))
                    told = f"{each[-1].work:.2f} s, {each[-1].others:.0%} of the CPU elsewhere"
                except FailedError as error:
                    told = f"failed: {error}"
                print(f"{latency:g} ms, {number + 1}: {contender.title}: {told}", file=sys.stderr, flush=True)
    return {name: min(each, key=lambda one: one.work) for name, each in runs.items() if each}


def report(latency: float, best: dict[str, Result], chosen: list[Contender], needed: int) -> None:
    """Print the tables of one latency and the ratios."""
    for cube, title in ((True, f"{latency:g} ms a request, to the cube"), (False, f"{latency:g} ms, reading alone")):
        rows = {one.title: best[one.title] for one in chosen if one.cube == cube and one.title in best}
        if rows:
            print(f"\n{table(title, rows, needed)}", flush=True)
    for other, row in ratios(best).items():
        told = ", ".join(f"{name} {value:.2f}" for name, value in row.items())
        print(f"\n{other} (its best) / eearth: {told}", flush=True)


def main() -> None:
    """Run what was asked for and print tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--folder", type=Path, help="where the files are, or are made (1.3 GB); default: a temporary one"
    )
    parser.add_argument("--contenders", nargs="+", default=[""], help="beginnings of their names; default: all")
    parser.add_argument("--latencies", type=float, nargs="+", default=[0, 50], help="milliseconds a request")
    parser.add_argument("--repeats", type=int, default=3, help="runs of each contender on a quiet machine")
    parser.add_argument("--rounds", type=int, help="most runs of each contender, quiet or not; default: as many")
    parser.add_argument("--wait", type=float, default=20, help="most seconds to wait before a run for an idle machine")
    parser.add_argument("--json", type=Path, help="file for all figures")
    given = parser.parse_args()
    everyone = [Contender(*one, cube=True) for one in CUBES] + [Contender(*one, cube=False) for one in READERS]
    chosen = [one for one in everyone if one.title.startswith(tuple(given.contenders))]
    said: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as temporary:
        bench = Bench(given.folder or Path(temporary))
        print(f"{os.cpu_count()} cores; {bench.needed / MEGA:.0f} MB needed", flush=True)
        for latency in given.latencies:
            best = measure(bench, chosen, latency, given)
            report(latency, best, chosen, bench.needed)
            said[f"{latency:g}"] = {"best": {name: asdict(one) for name, one in best.items()}, "ratios": ratios(best)}
    if given.json:
        given.json.write_text(json.dumps(said | {"needed": bench.needed}, indent=1), encoding="utf-8")
    if not all(
        len(one["best"]) == len(chosen) and all(run["right"] for run in one["best"].values()) for one in said.values()
    ):
        sys.exit("expected the files' pixels from every contender: see the column `right`, and the failures above")


if __name__ == "__main__":
    main()
