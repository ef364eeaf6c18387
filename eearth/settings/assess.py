"""Settings of `eearth assess`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal

from eearth.config import Settings, setting
from eearth.errors import UsageError


@dataclass(frozen=True, kw_only=True)
class AssessSettings(Settings):
    """Held-out blocks, and a labelled sample of the map → accuracy and areas with intervals."""

    stage: ClassVar[str] = "assess"
    reference: Path | None = setting(
        None, text="The sample of `eearth sample`, labelled: any vector file with id and reference.", incidental=True
    )
    reference_column: str = setting("reference", text="The column with the class names or codes.")
    design: Path | None = setting(
        None,
        text="The design.json of the sample. Default: beside the reference, else in this workspace's sample/.",
        incidental=True,
    )
    simple_random: bool = setting(
        False,
        text="The points have no design.json: they are a simple random sample of the whole map, made by you, and are "
        "stratified afterwards.",
    )
    map: Path | None = setting(
        None, text="The map that was sampled. Default: this workspace's map/landcover.tif.", incidental=True
    )
    extra_classes: tuple[str, ...] = setting((), text="Classes of the reference that the map's legend does not have.")
    interval: Literal["wilson", "wald"] = setting(
        "wilson", text="wilson: holds for few points and shares near 1; wald: ± 1.96 standard errors, as published."
    )
    predictions: Literal["model", "map"] = setting(
        "model", text="What is compared on the test blocks: the model's classes, or those of map/landcover.tif."
    )
    resample: Literal["blocks", "features"] = setting(
        "blocks", text="What the bootstrap draws whole: blocks of the split, or features of the label file."
    )
    replicates: int = setting(2000, least=100, text="Bootstrap samples.")
    seed: int = setting(0, text="Seed of the bootstrap.")
    device: Literal["auto", "cpu", "cuda"] = setting("auto", text="Where to compute.", incidental=True)

    def __post_init__(self) -> None:
        """Refuse settings that contradict each other."""
        super().__post_init__()
        if self.simple_random and self.design is not None:
            msg = f"expected --simple-random or --design, found both ({self.design})"
            raise UsageError(msg)
        if self.reference is None and (self.simple_random or self.design is not None or self.map is not None):
            msg = "expected --reference with --design, --map or --simple-random, found none"
            raise UsageError(msg)
