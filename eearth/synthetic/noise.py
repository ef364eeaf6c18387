"""Smooth random fields: the raw material of soils, woods' edges and clouds."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray


def smooth_field(rng: np.random.Generator, side: int, *, scale: float, roughness: float = 3.0) -> NDArray[np.float32]:
    """A Gaussian random field that wraps around at its edges.

    White noise is filtered by (1 + (2πk·scale)²)^(−roughness/2), the square root of a Matérn spectrum (Whittle 1954).

    Args:
        rng: Source of the white noise.
        side: Rows and columns.
        scale: Correlation length in pixels.
        roughness: Fall of the amplitude with the wave number k; smaller means more fine detail.

    Returns:
        (side, side), mean 0, standard deviation 1.
    """
    wave = 2 * np.pi * scale * np.hypot(np.fft.fftfreq(side)[:, None], np.fft.rfftfreq(side)[None, :])
    spectrum = np.fft.rfft2(rng.standard_normal((side, side))) * (1 + wave**2) ** (-roughness / 2)
    spectrum[0, 0] = 0
    field = np.fft.irfft2(spectrum, s=(side, side))
    return np.asarray(field / field.std(), dtype=np.float32)


def rising(value: NDArray[np.floating]) -> NDArray[np.floating]:
    """The logistic step from 0 to 1, without overflow far from the step."""
    return np.asarray(1 / (1 + np.exp(-np.clip(value, -40, 40))))
