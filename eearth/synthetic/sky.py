"""Between ground and sensor: drifting clouds, their shadows, haze, snow, and what a scene classifier makes of them."""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import NormalDist
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from eearth.synthetic.landscape import PIXEL
from eearth.synthetic.noise import smooth_field
from eearth.synthetic.phenology import BANDS

if TYPE_CHECKING:
    from datetime import datetime

    Array = NDArray[np.floating]

# All spectra in the order of `phenology.BANDS`.
CLOUD = np.array((0.72, 0.70, 0.70, 0.71, 0.72, 0.72, 0.73, 0.73, 0.45, 0.36), dtype=np.float32)
SNOW = np.array((0.82, 0.83, 0.83, 0.82, 0.80, 0.79, 0.77, 0.75, 0.10, 0.08), dtype=np.float32)
# Path radiance that the atmospheric correction left behind falls with the wavelength.
HAZE = np.array((1.0, 0.75, 0.55, 0.48, 0.42, 0.38, 0.35, 0.33, 0.10, 0.05), dtype=np.float32)
# A shadow keeps the diffuse light of the sky, which is blue.
SHADE = np.array((0.48, 0.54, 0.60, 0.62, 0.65, 0.66, 0.68, 0.68, 0.74, 0.76), dtype=np.float32)

CLOUD_HEIGHT = 900.0  # metres above ground: low fair-weather clouds, so that shadows stay inside a small region
REACH = 512  # pixels of sky beyond the region: more than the longest shadow, that of the winter solstice
EDGE = 0.7  # standard deviations of the cloud field between clear sky and full opacity

# Where the classifier draws its lines: opacity of cloud and of shadow, NDVI, reflectance in the near infrared.
CLOUD_CLASSES = ((0.05, 7), (0.10, 10), (0.25, 8), (0.55, 9))
THIN, SHADED, SNOWY, GREEN, DARK = 0.6, 0.25, 0.5, 0.4, 0.08

# The classifier's flaws, as shares; real Sen2Cor masks are several times worse at thin cloud.
MISSED = 0.08  # of thin cloud and of shadow, in patches: shown as what lies below
FALSE_ROOFS = 0.04  # of bright roofs: taken for cloud
FALSE_ANYWHERE = 0.003  # of all clear ground: taken for cloud or left unclassified


class Sun(NamedTuple):
    """Where the sun stands, in degrees: azimuth clockwise from north, elevation above the horizon."""

    azimuth: float
    elevation: float


def sun_position(when: datetime, longitude: float, latitude: float) -> Sun:
    """The sun at a time (UTC) and place (degrees), by Cooper's declination (1969), without the equation of time."""
    declination = math.radians(23.45 * math.sin(2 * math.pi * (284 + when.timetuple().tm_yday) / 365))
    hour = math.radians(15 * (when.hour + when.minute / 60 - 12) + longitude)
    phi = math.radians(latitude)
    up = math.sin(phi) * math.sin(declination) + math.cos(phi) * math.cos(declination) * math.cos(hour)
    east = -math.cos(declination) * math.sin(hour)
    north = math.cos(phi) * math.sin(declination) - math.sin(phi) * math.cos(declination) * math.cos(hour)
    return Sun(math.degrees(math.atan2(east, north)) % 360, math.degrees(math.asin(up)))


