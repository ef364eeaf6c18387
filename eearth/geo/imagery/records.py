"""What a download leaves behind besides the pixels: which scene gave what, and why the others gave nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from shapely.geometry import box

from eearth.geo.imagery.scenes import surviving
from eearth.manifest import redacted

if TYPE_CHECKING:
    from shapely.geometry.base import BaseGeometry

    from eearth.geo.imagery.assemble import Assembled
    from eearth.geo.imagery.choice import Seen
    from eearth.geo.imagery.fetch import Fetched
    from eearth.geo.imagery.plan import Plan
    from eearth.geo.imagery.scenes import Scene


def scene_records(plan: Plan, fetched: Fetched, done: Assembled) -> list[dict[str, Any]]:
    """What each scene contributed to the cube, against what its footprint promised.

    `promised_pixels` is the part of the grid inside the item's footprint. Ground that an earlier scene of the same pass
    showed, or promised, is in neither of the later one's counts.
    """
    records = []
    for group in fetched.acquisitions:
        open_ground: BaseGeometry = box(*plan.grid.bounds)
        for scene in group.scenes:
            records.append(_scene_record(plan, scene, open_ground, done.contributed))
            open_ground = open_ground.difference(scene.area)
    return records


def _scene_record(
    plan: Plan, scene: Scene, open_ground: BaseGeometry, contributed: dict[str, tuple[int, int]]
) -> dict[str, Any]:
    width, height = plan.grid.resolution
    observed, valid = contributed.get(scene.item.id, (0, 0))
    return {
        "id": scene.item.id,
        "time": scene.time.isoformat(),
        "promised_pixels": round(scene.area.intersection(open_ground).area / (width * height)),
        "observed_pixels": observed,
        "valid_pixels": valid,
        "pixels": plan.grid.window.pixels,
        "offset": scene.radiometry.offset,
        "radiometry": scene.radiometry.reason,
        "masked": scene.mask is not None,
    }


def acquisition_records(plan: Plan, fetched: Fetched) -> list[dict[str, Any]]:
    """Every acquisition that was looked at: what its masks show, and why it was not fetched."""
    return [
        {"items": group.ids, "time": group.time.isoformat(), **_seen(fetched.seen.get(group.ids)),
         "left_out": fetched.removed.get(group.ids)}
        for group in surviving(plan.acquisitions, fetched.dropped)
    ]  # fmt: skip


def _seen(seen: Seen | None) -> dict[str, Any]:
    if seen is None:
        return {}
    return {"region_pixels": seen.region, "observed_pixels": seen.observed, "clear_pixels": seen.clear}


def item_collection(fetched: Fetched) -> dict[str, Any]:
    """The scenes' items as a GeoJSON feature collection, without what may be signatures."""
    features = []
    for group in fetched.acquisitions:
        for scene in group.scenes:
            feature = scene.item.to_dict(include_self_link=False, transform_hrefs=False)
            for asset in feature["assets"].values():
                asset["href"] = redacted(asset["href"])
            feature["links"] = []
            features.append(feature)
    return {"type": "FeatureCollection", "features": features}
