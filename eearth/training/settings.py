"""Moved: the settings of all stages stand in eearth/settings.py (edit them there)."""

from eearth.settings import FinetuneSettings, PretrainSettings

__all__ = ["FinetuneSettings", "PretrainSettings"]
