"""Everything that docs/results.md shows, from real imagery and labels to the tables.

    python benchmarks/results.py DATA FOLDER [--part sites transfer ablations] [--sites NAME ...] [--seeds 20]

DATA holds one folder for each site with a static STAC catalogue (`collection.json`), `region.geojson` and its labels.
FOLDER gets a workspace for each, and `sites.md`, `transfer.md` and `ablations.md`. What is there already is left alone,
so an interrupted run goes on; after a change of the program start with an empty one.

Nothing is chosen for a site: `pretrain` and `compare` run with their defaults; what is given is where the data are,
their dates and bands, and how many labels and seeds there are.
"""

from __future__ import annotations

import argparse
import csv
import shutil
import time
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, Any

import geopandas as gpd
from india_tiles import make_tiles

from eearth.settings import CompareSettings, DownloadSettings, PretrainSettings, RasterizeSettings
from eearth.stages.compare import compare
from eearth.stages.download import download
from eearth.stages.pretrain import pretrain
from eearth.stages.rasterize import rasterize
from eearth.workspace import Workspace

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

BUDGETS = ("1", "5", "20", "100", "all")
SIX = ("blue", "green", "red", "nir", "nir08", "swir16")
MODIS = ("blue", "red", "nir", "swir22", "ndvi", "evi")
FEWEST = ("1", "5")
PRECISION = 4.0
STEPPED = "scratch, rate 0.001"
SITE_COLUMNS = (
    "site", "pixels", "seeds", "pre-trained", "scratch", "probe", "forest", "gain on scratch", "on the forest",
    "scratch, steps alone",
)  # fmt: skip


@dataclass(frozen=True)
class Site:
    """Where a site's data are, and which of them.

    Attributes:
        data: Folder in DATA.
        datetime: Acquisitions to take.
        bands: Bands to take; none for all.
        resolution: Metres of a pixel; None for that of the files.
        season: Labels that start in this month count; None for all.
    """

    data: str
    datetime: str
    bands: tuple[str, ...] = ()
    resolution: float | None = None
    season: str | None = None


SITES = {
    "slovenia": Site("slovenia", "2015"),
    "romania": Site("romania", "2018", SIX, 10),
    "ethiopia": Site("ethiopia", "2010/2012", ("ndvi",)),
    "brazil-2010": Site("brazil", "2010-09-01/2011-08-31", MODIS, season="2010-09"),
    "brazil-2011": Site("brazil", "2011-09-01/2012-08-31", MODIS, season="2011-09"),
    "brazil-2012": Site("brazil", "2012-09-01/2013-08-31", MODIS, season="2012-09"),
    "brandenburg": Site("brandenburg", "2017", (), 10),
}
INDIA = "india"

# The same six bands everywhere, so that an encoder can go from one to the other.
SHARED = {
    "slovenia-six": replace(SITES["slovenia"], bands=SIX),
    "romania": SITES["romania"],
    "brandenburg-six": replace(SITES["brandenburg"], bands=SIX),
}
SEASONS = ("brazil-2010", "brazil-2011", "brazil-2012")

# One row for each choice of the method, the others as they are.
ABLATIONS: dict[str, dict[str, Any]] = {
    "the default": {},
    "unrelated pixels as pairs": {"shuffle": True},
    "each pixel paired with itself": {"identical": True},
    "no evening": {"evening": 0.0},
    "no evening, unrelated pixels as pairs": {"evening": 0.0, "shuffle": True},
    "evening alone": {"agreement": 0.0},
    "evened fully": {"evening": 1.0},
    "agreement 1": {"agreement": 1.0},
    "16 features": {"features": 16},
    "then 150 steps of InfoNCE": {"steps": 150, "learning_rate": 3e-4},
    "then 150 steps, unrelated pixels": {"steps": 150, "learning_rate": 3e-4, "shuffle": True},
    "then 150 steps, same dates": {"steps": 150, "learning_rate": 3e-4, "same_dates": True},
    "then 150 steps of VICReg": {"steps": 150, "learning_rate": 3e-4, "objective": "vicreg"},
    "then 150 steps of Barlow Twins": {"steps": 150, "learning_rate": 3e-4, "objective": "barlow_twins"},
    "no closed form, 150 steps of InfoNCE": {"evening": 0.0, "agreement": 0.0, "steps": 150, "learning_rate": 3e-4},
}
ABLATED = ("romania", "slovenia", "ethiopia")


