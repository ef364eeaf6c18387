"""Pictures that a page carries in itself, as data addresses; the same pixels give the same bytes."""

from __future__ import annotations

import base64
import io
from typing import TYPE_CHECKING

import numpy as np
from matplotlib import colormaps
from PIL import Image

from eearth.geo.products.landcover.prediction import OUTSIDE, rgb

if TYPE_CHECKING:
    from collections.abc import Iterable

    from numpy.typing import NDArray

# Of WebP, 0..100: a picture to lay a map over, not to measure in.
QUALITY = 78


def class_image(codes: NDArray[np.uint8], colours: Iterable[tuple[int, str]]) -> str:
    """A PNG whose palette is the legend, 0 transparent; the page's script reads the codes out of it again.

    Args:
        codes: (y, x) class codes.
        colours: (code, "#rrggbb") of each class.
    """
    palette = np.zeros((256, 3), dtype=np.uint8)
    for code, colour in colours:
        palette[code] = rgb(colour)
    return address("image/png", palette_png(codes, palette, transparent=0))


def percent_image(percent: NDArray[np.uint8], most: int = 100) -> str:
    """A PNG of percentages 0..`most` in the colours of `confidence_colours`, outside the region transparent."""
    palette = np.zeros((256, 3), dtype=np.uint8)
    palette[: most + 1] = [rgb(colour) for colour in confidence_colours(most + 1)]
    return address("image/png", palette_png(percent, palette, transparent=OUTSIDE))


def confidence_colours(count: int) -> list[str]:
    """So many colours, as "#rrggbb", from none to the most: cividis, which colour-blind readers see as others do.

    Nuñez, Anderton & Renslow 2018, PLoS ONE 13(7): e0199239.
    """
    shades = (colormaps["cividis"](np.linspace(0, 1, count))[:, :3] * 255).round().astype(int)
    return [f"#{red:02x}{green:02x}{blue:02x}" for red, green, blue in shades]


def palette_png(values: NDArray[np.uint8], palette: NDArray[np.uint8], *, transparent: int, effort: int = 9) -> bytes:
    """One byte a pixel, whatever the number of colours, and no filter: easy to read without a library.

    Args:
        values: (y, x).
        palette: (256, 3) red, green and blue of each value.
        transparent: The value that shows what lies below.
        effort: Of the compression, 0..9.
    """
    image = Image.fromarray(np.ascontiguousarray(values))
    image.putpalette(palette.tobytes())
    buffer = io.BytesIO()
    image.save(buffer, format="PNG", bits=8, transparency=transparent, compress_level=effort)
    return buffer.getvalue()


def photograph(picture: NDArray[np.uint8]) -> str:
    """The data address of a WebP of (y, x, red green blue alpha)."""
    return address("image/webp", webp(picture))


def webp(picture: NDArray[np.uint8]) -> bytes:
    """A WebP of (y, x, red green blue alpha)."""
    buffer = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(picture)).save(buffer, format="WEBP", quality=QUALITY, method=4)
    return buffer.getvalue()


def address(kind: str, content: bytes) -> str:
    """The data address of a picture."""
    return f"data:{kind};base64,{base64.b64encode(content).decode('ascii')}"