@dataclass(frozen=True)
class Sky:
    """A sheet of clouds that the wind carries over the region; it wraps around at its edges.

    Attributes:
        sheet: (side, side) Gaussian field; the higher, the denser the cloud.
        wind: (pixels eastward, pixels southward) per hour.
        size: Rows and columns of the region below the sheet's upper left corner.
    """

    sheet: NDArray[np.float32]
    wind: tuple[float, float]
    size: int

    @classmethod
    def draw(cls, size: int, *, seed: int, year: int) -> Sky:
        """Draw a year's sky; the wind blows from the west at 4 to 9 m/s, turning up to 40° to either side."""
        rng = np.random.default_rng([seed, 6, year])
        sheet = smooth_field(rng, size + REACH, scale=12.0, roughness=2.5)
        speed, heading = rng.uniform(4, 9) * 3600 / PIXEL, math.radians(rng.uniform(-40, 40))
        return cls(sheet, (speed * math.cos(heading), speed * math.sin(heading)), size)

    def opacity(self, hours: float, cover: float) -> Array:
        """(side, side) opacity 0..1 of the sheet after `hours` of drift; `cover` is the share with any cloud."""
        drift = round(self.wind[1] * hours), round(self.wind[0] * hours)
        threshold = np.quantile(self.sheet, 1 - cover) if cover > 0 else np.inf
        depth = np.clip((np.roll(self.sheet, drift, axis=(0, 1)) - threshold) / EDGE, 0, 1)
        return np.asarray(depth * depth * (3 - 2 * depth), dtype=np.float32)

    def overhead(self, opacity: Array) -> Array:
        """(y, x) opacity between the region and a sensor at the zenith."""
        return opacity[: self.size, : self.size]

    def towards_sun(self, opacity: Array, sun: Sun) -> Array:
        """(y, x) opacity between the region and the sun: shadows fall on the far side of their cloud."""
        reach = CLOUD_HEIGHT / math.tan(math.radians(sun.elevation)) / PIXEL
        azimuth = math.radians(sun.azimuth)
        shift = round(reach * math.cos(azimuth)), -round(reach * math.sin(azimuth))
        return np.roll(opacity, shift, axis=(0, 1))[: self.size, : self.size]


def covered_by_snow(reflectance: Array, snow: Array) -> Array:
    """(y, x, band) reflectance where `snow` (y, x) is the share of the ground that it hides."""
    return np.asarray(reflectance * (1 - snow[..., None]) + SNOW * snow[..., None])


def through_sky(reflectance: Array, cloud: Array, shade: Array, *, haze: float, gain: float) -> Array:
    """(y, x, band) reflectance as the sensor's product shows it: shadow, then haze and gain, then cloud on top."""
    lit = reflectance * (1 - SHADE * shade[..., None])
    hazy = gain * (lit * (1 - haze * HAZE) + haze * HAZE)
    return np.asarray(hazy * (1 - cloud[..., None]) + CLOUD * cloud[..., None])


def classify(
    rng: np.random.Generator, reflectance: Array, *, cloud: Array, shade: Array, snow: Array, roof: NDArray[np.bool_]
) -> NDArray[np.uint8]:
    """Sen2Cor's scene classes (y, x) with a few of its omissions and commissions.

    2 dark, 3 shadow, 4 vegetation, 5 bare, 6 water, 7 unclassified, 8 and 9 cloud of medium and high probability,
    10 cirrus, 11 snow.
    """
    ground = _ground(reflectance, snow)
    missed = (cloud < THIN) & (smooth_field(rng, cloud.shape[0], scale=4.0) > _upper_quantile(MISSED))
    scene = np.where(shade > SHADED, 3, ground)
    for opacity, label in CLOUD_CLASSES:
        scene = np.where(cloud > opacity, label, scene)
    scene = np.where(missed, ground, scene)
    luck = rng.random(cloud.shape)
    scene = np.where(roof & (luck < FALSE_ROOFS), 8, scene)
    return np.where(luck > 1 - FALSE_ANYWHERE, rng.integers(7, 9, cloud.shape), scene).astype(np.uint8)


def _ground(reflectance: Array, snow: Array) -> NDArray[np.integer]:
    """Classes of the surface from what the sensor sees, so that thin cloud and shadow mislead it."""
    green, red, nir = (reflectance[..., BANDS.index(name)] for name in ("green", "red", "nir"))
    ndvi = (nir - red) / np.maximum(nir + red, 1e-6)
    bare = np.where(nir < DARK, np.where(green > 0.7 * nir, 6, 2), 5)
    return np.where(snow > SNOWY, 11, np.where((ndvi > GREEN) & (nir >= DARK), 4, bare))


def _upper_quantile(share: float) -> float:
    """The value that a standard Gaussian exceeds with probability `share`."""
    return NormalDist().inv_cdf(1 - share)
