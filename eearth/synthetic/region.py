"""A simulated region: one year of Sentinel-2 over a small landscape, its labels and the whole truth.

It lets the demo run without a network, and tests know what is right. The difficulties are those of real data: fields
of one class differ in season, vigour, soil and colour; clouds, shadows and a swath's edge hide a good half of the
pixels; the scene classification has flaws; most products' DN do not have the offset that the catalog states.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from eearth.errors import UsageError
from eearth.events import Advanced, Finished, Report, Started, silent
from eearth.synthetic import phenology
from eearth.synthetic.acquisitions import TRACK, Acquisition, schedule
from eearth.synthetic.catalog import COLLECTION, TEN_METRES, Scene, encode, write_collection, write_scene
from eearth.synthetic.climate import TEMPERATE, Climate
from eearth.synthetic.landscape import CLASSES, Landscape, lay_out
from eearth.synthetic.place import Place, write_raster
from eearth.synthetic.reference import survey, write_labels, write_region
from eearth.synthetic.sky import Sky, classify, covered_by_snow, sun_position, through_sky

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Array = NDArray[np.floating]

SMALLEST, LARGEST = 96, 2048  # pixels a side: room for a few objects of each class; a few gigabytes of memory
MOSTLY_ROOF = 0.5  # share of a pixel under roofs that dazzles the scene classification
# Share of a pixel's signal that comes from each of its two neighbours along a row or column: a modulation of
# 1 - 4 * SPREAD = 0.4 at the Nyquist frequency, 0.26 with the pixel's own 0.64; Sentinel-2 is specified to 0.15..0.30.
SPREAD = 0.15
# How much of each surface lies under snow when open ground is hidden completely.
SNOW_BELOW = {"broadleaf": 0.3, "conifer": 0.25, "litter": 0.5, "water": 0.0, "roof": 0.7}


@dataclass(frozen=True)
class SimulatedRegion:
    """Paths of what was simulated.

    Attributes:
        catalog: Static STAC catalog (catalog.json).
        region: Region of interest, GeoJSON in longitude and latitude, 40 m inside the imagery.
        labels: Polygons with the column `class`, a GeoPackage in UTM: six tenths of the objects, as a survey gives.
        truth: Class of every pixel, uint8 on the imagery's 10 m grid; codes 1..K in the alphabetical order of the
            class names, 0 on headlands and tracks.
        classes: Class names; the code of a class is its place, counted from 1.
    """

    catalog: Path
    region: Path
    labels: Path
    truth: Path
    classes: tuple[str, ...] = CLASSES


def simulate(
    folder: Path,
    *,
    size: int = 128,
    scenes: int = 36,
    year: int = 2022,
    seed: int = 0,
    climate: Climate = TEMPERATE,
    report: Report = silent,
) -> SimulatedRegion:
    """Simulate a region and write it below `folder`; the same arguments give the same bytes.

    Args:
        folder: Where to write; made if absent.
        size: Pixels of 10 m along one side, even.
        scenes: Acquisitions in the year, about half of them of an orbit that sees only part of the region.
        year: Calendar year. In 2022, scenes before 25 January come without the offset of baseline 04.00.
        seed: Another landscape in another place; the year changes crops, season and weather only.
        climate: Of the land; crops and landscape are those of central Europe in any.
        report: Receives one step a scene.

    Raises:
        UsageError: A size or number of scenes out of range.
    """
    if size % 2 or not SMALLEST <= size <= LARGEST:
        msg = f"expected an even size of {SMALLEST} to {LARGEST} pixels, found {size}"
        raise UsageError(msg)
    place, landscape = Place(size, seed, climate.north), lay_out(size, seed=seed, year=year)
    world = World.draw(place, landscape, climate, seed=seed, year=year)
    items = []
    passes = schedule(scenes, size=size, seed=seed, year=year)
    report(Started(task="simulate", total=scenes, unit="scenes"))
    for acquisition in passes:
        rng = np.random.default_rng([seed, 8, year, acquisition.index])
        items.append(write_scene(folder / COLLECTION, place, world.scene(acquisition, rng)))
        report(Advanced(task="simulate"))
    report(Finished(task="simulate"))
    catalog = write_collection(folder / COLLECTION, items, place)
    paths = SimulatedRegion(catalog, folder / "region.geojson", folder / "labels.gpkg", folder / "truth.tif")
    write_region(paths.region, place)
    write_raster(paths.truth, landscape.truth, place.transform())
    polygons, classes = survey(place, landscape, np.random.default_rng([seed, 9]))
    write_labels(paths.labels, [place.utm(polygon) for polygon in polygons], classes)
    return paths


@dataclass(frozen=True)
class World:
    """All that stands still, or follows from the date alone, over a year.

    Attributes:
        place: Where the region lies.
        landscape: Its objects.
        climate: Of the land.
        traits: Their traits.
        texture: (surface, y, x) factors on the shares.
        sky: The year's clouds.
    """

    place: Place
    landscape: Landscape
    climate: Climate
    traits: phenology.Traits
    texture: Array
    sky: Sky

    @classmethod
    def draw(cls, place: Place, landscape: Landscape, climate: Climate = TEMPERATE, *, seed: int, year: int) -> World:
        """Draw traits, textures and sky for a landscape."""
        return cls(
            place,
            landscape,
            climate,
            phenology.draw_traits(len(landscape.classes), seed=seed, year=year),
            phenology.textures(place.size, seed=seed),
            Sky.draw(place.size, seed=seed, year=year),
        )

    def mixture(self, acquisition: Acquisition) -> Array:
        """(y, x, surface) shares on the day of an acquisition."""
        day = self.climate.season(acquisition.day)
        shares = self.climate.covered(phenology.shares(self.landscape.classes, self.traits, day))
        shares[:, phenology.NAMES.index("soil")] *= acquisition.wetness
        return np.asarray(shares[self.landscape.objects] * np.moveaxis(self.texture, 0, -1))

    def ground(self, mixture: Array) -> Array:
        """(y, x, band) reflectance below the atmosphere, blurred by the sensor's optics."""
        colour = self.traits.colour.astype(np.float32)[self.landscape.objects]
        return _blurred(mixture @ self.climate.spectra * colour)

    def scene(self, acquisition: Acquisition, rng: np.random.Generator) -> Scene:
        """Render one acquisition."""
        longitude, latitude = self.place.lonlat(self.place.region).centroid.coords[0]
        sun = sun_position(acquisition.time, longitude, latitude)
        opacity = self.sky.opacity(acquisition.hours, acquisition.cover)
        cloud, shade = self.sky.overhead(opacity), self.sky.towards_sun(opacity, sun)
        mixture = self.mixture(acquisition)
        snow = (acquisition.snow if self.climate.snowy else 0.0) * _exposed(mixture)
        clear = covered_by_snow(self.ground(mixture), snow)
        sensed = _noisy(rng, through_sky(clear, cloud, shade, haze=acquisition.haze, gain=acquisition.gain))
        roof = mixture[..., phenology.NAMES.index("roof")]
        scl = classify(
            rng,
            _halved(sensed),
            cloud=_halved(cloud),
            shade=_halved(shade),
            snow=_halved(snow),
            roof=_halved(roof) > MOSTLY_ROOF,
        )
        return Scene(acquisition, sun, _assets(self.place, acquisition, sensed, scl))