def made(name: str, site: Site, data: Path, folder: Path) -> Workspace:
    """The site's workspace with imagery and labels."""
    given, workspace = data / site.data, Workspace(folder / name)
    workspace.root.mkdir(parents=True, exist_ok=True)
    download(
        workspace,
        DownloadSettings(
            region=given / "region.geojson",
            catalog=str(given / "collection.json"),
            datetime=site.datetime,
            bands=site.bands,
            resolution=site.resolution,
            grid="native",
        ),
    )
    rasterize(workspace, RasterizeSettings(labels=_labels(given, site, workspace)))
    return workspace


def _labels(given: Path, site: Site, workspace: Workspace) -> Path:
    """The labels as they come, or those of one season."""
    if site.season is None:
        return given / "labels.gpkg"
    path = workspace.root / "points.gpkg"
    if not path.is_file():  # a GeoPackage holds the time of its writing: written again, it would be another input
        points = gpd.read_file(given / "points.geojson")
        points[points["start"].astype(str).str.startswith(site.season)].to_file(path)
    return path


def main() -> None:
    """Run the parts that are asked for, and write their tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("folder", type=Path)
    parser.add_argument(
        "--part", nargs="*", choices=["sites", "transfer", "ablations"], default=["sites", "transfer", "ablations"]
    )
    parser.add_argument("--sites", nargs="*", default=[*SITES, INDIA])
    parser.add_argument("--seeds", type=int, default=20)
    given = parser.parse_args()
    parts = {"sites": sites, "transfer": transfer, "ablations": ablations}
    for part in given.part:
        text = "\n".join(parts[part](given.data, given.folder, given.sites, given.seeds)) + "\n"
        (given.folder / f"{part}.md").write_text(text, encoding="utf-8")
        print(text, flush=True)


def sites(data: Path, folder: Path, names: Sequence[str], seeds: int) -> Iterable[str]:
    """A row for each site and budget; with the fewest labels on all seeds, for there the gain is to be told from 0."""
    yield from _head(SITE_COLUMNS)
    for name in names:
        workspace, others = _site(name, data, folder)
        begun = time.monotonic()
        pretrain(workspace, PretrainSettings(imagery=others))
        trained = time.monotonic()
        compare(workspace, CompareSettings(budgets=BUDGETS, seeds=seeds, precision=PRECISION, also=others))
        few = Workspace(folder / f"{name}-few")
        _share(workspace, few)
        if not few.folder("compare").exists():  # it builds on the runs that are there
            shutil.copytree(workspace.folder("compare"), few.folder("compare"))
        compare(few, CompareSettings(budgets=FEWEST, seeds=seeds, also=others))
        print(f"{name}: pretrain {trained - begun:.1f} s, compare {time.monotonic() - trained:.0f} s", flush=True)
        for budget in BUDGETS:
            source = few if budget in FEWEST else workspace
            yield _row([name, budget, *_cell_texts(_cells(source), budget), _stepped(source, budget)])


def _site(name: str, data: Path, folder: Path) -> tuple[Workspace, tuple[Path, ...]]:
    if name != INDIA:
        return made(name, SITES[name], data, folder), ()
    first, *others = make_tiles(data / INDIA, folder / INDIA, 60)
    return Workspace(first), tuple(others)


def _cells(workspace: Workspace) -> list[dict[str, str]]:
    with (workspace.folder("compare") / "table.csv").open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def _cell_texts(cells: list[dict[str, str]], budget: str) -> list[str]:
    here = [one for one in cells if one["budget"] == budget]
    means = {one["contender"]: f"{float(one['miou']):.1f} ± {float(one['miou_sd']):.1f}" for one in here}
    own = [one for one in here if one["contender"] == "pre-trained"]
    gains = {one["compared_with"]: _gain(one) for one in own}
    seeds = own[0]["seeds"]
    contenders = ("pre-trained", "scratch", "frozen probe", "random forest")
    return [
        seeds,
        *(means.get(one, "") for one in contenders),
        gains.get("scratch", ""),
        gains.get("random forest", ""),
    ]


def _stepped(workspace: Workspace, budget: str) -> str:
    """Mean mIoU of scratch where it takes steps, whether that was its best schedule or not, and on how many seeds."""
    with (workspace.folder("compare") / "runs.csv").open(newline="", encoding="utf-8") as file:
        runs = [one for one in csv.DictReader(file) if one["contender"] == STEPPED and one["budget"] == budget]
    return f"{100 * fmean(float(one['miou']) for one in runs):.1f} ({len(runs)})" if runs else ""


def _gain(cell: dict[str, str]) -> str:
    return f"{float(cell['difference']):+.1f} ± {float(cell['half_width']):.1f}"


def transfer(data: Path, folder: Path, _names: Sequence[str], seeds: int) -> Iterable[str]:
    """Gain over scratch at 5 pixels a class, both from their linear start: encoders in rows, targets in columns."""
    for group in (tuple(SHARED), SEASONS):
        workspaces = {name: made(name, (SHARED | SITES)[name], data, folder) for name in group}
        for workspace in workspaces.values():
            pretrain(workspace, PretrainSettings())
        found = {}
        for name, workspace in workspaces.items():
            others = tuple(other.root for other in workspaces.values() if other != workspace)
            target = Workspace(folder / f"{name}-transfer")
            _share(workspace, target)
            settings = CompareSettings(
                budgets=("5",), seeds=seeds, contenders=("pretrained", "scratch"), encoder=others, rates=(0.0,)
            )
            compare(target, settings)
            for cell in _cells(target):
                if cell["contender"].startswith("pre-trained") and cell["compared_with"] == "scratch":
                    found[cell["contender"].removeprefix("pre-trained").removeprefix(" on ") or name, name] = _gain(
                        cell
                    )
        yield from _head(("encoder of", *(f"on {name}" for name in group)))
        for source in group:
            yield _row([source, *(found[source, target] for target in group)])
        yield ""


def _share(workspace: Workspace, target: Workspace) -> None:
    """Another workspace with the same imagery, labels and encoder, for another comparison."""
    target.root.mkdir(exist_ok=True)
    for stage in ("download", "rasterize", "pretrain"):
        if not target.folder(stage).exists():
            target.folder(stage).symlink_to(workspace.folder(stage).resolve())


def ablations(data: Path, folder: Path, _names: Sequence[str], seeds: int) -> Iterable[str]:
    """Gain over scratch, both from their linear start alone: a row for each choice, columns for sites and budgets."""
    budgets = ("1", "5", "20")
    rows: dict[str, list[str]] = {name: [] for name in ABLATIONS}
    for site in ABLATED:
        workspace = made(site, SITES[site], data, folder)
        for name, changed in ABLATIONS.items():
            variant = Workspace(folder / f"{site}-ablations" / name.replace(" ", "-").replace(",", ""))
            variant.root.mkdir(parents=True, exist_ok=True)
            for stage in ("download", "rasterize"):
                if not variant.folder(stage).exists():
                    variant.folder(stage).symlink_to(workspace.folder(stage).resolve())
            pretrain(variant, PretrainSettings(**changed))
            settings = CompareSettings(budgets=budgets, seeds=seeds, contenders=("pretrained", "scratch"), rates=(0.0,))
            compare(variant, settings)
            cells = [one for one in _cells(variant) if one["compared_with"] == "scratch"]
            rows[name] += [_gain(one) for budget in budgets for one in cells if one["budget"] == budget]
            print(site, name, *rows[name][-3:], flush=True)
    yield from _head(("choice", *(f"{site}, {budget}" for site in ABLATED for budget in budgets)))
    for name, gains in rows.items():
        yield _row([name, *gains])


def _head(columns: Sequence[str]) -> tuple[str, str]:
    return _row(columns), _row(["---"] * len(columns))


def _row(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cells) + " |"


if __name__ == "__main__":
    main()
