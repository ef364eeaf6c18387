"""Settings of `eearth report`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from eearth.config import Settings, setting


@dataclass(frozen=True, kw_only=True)
class ReportSettings(Settings):
    """Map, accuracy and provenance → one HTML page that needs no network, and its figures as JSON."""

    stage: ClassVar[str] = "report"
    title: str | None = setting(None, text="Heading of the page. Default: the map's own title.")
    max_side: int = setting(
        1600, least=64, most=4096, text="Pixels of the map's longer side on the page, at most; more make a larger file."
    )