def _assets(
    place: Place, acquisition: Acquisition, sensed: Array, scl: NDArray[np.uint8]
) -> dict[str, NDArray[np.integer]]:
    """DN of every asset: 10 m bands as sensed, 20 m bands as means of 2 x 2 pixels, nothing outside the swath."""
    seen = _seen(place, acquisition)
    fine = seen.repeat(2, axis=0).repeat(2, axis=1)
    coarse = _halved(sensed)
    assets: dict[str, NDArray[np.integer]] = {}
    for index, band in enumerate(phenology.BANDS):
        source, mask = (sensed, fine) if band in TEN_METRES else (coarse, seen)
        assets[band] = encode(source[..., index], mask, shifted=acquisition.shifted)
    return {**assets, "scl": np.where(seen, scl, 0).astype(np.uint8)}


def _seen(place: Place, acquisition: Acquisition) -> NDArray[np.bool_]:
    """(y, x) at 20 m: pixels whose centre lies in the swath; the same edge for every band."""
    centres = (np.arange(place.size // 2) + 0.5) * 2
    if acquisition.edge is None:
        return np.ones((centres.size, centres.size), dtype=bool)
    return np.asarray(centres[None, :] < acquisition.edge - centres[:, None] * math.tan(TRACK))


def _exposed(mixture: Array) -> Array:
    """(y, x) how much of the ground snow can hide: little of a wood, nothing of open water."""
    weight = np.array([SNOW_BELOW.get(name, 1.0) for name in phenology.NAMES], dtype=np.float32)
    return np.asarray((mixture @ weight) / mixture.sum(axis=-1))


def _blurred(image: Array) -> Array:
    """(y, x, band) after the point spread along rows, then columns; edges are repeated."""
    for axis in (0, 1):
        padded = np.pad(image, [(1, 1) if axis == k else (0, 0) for k in range(3)], mode="edge")
        before, after = (np.take(padded, range(start, start + image.shape[axis]), axis) for start in (0, 2))
        image = (1 - 2 * SPREAD) * image + SPREAD * (before + after)
    return image


def _noisy(rng: np.random.Generator, reflectance: Array) -> Array:
    """Sensor noise: 0.001 plus 1 % of the signal, of the order of Sentinel-2's signal-to-noise requirement."""
    noise = rng.standard_normal(reflectance.shape, dtype=np.float32)
    return reflectance + noise * (0.001 + 0.01 * reflectance)


def _halved(image: Array) -> Array:
    """Means of 2 x 2 pixels over the first two axes."""
    rows, columns = image.shape[0] // 2, image.shape[1] // 2
    return np.asarray(image.reshape(rows, 2, columns, 2, *image.shape[2:]).mean(axis=(1, 3)))
