"""Every setting of every stage: its default, written once, with its sentence beside it.

The command line is generated from these classes; so is what `eearth.toml` and the environment may set.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC
from datetime import datetime as clock
from pathlib import Path
from typing import ClassVar, Literal

from eearth.config import Settings, setting
from eearth.errors import UsageError


@dataclass(frozen=True, kw_only=True)
class DownloadSettings(Settings):
    """Imagery of a region: STAC search → one clean data cube."""

    stage: ClassVar[str] = "download"
    region: Path = setting(
        text="Polygon file that geopandas reads: GeoJSON, GPKG, Shapefile ...", argument=True, incidental=True
    )
    catalog: str = setting(
        "https://earth-search.aws.element84.com/v1",
        text="STAC API by URL, a static STAC catalog by URL or path, or a folder of dated GeoTIFFs.",
    )
    collection: str | None = setting(
        None, text="Collection id. Default: sentinel-2-l2a, or the only collection of a static catalog."
    )
    datetime: str | None = setting(
        None, text="A year (2024), a month (2024-05), a day, or START/END. Default: the last full calendar year."
    )
    provider: str | None = setting(
        None,
        text="How the catalog's items are meant: a name from the list of providers, or from [providers.NAME] in "
        "eearth.toml. Default: found by the catalog's address and the collection.",
    )
    bands: tuple[str, ...] | None = setting(
        None,
        text="Bands by asset key, common name or eo:bands name, separated by commas. Default: the provider's; for "
        "Sentinel-2 the ten bands of 10 and 20 m.",
    )
    max_cloud: float = setting(
        80.0,
        most=100,
        text="Leave out acquisitions whose clouds cover more of the region, in percent, by their masks; where they "
        "have none, by eo:cloud_cover.",
    )
    max_dates: int | None = setting(
        None, least=1, text="Most acquisitions to fetch: the clearest ones, spread over the time. Default: all."
    )
    composite: Literal["none", "monthly"] = setting(
        "none", text="monthly: one date a month, the median of the clear observations; none: every acquisition."
    )
    resolution: float | None = setting(
        None,
        least=1e-9,
        text="Pixel size in units of the CRS; with --grid native, the source grid nearest to it. Default: the "
        "provider's, 10 for Sentinel-2.",
    )
    crs: str | None = setting(None, text="CRS of the cube, such as EPSG:32633. Default: the UTM zone of the region.")
    grid: Literal["snap", "native"] = setting(
        "snap", text="snap: edges on whole multiples of the resolution; native: the source's own grid, no resampling."
    )
    resampling: Literal["bilinear", "nearest"] = setting(
        "bilinear", text="How reflectance on another grid is warped; masks are always taken from the nearest pixel."
    )
    mask_asset: str | None = setting(
        None, text="Asset that classifies pixels; 'none' for no mask. Default: scl where the scenes have it."
    )
    mask_valid: tuple[int, ...] | None = setting(
        None,
        text="Values of the mask asset that are a clear observation. Default: the provider's; for Sentinel-2's scene "
        "classification 4,5,6,7,11: vegetation, soil, water, unclassified, snow.",
    )
    min_coverage: float = setting(
        50.0,
        most=100,
        text="Fail unless this share of the region is seen clearly at least once, in percent.",
        incidental=True,
    )
    update: bool = setting(
        False, text="Add what is new to the finished cube, and what could not be read before.", incidental=True
    )
    estimate: bool = setting(
        False, text="Only say what the download takes: scenes, requests, bytes, memory, time.", incidental=True
    )
    rate: float | None = setting(None, text="MB/s to reckon with for --estimate. Default: measured.", incidental=True)
    workers: int = setting(32, least=1, text="Files read at the same time.", incidental=True)
    scheduler: str | None = setting(
        None,
        text="Address of a dask.distributed scheduler, such as tcp://HOST:8786, whose workers read. Default: this "
        "machine.",
        incidental=True,
    )

    def __post_init__(self) -> None:
        """Settle what depends on the day and on the folder of the call, so that the record says what was meant."""
        super().__post_init__()
        if self.datetime is None:
            object.__setattr__(self, "datetime", str(clock.now(UTC).year - 1))
        if "://" not in self.catalog:
            object.__setattr__(self, "catalog", str(Path(self.catalog).resolve()))


@dataclass(frozen=True, kw_only=True)
class RasterizeSettings(Settings):
    """Ground-truth polygons → labels on the imagery's grid, and a leak-free split."""

    stage: ClassVar[str] = "rasterize"
    labels: Path = setting(
        text="Polygons or points with a class column: GPKG, GeoJSON, Shapefile ...", argument=True, incidental=True
    )
    class_column: str = setting("class", text="Column with the class names.")
    skip_null: bool = setting(False, text="Leave out features without a class instead of refusing the file.")
    all_touched: bool = setting(
        False, text="Burn every pixel that a polygon touches, instead of those whose centre lies inside."
    )
    block_size: float | None = setting(
        None, text="Side of a split block in metres. Default: chosen from the region's size."
    )
    buffer: float | None = setting(
        None, text="Least distance in metres between pixels of different parts. Default: three pixels."
    )
    test_fraction: float = setting(0.25, most=1, text="Share of the labelled pixels to test on.")
    validation_fraction: float = setting(0.15, most=1, text="Share of the labelled pixels to validate on.")
    seed: int = setting(0, text="Seed of the split.")


