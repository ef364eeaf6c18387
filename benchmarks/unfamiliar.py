"""Whether the band `unfamiliarity` tells ground that a model was not trained on from its own, held out.

    python benchmarks/unfamiliar.py FOLDER [--data DATA] [--steps 0] [--parts climates scales regions years]

FOLDER gets the workspaces; those of `benchmarks/results.py`, in the same FOLDER, are taken as they are. `climates` and
`scales` need no data: they simulate the demo's region, the same in another year, another one in the same climate and
one in another climate. `regions` and `years` are the sites of `results.py` that share bands; DATA is as there.

A row: the area under the ROC curve between the pixels of the validation and test blocks of the region trained on, and
all pixels of the other; the share of either beyond 100, and how many labelled pixels of either are mapped right.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from results import SEASONS, SHARED, SITES, made
from sklearn.metrics import roc_auc_score

from eearth.data.regions import open_labelled
from eearth.geo.grid import tiles_of
from eearth.geo.lattice import margin_for
from eearth.geo.products.landcover.unfamiliar import FAMILIAR
from eearth.geo.splits.blocks import TEST, VALIDATION
from eearth.inference.tiles import map_tile
from eearth.models.files import LAND_COVER, load_land_cover
from eearth.settings import DownloadSettings, FinetuneSettings, PretrainSettings, RasterizeSettings
from eearth.stages.download import download
from eearth.stages.finetune import finetune
from eearth.stages.pretrain import pretrain
from eearth.stages.rasterize import rasterize
from eearth.synthetic.climate import SAHEL, TEMPERATE
from eearth.synthetic.region import simulate
from eearth.workspace import Workspace

if TYPE_CHECKING:
    from collections.abc import Iterable

    from eearth.data.series import Series
    from eearth.models.segmentation import LandCoverModel

SIMULATED = {
    "demo": {"climate": TEMPERATE},
    "demo, next year": {"climate": TEMPERATE, "year": 2023},
    "another place": {"climate": TEMPERATE, "seed": 1},
    "another climate": {"climate": SAHEL, "seed": 1},
}
MISTAKES = {
    "x 10,000": (1e4, 0.0),
    "offset of 1000 not taken away": (1.0, 0.1),
    "offset taken away twice": (1.0, -0.1),
    "half as bright": (0.5, 0.0),
    "10 % brighter": (1.1, 0.0),
}
TILE = 512


@dataclass(frozen=True)
class Seen:
    """What a model makes of a region.

    Attributes:
        distance: (pixel,) unfamiliarity of the pixels looked at, 100 = `FAMILIAR`.
        right: Share of the labelled ones among them that are mapped right; NaN without any of a class of the model.
    """

    distance: NDArray[np.float64]
    right: float

    @property
    def beyond(self) -> float:
        """Share that is unfamiliar."""
        return float((self.distance > FAMILIAR).mean())


def simulated(name: str, folder: Path) -> Workspace:
    """A workspace of the simulation with imagery, labels and encoder."""
    asked = SIMULATED[name]
    workspace = Workspace(folder / name.replace(" ", "-").replace(",", "") / "workspace")
    if not workspace.folder("rasterize").is_dir():
        provider = simulate(workspace.root.parent / "provider", **asked)
        workspace.root.mkdir(parents=True, exist_ok=True)
        year = str(asked.get("year", 2022))
        download(workspace, DownloadSettings(region=provider.region, catalog=str(provider.catalog), datetime=year))
        rasterize(workspace, RasterizeSettings(labels=provider.labels))
    return workspace


def real(name: str, data: Path | None, folder: Path) -> Workspace:
    """A workspace of a real site with imagery and labels."""
    workspace = Workspace(folder / name)
    if not workspace.folder("rasterize").is_dir():
        if data is None:
            sys.exit(f"expected --data to make {name} from, found none")
        return made(name, (SHARED | SITES)[name], data, folder)
    return workspace


def trained(workspace: Workspace, steps: int) -> LandCoverModel:
    """The workspace's model, of an encoder that was pre-trained on it."""
    pretrain(workspace, PretrainSettings())
    finetune(workspace, FinetuneSettings(steps=steps))
    return load_land_cover(workspace.folder("finetune") / LAND_COVER)[0]


