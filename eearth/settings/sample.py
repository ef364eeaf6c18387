"""Settings of `eearth sample`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal

from eearth.config import Settings, setting


@dataclass(frozen=True, kw_only=True)
class SampleSettings(Settings):
    """A map → a stratified random sample of its pixels, to be labelled for an honest accuracy."""

    stage: ClassVar[str] = "sample"
    map: Path | None = setting(
        None, text="Any raster of class codes. Default: this workspace's map/landcover.tif.", incidental=True
    )
    classes: Path | None = setting(
        None, text="A classes.json with the names of its codes. Default: what the map itself says.", incidental=True
    )
    standard_error: float = setting(
        0.015, least=1e-6, most=0.5, text="Standard error of overall accuracy that the sample is to reach."
    )
    expected: tuple[str, ...] = setting(
        (),
        text="User's accuracies expected, such as water=0.95,3=0.7, by name or code; a bare number is for all others. "
        "Default: those on the test blocks, else 0.8.",
    )
    size: int | None = setting(None, least=2, text="Points in all. Default: computed from the standard error.")
    allocation: Literal["olofsson", "proportional", "equal"] = setting(
        "olofsson", text="olofsson: a minimum for each class, the rest by pixels; proportional: by pixels; equal."
    )
    minimum: int = setting(50, least=2, text="olofsson: the fewest points of a class.")
    seed: int = setting(0, text="Seed of the draw.")
