"""The imagery's files: COGs and a static STAC catalog of items in the form of Earth Search's."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from shapely.geometry import box, mapping

from eearth.synthetic.acquisitions import FIRST_WITH_OFFSET, Acquisition
from eearth.synthetic.landscape import PIXEL
from eearth.synthetic.phenology import BANDS
from eearth.synthetic.place import EPSG, Place, write_json, write_raster
from eearth.synthetic.sky import Sun

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

TILE = "33TWM"
COLLECTION = "sentinel-2-l2a"
COG_TYPE = "image/tiff; application=geotiff; profile=cloud-optimized"
EXTENSIONS = [
    "https://stac-extensions.github.io/raster/v1.1.0/schema.json",
    "https://stac-extensions.github.io/grid/v1.0.0/schema.json",
    "https://stac-extensions.github.io/projection/v1.1.0/schema.json",
    "https://stac-extensions.github.io/eo/v1.1.0/schema.json",
    "https://stac-extensions.github.io/view/v1.0.0/schema.json",
]

# Common name -> (Sentinel-2 band, pixel in metres, centre wavelength and full width at half maximum in micrometres).
SENSOR = {
    "blue": ("B02", 10, 0.490, 0.098),
    "green": ("B03", 10, 0.560, 0.045),
    "red": ("B04", 10, 0.665, 0.038),
    "rededge1": ("B05", 20, 0.704, 0.019),
    "rededge2": ("B06", 20, 0.740, 0.018),
    "rededge3": ("B07", 20, 0.783, 0.028),
    "nir": ("B08", 10, 0.842, 0.145),
    "nir08": ("B8A", 20, 0.865, 0.033),
    "swir16": ("B11", 20, 1.610, 0.143),
    "swir22": ("B12", 20, 2.190, 0.242),
}
TEN_METRES = tuple(name for name in BANDS if SENSOR[name][1] == PIXEL)

SCALE = 1e-4  # reflectance of one DN
OFFSET_DN = 1000  # baseline 04.00: DN = reflectance / SCALE + 1000

PERCENTAGES = {
    "s2:dark_features_percentage": (2,),
    "s2:cloud_shadow_percentage": (3,),
    "s2:vegetation_percentage": (4,),
    "s2:not_vegetated_percentage": (5,),
    "s2:water_percentage": (6,),
    "s2:unclassified_percentage": (7,),
    "s2:medium_proba_clouds_percentage": (8,),
    "s2:high_proba_clouds_percentage": (9,),
    "s2:thin_cirrus_percentage": (10,),
    "s2:snow_ice_percentage": (11,),
    "eo:cloud_cover": (8, 9, 10),
}


@dataclass(frozen=True)
class Scene:
    """One rendered acquisition: `assets` maps an asset key to its DN (y, x), at 10 or 20 m."""

    acquisition: Acquisition
    sun: Sun
    assets: Mapping[str, NDArray[np.integer]]

    @property
    def name(self) -> str:
        """Item id in Earth Search's form."""
        letter = self.acquisition.platform[-1].upper()
        return f"S2{letter}_{TILE}_{self.acquisition.time:%Y%m%d}_0_L2A"


def encode(reflectance: NDArray[np.floating], seen: NDArray[np.bool_], *, shifted: bool) -> NDArray[np.uint16]:
    """Reflectance → DN; 0 where the sensor saw nothing, at least 1 elsewhere."""
    counts = np.rint(reflectance / SCALE) + (OFFSET_DN if shifted else 0)
    return np.where(seen, np.clip(counts, 1, 2**15 - 1), 0).astype(np.uint16)


def write_scene(folder: Path, place: Place, scene: Scene) -> dict[str, Any]:
    """Write a scene's COGs and its item below the collection's folder; returns the item."""
    target = folder / "assets" / scene.name
    target.mkdir(parents=True, exist_ok=True)
    for key, counts in scene.assets.items():
        write_raster(target / f"{key}.tif", counts, place.transform(place.side / counts.shape[0]))
    item = _item(place, scene)
    write_json(folder / "items" / f"{scene.name}.json", item)
    return item


