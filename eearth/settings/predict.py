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
    window_size: int = setting(192, least=32, text="Side of the windows that the network sees, a multiple of 4.")
    batch_size: int = setting(2, least=1, text="Windows in the network at the same time.", incidental=True)
    tile_size: int = setting(1024, least=64, text="Side of the tiles that are finished one by one.")
    workers: int = setting(
        8, least=1, text="Assets read at the same time, where imagery must be fetched.", incidental=True
    )
    device: Literal["auto", "cpu", "cuda"] = setting("auto", text="Where to compute.", incidental=True)
