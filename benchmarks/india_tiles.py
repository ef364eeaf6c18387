"""The sixty AgriFieldNet tiles of northern India, each as a workspace of its own with imagery and labels.

    python benchmarks/india_tiles.py DATA FOLDER [--tiles 60]

DATA holds `collection.json`, `items/*.json` and `labels.gpkg`, whose column `item` names the tile of each field. FOLDER
gets a workspace for each tile, and `others.txt`: all workspaces but the first, separated by commas. What comes next is

    eearth pretrain -w FOLDER/TILE --imagery $(cat FOLDER/others.txt)
    eearth compare -w FOLDER/TILE --also $(cat FOLDER/others.txt)

with the first tile, as printed at the end. What is there already is left alone.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import geopandas as gpd

from eearth.settings import DownloadSettings, RasterizeSettings
from eearth.stages.download import download
from eearth.stages.rasterize import rasterize
from eearth.workspace import Workspace

if TYPE_CHECKING:
    from collections.abc import Sequence


def make_tile(folder: Path, collection: Path, item: dict[str, Any], fields: gpd.GeoDataFrame) -> None:
    """Fill one workspace: the tile's outline, its fields, its imagery and its labels.

    Args:
        folder: The workspace; the two files that a user would bring are written there first.
        collection: The static catalogue.
        item: The tile's STAC item.
        fields: The labelled polygons of this tile.
    """
    folder.mkdir(parents=True, exist_ok=True)
    region, labels = folder / "region.geojson", folder / "fields.gpkg"
    if not region.is_file():
        outline = {"type": "Feature", "properties": {}, "geometry": item["geometry"]}
        region.write_text(json.dumps({"type": "FeatureCollection", "features": [outline]}), encoding="utf-8")
    if not labels.is_file():  # a GeoPackage holds the time of its writing: written again, it would be another input
        fields.to_file(labels)
    workspace = Workspace(folder)
    download(workspace, DownloadSettings(region=region, catalog=str(collection), datetime="2022", grid="native"))
    rasterize(workspace, RasterizeSettings(labels=labels))


def make_tiles(data: Path, folder: Path, count: int) -> Sequence[Path]:
    """The workspaces of the first tiles by name."""
    fields = gpd.read_file(data / "labels.gpkg")
    made = []
    for path in sorted((data / "items").glob("*.json"))[:count]:
        item = json.loads(path.read_text(encoding="utf-8"))
        make_tile(folder / item["id"], data / "collection.json", item, fields[fields["item"] == item["id"]])
        made.append(folder / item["id"])
        print(f"{len(made)} {made[-1]}", flush=True)
    return made


def main() -> None:
    """Make the workspaces and print what to run next."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--tiles", type=int, default=60)
    given = parser.parse_args()
    first, *others = make_tiles(given.data, given.folder, given.tiles)
    listed = given.folder / "others.txt"
    listed.write_text(",".join(str(one.resolve()) for one in others), encoding="utf-8")
    print(f"eearth pretrain -w {first} --imagery $(cat {listed})")
    print(f"eearth compare -w {first} --also $(cat {listed})")


if __name__ == "__main__":
    main()