@dataclass(frozen=True, kw_only=True)
class PretrainSettings(Settings):
    """Unlabelled imagery → an encoder that knows what the same place looks like on other dates."""

    stage: ClassVar[str] = "pretrain"
    imagery: tuple[Path, ...] = setting(
        (), text="Other workspaces whose imagery to learn from as well.", incidental=True
    )
    model: Literal["seasonal-unet", "temporal-attention-unet", "unet3d", "convlstm-unet", "tsvit"] = setting(
        "seasonal-unet", text="Encoder by name."
    )
    features: int = setting(64, least=1, text="Length of the feature vector of a pixel.")
    depth: int = setting(
        1, most=2, text="Times the encoder halves the resolution, 0 to 2: less looks less at the surroundings."
    )
    evening: float = setting(
        0.5,
        most=1,
        text="seasonal-unet: how far all directions in which pixels differ are made equally strong, 0 to 1.",
    )
    agreement: float = setting(
        0.75,
        most=1,
        text="seasonal-unet: how far those directions are raised in which neighbouring pixels agree, 0 to 1; with "
        "evening 0 as well, the directions stay random.",
    )
    steps: int | None = setting(
        None,
        text="Contrastive training steps after that; more can make the encoder know places instead of their cover. "
        "Default: 0 for seasonal-unet, unless its directions stay random; else 150.",
    )
    batch_size: int = setting(24, least=1, text="Places in a step, two views of each.")
    window_size: int = setting(16, least=4, text="Side of a view in pixels.")
    pixels: int = setting(32, least=1, text="Pixels compared at each place.")
    dates: int = setting(12, least=1, text="Most acquisitions of a view.")
    temperature: float = setting(0.5, least=0.004, text="Temperature of the contrastive loss.")
    exclusion: float = setting(32, text="Pixels of the same region within this many rows and columns are no negatives.")
    learning_rate: float = setting(1e-3, text="Learning rate after the warm-up.")
    weight_decay: float = setting(1e-2, text="Weight decay.")
    gain: float = setting(0.1, text="Spread of the band gains of a view.")
    offset: float = setting(0.3, text="Spread of the band offsets of a view, in standard deviations of the band.")
    noise: float = setting(0.3, text="Spread of the noise of a pixel, in standard deviations of the band.")
    drop_band: float = setting(0.2, most=1, text="Chance that a view lacks a band.")
    objective: Literal["info_nce", "vicreg", "barlow_twins"] = setting(
        "info_nce", text="What the two views of a pixel are compared by; temperature and exclusion are info_nce's."
    )
    momentum: float = setting(
        0.0,
        most=1,
        text="Share that the weights of a second branch, which gives the keys, keep of themselves at each step, such "
        "as 0.99; 0: one branch gives both views.",
    )
    queue: int = setting(0, text="Keys of earlier steps that are negatives as well; needs momentum.")
    ema: float = setting(
        0.0,
        most=1,
        text="Keep a running average of the encoder's weights, with this share of itself at each step, instead of the "
        "last ones; 0: the last ones.",
    )
    shuffle: bool = setting(False, text="Compare unrelated pixels: a control that must lose the gain.")
    same_dates: bool = setting(False, text="Both views see the same dates: a control without change over time.")
    identical: bool = setting(False, text="Both views are the same picture: a control without any change.")
    probe_every: int = setting(
        25,
        text="Steps between two looks at the features: alignment, uniformity and, where there are labels, a linear "
        "probe on validation pixels; 0: never.",
        incidental=True,
    )
    compile: Literal["auto", "off"] = setting(
        "auto", text="auto: compile the encoder for a GPU where the training is long enough.", incidental=True
    )
    seed: int = setting(0, text="Seed of the weights and of every draw.")
    device: Literal["auto", "cpu", "cuda"] = setting("auto", text="Where to compute.", incidental=True)

    def __post_init__(self) -> None:
        """Refuse settings that contradict each other."""
        super().__post_init__()
        if self.queue and not (self.momentum and self.objective == "info_nce"):
            msg = f"expected a queue with --momentum and --objective info_nce only, found a queue of {self.queue}"
            raise UsageError(msg)


