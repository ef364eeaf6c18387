"""Which acquisitions are worth their bytes: decided by their masks over the region, before a band is fetched."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from eearth.geo.imagery.scenes import Acquisition
    from eearth.settings import DownloadSettings


@dataclass(frozen=True)
class Seen:
    """What an acquisition's masks show of the region, in pixels; `clear` is a part of `observed`."""

    region: int
    observed: int
    clear: int

    @property
    def cloud(self) -> float:
        """Percent of the observed pixels that are not clear."""
        return 100.0 * (self.observed - self.clear) / self.observed if self.observed else 100.0


def choose(
    acquisitions: Sequence[Acquisition], seen: Mapping[str, Seen], settings: DownloadSettings
) -> tuple[list[Acquisition], dict[str, str]]:
    """Leave out what shows nothing of the region or little but clouds, and what is too many.

    Args:
        acquisitions: In order of time.
        seen: Item ids of an acquisition → what its masks show; those without a mask are judged by `eo:cloud_cover`.
        settings: `max_cloud` and `max_dates`.

    Returns:
        The acquisitions to fetch, in order of time, and for each other one (by its item ids) the reason.
    """
    removed = {}
    for group in acquisitions:
        reason = _unwanted(group, seen.get(group.ids), settings.max_cloud)
        if reason:
            removed[group.ids] = reason
    kept = [group for group in acquisitions if group.ids not in removed]
    if settings.max_dates is not None:
        best = _spread(kept, seen, settings.max_dates)
        removed |= {group.ids: f"beyond --max-dates {settings.max_dates}" for group in kept if group.ids not in best}
        kept = [group for group in kept if group.ids in best]
    return kept, removed


def _unwanted(group: Acquisition, seen: Seen | None, most: float) -> str | None:
    if seen is None:
        cloud = announced_cloud(group)
        return f"cloud (eo:cloud_cover {cloud:.0f} %, and no mask)" if cloud > most else None
    if seen.observed == 0:
        return "nothing of the region observed"
    return f"cloud ({seen.cloud:.0f} % of the region)" if seen.cloud > most else None


def announced_cloud(group: Acquisition) -> float:
    """The least `eo:cloud_cover` of the scenes, in percent; 0 where they say nothing."""
    return min(float(scene.item.properties.get("eo:cloud_cover") or 0.0) for scene in group.scenes)


def _spread(groups: Sequence[Acquisition], seen: Mapping[str, Seen], most: int) -> set[str]:
    """Item ids of the clearest acquisition of each of `most` equal spans of time, then of the clearest of the rest."""

    def clearness(group: Acquisition) -> tuple[float, float]:
        found = seen.get(group.ids)
        return (found.clear, 0.0) if found else (0.0, -announced_cloud(group))

    if not groups:
        return set()
    begin = groups[0].time
    span = (groups[-1].time - begin).total_seconds() / most or 1.0
    bins: dict[int, Acquisition] = {}
    for group in groups:
        number = min(most - 1, int((group.time - begin).total_seconds() / span))
        if number not in bins or clearness(group) > clearness(bins[number]):
            bins[number] = group
    best = {group.ids for group in bins.values()}
    rest = sorted((group for group in groups if group.ids not in best), key=clearness, reverse=True)
    return best | {group.ids for group in rest[: most - len(best)]}
