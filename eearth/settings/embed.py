"""Settings of `eearth embed`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal

from eearth.config import Settings, setting


@dataclass(frozen=True, kw_only=True)
class EmbedSettings(Settings):
    """An encoder and a region → the features of every pixel, for a classifier of your own."""

    stage: ClassVar[str] = "embed"
    region: Path = setting(
        text="Polygon file that geopandas reads; any region, seen before or not.", argument=True, incidental=True
    )
    encoder: Path | None = setting(
        None,
        text="Another workspace, its pretrain/ or finetune/, or an encoder or model file. Default: this workspace's "
        "pretrain/.",
        incidental=True,
    )
    format: Literal["cog", "zarr"] = setting(
        "cog", text="cog: a cloud-optimised GeoTIFF, one band a feature; zarr: a Zarr store, one variable a feature."
    )
    encoding: Literal["float32", "int8"] = setting(
        "float32", text="int8: a quarter of the size, with a scale and an offset for each feature."
    )
    output: Path | None = setting(None, text="Copy the features to this GeoTIFF or Zarr store.", incidental=True)
    window_size: int = setting(256, least=32, text="Most pixels a side of the encoder's windows, a multiple of 4.")
    batch_size: int | None = setting(
        None,
        least=1,
        text="Windows in the network at the same time. Default: what fits into 40 MB, on a GPU into 1 GB.",
        incidental=True,
    )
    tile_size: int = setting(512, least=64, text="Side of the tiles that are finished one by one.")
    workers: int = setting(
        8, least=1, text="Assets read at the same time, where imagery must be fetched.", incidental=True
    )
    device: Literal["auto", "cpu", "cuda"] = setting("auto", text="Where to compute.", incidental=True)