@dataclass(frozen=True, kw_only=True)
class FinetuneSettings(Settings):
    """An encoder and labels → a land cover model."""

    stage: ClassVar[str] = "finetune"
    also: tuple[Path, ...] = setting(
        (), text="Other workspaces to learn from as well, with the same bands and classes.", incidental=True
    )
    encoder: str | None = setting(
        None,
        text="Another workspace, an encoder file, or 'none'. Default: this workspace's pretrain/, if it is there.",
        incidental=True,
    )
    mode: Literal["full", "frozen"] = setting("full", text="full: train all weights; frozen: only the last layer.")
    labels_per_class: int | None = setting(
        None, least=1, text="Labelled pixels of each class to learn from. Default: all training pixels."
    )
    steps: int | None = setting(
        None,
        text="Training steps after the linear start, at most. Default: 300; with a label budget 0, the start alone.",
    )
    batch_size: int = setting(8, least=1, text="Windows around labelled pixels in a step.")
    window_size: int = setting(16, least=4, text="Side of a window in pixels.")
    dates: int = setting(32, least=1, text="Most acquisitions of a window.")
    learning_rate: float = setting(1e-4, text="Learning rate of the encoder.")
    head_learning_rate: float = setting(1e-4, text="Learning rate of the last layer.")
    weight_decay: float = setting(1e-2, text="Weight decay.")
    class_balance: float = setting(0.5, text="Class weights are the class's pixel count to the power of minus this.")
    patience: int = setting(5, least=1, text="Stop after this many validations without a better mIoU.")
    validate_every: int = setting(25, least=1, text="Steps between validations.")
    gain: float = setting(0.05, text="Spread of the band gains of a window.")
    offset: float = setting(0.05, text="Spread of the band offsets of a window, in standard deviations of the band.")
    noise: float = setting(0.05, text="Spread of the noise of a pixel, in standard deviations of the band.")
    drop_band: float = setting(0.0, most=1, text="Chance that a window lacks a band.")
    seed: int = setting(0, text="Seed of the chosen labels and of every draw.")
    device: Literal["auto", "cpu", "cuda"] = setting("auto", text="Where to compute.", incidental=True)


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


