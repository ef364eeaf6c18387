"""Settings of `eearth predict`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal

from eearth.config import Settings, setting


@dataclass(frozen=True, kw_only=True)
class PredictSettings(Settings):
    """A trained model and a region → the land cover map."""

    stage: ClassVar[str] = "predict"
    region: Path = setting(
        text="Polygon file that geopandas reads; any region, mapped before or not.", argument=True, incidental=True
    )
    model: Path | None = setting(
        None,
        text="Another workspace, or a model file. Default: this workspace's finetune/model.safetensors.",
        incidental=True,
    )
    output: Path | None = setting(
        None, text="Copy the map to this GeoTIFF, with its side files beside it.", incidental=True
    )
    window_size: int = setting(256, least=32, text="Most pixels a side of the network's windows, a multiple of 4.")
    batch_size: int | None = setting(
        None,
        least=1,
        text="Windows in the network at the same time. Default: what fits into 40 MB, on a GPU into 1 GB.",
        incidental=True,
    )
    tile_size: int = setting(1024, least=64, text="Side of the tiles that are finished one by one.")
    min_confidence: int = setting(
        0, least=0, most=100, text="Leave pixels without a class whose confidence is lower, in percent."
    )
    probabilities: bool = setting(False, text="Write probabilities.tif too: the probability of every class.")
    smooth: int = setting(
        0,
        least=0,
        most=21,
        text="Side in pixels, odd, of the neighbourhood that class probabilities are smoothed with; 0 does not smooth.",
    )
    estimate: bool = setting(False, text="Only say what the map takes: time, bytes, memory.", incidental=True)
    rate: float | None = setting(None, text="MB/s to reckon with for --estimate. Default: measured.", incidental=True)
    min_mapping_unit: float = setting(
        0.0, text="Smallest patch of the map in hectares; smaller ones take a neighbour's class. 0 keeps all."
    )
    vector: Literal["gpkg", "parquet", "none"] = setting(
        "none", text="Write the map as polygons too: a GeoPackage, or GeoParquet, which needs pyarrow."
    )
    simplify: float = setting(
        1.0, text="How much the polygons' borders are simplified, in pixels; 0 keeps the corners of every pixel."
    )
    workers: int = setting(
        8, least=1, text="Assets read at the same time, where imagery must be fetched.", incidental=True
    )
    device: Literal["auto", "cpu", "cuda"] = setting("auto", text="Where to compute.", incidental=True)
    scheduler: str | None = setting(
        None,
        text="Address of a dask.distributed scheduler whose workers map the tiles; they see the workspace, and imagery "
        "in folders, under the same paths. Default: this process.",
        incidental=True,
    )
