"""Labels and imagery → what there is to say of the labels."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from eearth.events import Note, Report, silent
from eearth.geo.splits.footprints import footprints_of
from eearth.quality.looking import clear_observations, patches, squares
from eearth.quality.picture import draw_labels
from eearth.quality.profiles import profiles_of
from eearth.quality.summary import Dropped, Labelling, Quality, summarise, write_suspects
from eearth.quality.suspects import find_suspects

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from eearth.data.series import Series


def judge(
    folder: Path,
    made: Labelling,
    series: Series,
    *,
    dropped: Sequence[Dropped],
    conflicts: tuple[int, int],
    seed: int,
    report: Report = silent,
) -> Quality:
    """Count what the labels are, and look for those that disagree with what the imagery shows of them.

    Writes `quality.json`, `quality.png` and `suspects.geojson`.

    Args:
        folder: Where to write.
        made: The labels on the grid and their split; where they have no features, as in a map, their patches are
            looked at.
        series: The imagery.
        dropped: What was left out on the way to the grid.
        conflicts: Pixels and features on which labels disagree.
        seed: Of the choice of pixels where there are many.
        report: Hears where the imagery says nothing.
    """
    patched = not made.footprints.pixels.any()
    if patched:
        made = replace(made, footprints=footprints_of(made.labels, patches(made.labels)))
    looked_at = squares(made.labels, seed)
    clear = clear_observations(series, looked_at, made.labels)
    profiles = profiles_of(series, looked_at, made.footprints, seed)
    if not profiles.number.size:
        report(Note(text="no labelled feature was ever seen clearly: labels cannot be compared with the imagery"))
    suspects = find_suspects(profiles, made.labels, made.footprints, made.grid, seed)
    quality = summarise(
        made, clear=clear, dropped=dropped, conflicts=conflicts, checked=profiles.number.size, suspects=suspects
    )
    quality = replace(quality, unit="patches" if patched else "features")
    quality.write(folder / "quality.json")
    draw_labels(folder / "quality.png", made, quality)
    write_suspects(folder / "suspects.geojson", quality, made)
    return quality