@dataclass(frozen=True, kw_only=True)
class CompareSettings(Settings):
    """Does pre-training help here? Pre-trained against scratch, a frozen probe and a random forest, with few labels."""

    stage: ClassVar[str] = "compare"
    also: tuple[Path, ...] = setting(
        (),
        text="Other workspaces with the same bands and classes: labels, splits and test pixels of all count together.",
        incidental=True,
    )
    budgets: tuple[str, ...] = setting(
        ("1", "5", "20", "100"),
        text="Labelled pixels of each class to learn from, or 'all'; a class that has fewer gives all that it has.",
    )
    seeds: int | None = setting(
        None,
        least=1,
        text="Repetitions, each with another split, other pixels, weights and draws, the same for all; with "
        "--precision, the most. Default: 5; with --precision, 20.",
    )
    precision: float | None = setting(
        None,
        least=0.01,
        text="Repeat, at least 5 times, until the 95 % interval of pre-trained minus scratch is narrower than this to "
        "either side, in points of mIoU.",
    )
    contenders: tuple[Literal["pretrained", "scratch", "probe", "forest"], ...] = setting(
        ("pretrained", "scratch", "probe", "forest"), text="Who takes part."
    )
    encoder: tuple[Path, ...] = setting(
        (),
        text="Other workspaces or encoder files that take part as well, beside this workspace's pretrain/ if it is "
        "there.",
        incidental=True,
    )
    rates: tuple[float, ...] = setting(
        (0.0, 1e-3),
        text="Learning rates of the encoder that are tried; for each network and budget the best one "
        "counts. 0 is the linear start alone.",
    )
    steps: int | None = setting(
        None,
        text="Training steps after the linear start. Default: with a budget of K pixels 60 + 40 K, up to 300; with all "
        "labels 300, of which the best validation counts.",
    )
    workers: int | None = setting(
        None, least=1, text="Runs at the same time, each a process. Default: the CPU cores.", incidental=True
    )
    device: Literal["auto", "cpu", "cuda"] = setting("auto", text="Where to compute.", incidental=True)

    def __post_init__(self) -> None:
        """Refuse what cannot be compared."""
        super().__post_init__()
        for budget in self.budgets:
            if budget != "all" and not (budget.isdecimal() and budget == str(int(budget)) != "0"):
                msg = f"expected budgets that are whole numbers above 0, or 'all', found {budget!r}"
                raise UsageError(msg)
        if min(self.rates) < 0:
            msg = f"expected rates of at least 0, found {min(self.rates):g}"
            raise UsageError(msg)
        for name in ("budgets", "contenders", "rates"):
            if len(set(getattr(self, name))) < len(getattr(self, name)):
                msg = f"expected each of the {name} once, found {', '.join(map(str, getattr(self, name)))}"
                raise UsageError(msg)
        if self.precision is not None and not {"pretrained", "scratch"} <= set(self.contenders):
            msg = f"expected pretrained and scratch among the contenders with --precision, found {self.contenders}"
            raise UsageError(msg)


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
    window_size: int = setting(192, least=32, text="Side of the windows that the encoder sees, a multiple of 4.")
    batch_size: int = setting(2, least=1, text="Windows in the encoder at the same time.", incidental=True)
    tile_size: int = setting(512, least=64, text="Side of the tiles that are finished one by one.")
    workers: int = setting(
        8, least=1, text="Assets read at the same time, where imagery must be fetched.", incidental=True
    )
    device: Literal["auto", "cpu", "cuda"] = setting("auto", text="Where to compute.", incidental=True)


SETTINGS: dict[str, type[Settings]] = {
    cls.stage: cls
    for cls in (
        DownloadSettings,
        RasterizeSettings,
        PretrainSettings,
        FinetuneSettings,
        PredictSettings,
        EmbedSettings,
        CompareSettings,
    )
}