def write_collection(folder: Path, items: Sequence[dict[str, Any]], place: Place) -> Path:
    """Write collection.json beside the items and catalog.json above it; returns the latter's path."""
    times = sorted(item["properties"]["datetime"] for item in items)
    collection = {
        "type": "Collection",
        "stac_version": "1.0.0",
        "id": COLLECTION,
        "title": "Simulated Sentinel-2 L2A",
        "description": "A simulated landscape over one year, as Sentinel-2 Level-2A would show it. Not real data.",
        "license": "Apache-2.0",
        "extent": {
            "spatial": {"bbox": [list(place.lonlat(box(0, 0, place.side, place.side)).bounds)]},
            "temporal": {"interval": [[times[0], times[-1]]]},
        },
        "links": [_link("root", "../catalog.json"), _link("parent", "../catalog.json")]
        + [_link("item", f"./items/{item['id']}.json", "application/geo+json") for item in items],
    }
    catalog = {
        "type": "Catalog",
        "stac_version": "1.0.0",
        "id": "eearth-simulation",
        "description": "The simulated region of eearth.",
        "links": [_link("root", "./catalog.json"), _link("child", f"./{folder.name}/collection.json")],
    }
    write_json(folder / "collection.json", collection)
    write_json(folder.parent / "catalog.json", catalog)
    return folder.parent / "catalog.json"


def _item(place: Place, scene: Scene) -> dict[str, Any]:
    """A STAC item in the form of Earth Search v1."""
    acquisition = scene.acquisition
    footprint = place.lonlat(acquisition.swath(place.side))
    stamp = f"{acquisition.time:%Y-%m-%dT%H:%M:%S}.000000Z"
    properties = {
        "created": stamp,
        "updated": stamp,
        "datetime": stamp,
        "platform": acquisition.platform,
        "constellation": "sentinel-2",
        "instruments": ["msi"],
        "proj:epsg": EPSG,
        "grid:code": f"MGRS-{TILE}",
        "view:sun_azimuth": round(scene.sun.azimuth, 6),
        "view:sun_elevation": round(scene.sun.elevation, 6),
        **_percentages(scene.assets["scl"]),
        "s2:product_type": "S2MSI2A",
        "s2:processing_baseline": acquisition.baseline,
        "s2:product_uri": _product_uri(acquisition),
        "s2:sequence": "0",
        "earthsearch:boa_offset_applied": acquisition.harmonised,
    }
    return {
        "type": "Feature",
        "stac_version": "1.0.0",
        "stac_extensions": EXTENSIONS,
        "id": scene.name,
        "collection": COLLECTION,
        "bbox": list(footprint.bounds),
        "geometry": mapping(footprint),
        "properties": properties,
        "links": [
            _link("root", "../../catalog.json"),
            _link("parent", "../collection.json"),
            _link("collection", "../collection.json"),
        ],
        "assets": {key: _asset(place, scene, key) for key in scene.assets},
    }


def _asset(place: Place, scene: Scene, key: str) -> dict[str, Any]:
    shape = scene.assets[key].shape
    pixel = place.side / shape[0]
    entry: dict[str, Any] = {
        "href": f"../assets/{scene.name}/{key}.tif",
        "type": COG_TYPE,
        "title": key if key in SENSOR else "Scene classification map (SCL)",
        "proj:shape": list(shape),
        "proj:transform": list(place.transform(pixel))[:6],
        "raster:bands": [{"nodata": 0, "data_type": scene.assets[key].dtype.name, "spatial_resolution": pixel}],
        "roles": ["data", "reflectance"],
    }
    if key in SENSOR:
        _, gsd, centre, width = SENSOR[key]
        # As in the real catalog, the offset follows the baseline and not the DN: where the provider has taken it
        # away, whoever applies it again gets negative reflectance.
        offset = -OFFSET_DN * SCALE if scene.acquisition.baseline >= FIRST_WITH_OFFSET else 0
        entry["raster:bands"][0] |= {"bits_per_sample": 15, "scale": SCALE, "offset": offset}
        band = {"name": key, "common_name": key, "center_wavelength": centre, "full_width_half_max": width}
        entry |= {"gsd": gsd, "eo:bands": [band]}
    return entry


def _product_uri(acquisition: Acquisition) -> str:
    """The product's name, which tells the orbit."""
    stamp = f"{acquisition.time:%Y%m%dT%H%M%S}"
    baseline = acquisition.baseline.replace(".", "")
    letter = acquisition.platform[-1].upper()
    return f"S2{letter}_MSIL2A_{stamp}_N{baseline}_R{acquisition.orbit:03d}_T{TILE}_{stamp}.SAFE"


def _percentages(scl: NDArray[np.integer]) -> dict[str, float]:
    """Shares of the scene's classes, in per cent of what was seen, and of what was not, in per cent of all."""
    counts = np.bincount(scl.ravel(), minlength=12)
    seen = max(1, int(counts[1:].sum()))
    shares = {name: round(100 * float(counts[list(codes)].sum()) / seen, 6) for name, codes in PERCENTAGES.items()}
    return {**shares, "s2:nodata_pixel_percentage": round(100 * float(counts[0]) / scl.size, 6)}


def _link(rel: str, href: str, kind: str = "application/json") -> dict[str, str]:
    return {"rel": rel, "href": href, "type": kind}
