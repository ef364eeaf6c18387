"""What a finished download offers to a later one of the same region: pixels that need not be fetched again."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from eearth.geo.imagery.choice import Seen

if TYPE_CHECKING:
    from collections.abc import Sequence

    from eearth.geo.cube import Cube
    from eearth.geo.imagery.fetch import Fetched
    from eearth.geo.imagery.plan import Plan
    from eearth.manifest import Manifest

# Settings that decide what a pixel of a date is; the others only decide which dates there are.
DECISIVE = ("mask_asset", "mask_valid", "resampling", "composite")


def difference(finished: Manifest, cube: Cube, plan: Plan, region_digest: str) -> str | None:
    """Why the pixels of a finished cube cannot be taken as they are; None if they can.

    Args:
        finished: The manifest of the finished download.
        cube: Its cube.
        plan: What is to be downloaded now.
        region_digest: Of the region's file now.
    """
    settings = plan.settings.what()
    offsets = {scene.item.id: scene.radiometry.offset for group in plan.acquisitions for scene in group.scenes}
    checks = {
        "region": finished.inputs["region"] == region_digest,
        "grid": cube.grid == plan.grid,
        "bands": cube.bands == plan.bands,
        "encoding": cube.encoding == plan.encoding,
        "provider": finished.records["provider"] == plan.provider.as_dict(),
        **{name: finished.settings[name] == settings[name] for name in DECISIVE},
        "composite": plan.settings.composite == "none",
        "radiometry": all(
            offsets.get(record["id"], record["offset"]) == record["offset"] for record in finished.records["scenes"]
        ),
    }
    return next((name for name, same in checks.items() if not same), None)


def known(finished: Manifest) -> dict[str, Seen]:
    """Item ids of the acquisitions of a finished download → what their masks show of the region."""
    return {
        record["items"]: Seen(record["region_pixels"], record["observed_pixels"], record["clear_pixels"])
        for record in finished.records["acquisitions"]
        if "region_pixels" in record
    }


def merged(finished: Manifest, cube: Cube, fetched: Fetched, records: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """What each scene gave; of the dates that were taken as they are, what the finished download says of them."""
    before = {record["id"]: record for record in finished.records["scenes"]}
    taken = {name for group in fetched.acquisitions if group.ids in cube.items for name in group.ids.split()}
    return [before[record["id"]] if record["id"] in taken else record for record in records]