def looked_at(model: LandCoverModel, names: dict[int, str], workspace: Workspace, *, held_out: bool) -> Seen:
    """A region, or only its validation and test blocks, as a model sees it."""
    region, classes = open_labelled(workspace)
    wanted = np.isin(region.split, (VALIDATION, TEST)) if held_out else np.ones(region.split.shape, bool)
    mapped, distance = shown(model, region.series)
    wanted &= np.isfinite(distance)
    own = {entry.code: entry.name for entry in classes}
    same = [code for code, name in own.items() if name in names.values()]
    code_of = {name: code for code, name in names.items()}
    labelled = wanted & np.isin(region.labels, same)
    truth = np.array([code_of.get(own.get(code, ""), 0) for code in range(256)])[region.labels[labelled]]
    right = float((mapped[labelled] == truth).mean()) if labelled.any() else float("nan")
    return Seen(distance[wanted].astype(np.float64), right)


def shown(model: LandCoverModel, series: Series) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
    """(class codes, unfamiliarity) of every pixel; NaN where it was never seen."""
    codes, distance = np.zeros(series.shape, np.uint8), np.zeros(series.shape, np.float32)
    sliding = {"size": 128, "margin": margin_for(model.margin), "device": "cpu", "batch": 2, "bands": model.bands}
    for tile in tiles_of(series.shape, TILE):
        probabilities, away, seen = map_tile(model, series, tile, **sliding)
        codes[tile.slices] = np.asarray(model.classes)[probabilities.argmax(axis=0)]
        distance[tile.slices] = np.where(seen > 0, FAMILIAR * away, np.nan)
    return codes, distance


def pairs(workspaces: dict[str, Workspace], sources: Iterable[str], steps: int) -> Iterable[str]:
    """A row for each region trained on and each of the others."""
    yield "| trained on | asked for | AUROC | own beyond 100 | beyond 100 | own right | right |"
    yield "| --- | --- | --- | --- | --- | --- | --- |"
    for source in sources:
        model = trained(workspaces[source], steps)
        names = {entry.code: entry.name for entry in open_labelled(workspaces[source])[1]}
        own = looked_at(model, names, workspaces[source], held_out=True)
        for target, workspace in workspaces.items():
            if target != source:
                there = looked_at(model, names, workspace, held_out=False)
                right = "" if np.isnan(there.right) else f"{there.right:.0%}"
                figures = f"{auroc(own, there):.3f} | {own.beyond:.1%} | {there.beyond:.0%} | {own.right:.0%} | {right}"
                yield f"| {source} | {target} | {figures} |"


def auroc(own: Seen, there: Seen) -> float:
    """How often a pixel of another region is farther away than one of the model's own."""
    truth = np.repeat([0, 1], [len(own.distance), len(there.distance)])
    return float(roc_auc_score(truth, np.concatenate([own.distance, there.distance])))


def scales(folder: Path, steps: int) -> Iterable[str]:
    """A row for each mistake in the reflectance of the demo's own imagery."""
    workspace = simulated("demo", folder)
    model, series = trained(workspace, steps), open_labelled(workspace)[0].series
    yield "| the demo's own imagery | beyond 100 | median |"
    yield "| --- | --- | --- |"
    for name, (factor, offset) in {"as it is": (1.0, 0.0), **MISTAKES}.items():
        wrong = replace(series, scale=factor * series.scale, offset=factor * series.offset + offset)
        distance = shown(model, wrong)[1]
        found = distance[np.isfinite(distance)]
        yield f"| {name} | {(found > FAMILIAR).mean():.1%} | {np.median(found):.0f} |"


def main() -> None:
    """Print the tables that are asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--data", type=Path)
    parser.add_argument("--steps", type=int, default=0)
    everything = ["climates", "scales", "regions", "years"]
    parser.add_argument("--parts", nargs="*", choices=everything, default=everything)
    given = parser.parse_args()
    for part in given.parts:
        if part == "scales":
            rows = scales(given.folder, given.steps)
        elif part == "climates":
            climates = {name: simulated(name, given.folder) for name in SIMULATED}
            rows = pairs(climates, ("demo", "another climate"), given.steps)
        else:
            group = tuple(SHARED) if part == "regions" else SEASONS
            rows = pairs({name: real(name, given.data, given.folder) for name in group}, group, given.steps)
        for row in rows:
            print(row, flush=True)
        print(flush=True)


if __name__ == "__main__":
    main()
