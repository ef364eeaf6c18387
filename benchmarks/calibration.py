"""What calibration on the validation part does to the test part's calibration error: the table of docs/method.md.

    python benchmarks/calibration.py WORKSPACE ... [--seeds 10] [--runs calibration.csv] [--seconds 150]

Workspaces, seeds and the table of runs are as in `class_balance.py`. Settings are the defaults, with all labels. Beside
the temperature that `eearth finetune` takes stands that of the least cross entropy alone, as Guo et al. take it.
"""

from __future__ import annotations

import argparse
import csv
import time
from pathlib import Path
from statistics import fmean, stdev

import torch
from class_balance import Site
from scipy.stats import t

from eearth.calibration import fit_temperature, reliability, tempered
from eearth.evaluation import Examined, examine
from eearth.geo.splits.blocks import TEST, VALIDATION
from eearth.settings import FinetuneSettings
from eearth.training.finetune import finetune

COLUMNS = ("site", "seed", "patches", "temperature", "plain_temperature", "before", "after", "plain_after")


def measure(site: Site, seed: int) -> tuple[float, ...] | None:
    """Patches, both temperatures, and the test part's calibration error without and with them."""
    region = site.split(seed)
    model, _ = finetune(site.encoder, [region], FinetuneSettings(seed=seed))
    held, test = (examine(model, region, part, "cpu") for part in (VALIDATION, TEST))
    if held is None or test is None:
        return None
    ours = fit_temperature(held.probabilities, held.truth, held.patches)
    plain = fit_temperature(held.probabilities, held.truth, len(held.truth))
    return held.patches, ours, plain, error(test, 1.0), error(test, ours), error(test, plain)


def error(found: Examined, temperature: float) -> float:
    """Expected calibration error in points."""
    return 100 * reliability(tempered(found.probabilities, temperature), found.truth).error


def difference(points: list[float]) -> str:
    """A mean with its 95 % interval by Student's t: splits are few."""
    if len(points) < 2:  # noqa: PLR2004 - one has no spread
        return "-"
    half = t.ppf(0.975, len(points) - 1) * stdev(points) / len(points) ** 0.5
    return f"{fmean(points):+.2f} ± {half:.2f}"


def table(rows: list[dict[str, str]]) -> str:
    """Mean error of each site, what changed, and how often to the better."""
    lines = [
        "| site | splits | before | after | change | lower, higher | least cross entropy alone |",
        "|" + "---|" * 7,
    ]
    for site in dict.fromkeys(row["site"] for row in rows):
        own = [{name: float(row[name]) for name in COLUMNS[2:]} for row in rows if row["site"] == site]
        change, plain = ([row[name] - row["before"] for row in own] for name in ("after", "plain_after"))
        means = (f"{fmean(row[name] for row in own):.2f}" for name in ("before", "after"))
        told = f"{sum(x < 0 for x in change)}, {sum(x > 0 for x in change)}"
        lines.append(
            f"| {site} | {len(own)} | {' | '.join(means)} | {difference(change)} | {told} | {difference(plain)} |"
        )
    return "\n".join(lines)


def main() -> None:
    """Run what is missing, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("workspace", type=Path, nargs="+")
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--runs", type=Path, default=Path("calibration.csv"))
    parser.add_argument("--seconds", type=float, default=float("inf"))
    given = parser.parse_args()
    torch.set_num_threads(1)
    if not given.runs.is_file():
        given.runs.write_text(",".join(COLUMNS) + "\n", encoding="utf-8")
    begun, sites = time.monotonic(), {folder.name: Site.open(folder) for folder in given.workspace}
    for seed in range(given.seeds):
        for name, site in sites.items():
            done = {(row["site"], row["seed"]) for row in read(given.runs)}
            if (name, str(seed)) not in done and time.monotonic() - begun < given.seconds:
                found = measure(site, seed)
                if found is not None:
                    with given.runs.open("a", encoding="utf-8") as file:
                        file.write(",".join(map(str, (name, seed, *found))) + "\n")
    print(table(read(given.runs)))


def read(path: Path) -> list[dict[str, str]]:
    """The rows that are done."""
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


if __name__ == "__main__":
    main()
