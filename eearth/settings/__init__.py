"""Every setting of every stage: its default, written once, with its sentence beside it.

The command line is generated from these classes; so is what `eearth.toml` and the environment may set.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from eearth.settings.assess import AssessSettings
from eearth.settings.compare import CompareSettings
from eearth.settings.download import DownloadSettings
from eearth.settings.embed import EmbedSettings
from eearth.settings.finetune import FinetuneSettings
from eearth.settings.predict import PredictSettings
from eearth.settings.pretrain import PretrainSettings
from eearth.settings.rasterize import RasterizeSettings
from eearth.settings.report import ReportSettings
from eearth.settings.sample import SampleSettings

if TYPE_CHECKING:
    from eearth.config import Settings

__all__ = [
    "SETTINGS",
    "AssessSettings",
    "CompareSettings",
    "DownloadSettings",
    "EmbedSettings",
    "FinetuneSettings",
    "PredictSettings",
    "PretrainSettings",
    "RasterizeSettings",
    "ReportSettings",
    "SampleSettings",
]

# In the order in which a project goes through them.
SETTINGS: dict[str, type[Settings]] = {
    cls.stage: cls
    for cls in (
        DownloadSettings,
        RasterizeSettings,
        PretrainSettings,
        FinetuneSettings,
        PredictSettings,
        SampleSettings,
        AssessSettings,
        ReportSettings,
        EmbedSettings,
        CompareSettings,
    )
}
