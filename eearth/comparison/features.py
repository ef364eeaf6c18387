"""What classifiers of single pixels look at beside monthly medians: the features of a frozen encoder."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch

from eearth.errors import ModelError
from eearth.training.head import encoded_around

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from eearth.data.series import Series
    from eearth.models.encoder import Encoder


def encoded(series: Series, encoder: Encoder, wanted: NDArray[np.bool_], device: str) -> NDArray[np.float32]:
    """An encoder's features, as a map would see them; what no wanted pixel depends on is not looked at.

    Args:
        series: The region's imagery.
        encoder: The encoder; moved to `device`.
        wanted: (y, x), True where features are wanted.
        device: Where the network runs.

    Returns:
        (pixel, feature), pixels in the order of `np.nonzero(wanted)`; 0 where a pixel was never seen clearly.

    Raises:
        ModelError: The encoder's features are not finite, or the series lacks a band.
    """
    encoder.to(device).eval()
    pixels = np.argwhere(wanted)
    number = np.zeros(wanted.shape, np.intp)
    number[wanted] = np.arange(len(pixels))
    features = np.zeros((len(pixels), encoder.features), np.float32)
    with torch.inference_mode():
        for around in encoded_around(pixels, series, encoder, device):
            clear, found = around.clear[around.place], around.features[around.place]
            features[number[tuple(around.pixels.T)]] = np.where(clear[:, None], found, 0)
    if not np.isfinite(features).all():
        msg = "expected finite features, found NaN or infinity: the encoder is damaged, run `eearth pretrain` again"
        raise ModelError(msg)
    return features
