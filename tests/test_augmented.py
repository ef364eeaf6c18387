"""Maps that are the mean over the eight flips and quarter turns of the imagery."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch
from test_inference import region

from eearth.data.series import Chips, Series
from eearth.data.sights import Account, Sight
from eearth.data.turning import from_all_sides
from eearth.geo.grid import Window, tiles_of
from eearth.geo.lattice import margin_for
from eearth.inference.classify import classify
from eearth.inference.mapping import LandCoverMapper
from eearth.inference.tiles import predict_tile
from eearth.inference.walk import Clock, Tile
from eearth.models.registry import MODELS, build
from eearth.models.segmentation import LandCoverModel


def model_of(name: str) -> LandCoverModel:
    torch.manual_seed(3)
    bands = ("blue", "green", "red")
    model = LandCoverModel(build(name, bands=bands, mean=[0.0] * 3, std=[1.0] * 3, features=8, depth=1), (1, 2, 5))
    for weight in model.parameters():
        torch.nn.init.normal_(weight, std=0.3)
    return model


def mapped(model: LandCoverModel, source: Series, size: int, margin: int, *, augment: bool = True) -> np.ndarray:
    whole = Window(0, 0, *source.shape)
    found, _ = predict_tile(model, source, whole, augment=augment, size=size, margin=margin, device="cpu", batch=2)
    return found


@pytest.mark.parametrize("name", MODELS)
def test_in_windows_it_is_what_it_is_in_one_piece(name: str) -> None:
    model = model_of(name)
    margin = margin_for(model.margin)
    size = 2 * margin + 8
    source = region(size + 7, size + 2)
    whole = mapped(model, source, size + 8, 0)
    np.testing.assert_allclose(mapped(model, source, size, margin), whole, atol=1e-5)
    assert np.abs(whole - mapped(model, source, size + 8, 0, augment=False)).max() > 1e-3
    np.testing.assert_allclose(whole.sum(axis=0), 1, atol=1e-5)


@pytest.mark.parametrize("name", MODELS)
def test_it_is_the_mean_of_the_maps_of_turned_imagery(name: str) -> None:
    model, source = model_of(name), region(40, 28)
    expected = np.zeros((3, 40, 28))
    for flip in (False, True):
        for quarters in range(4):
            seen = [np.asarray(part) for part in (source.reflectance, source.valid)]
            turned = [np.rot90(part[..., ::-1] if flip else part, quarters, (-2, -1)) for part in seen]
            view = replace(source, reflectance=turned[0], valid=turned[1])
            ground = np.rot90(mapped(model, view, 40, 0, augment=False), -quarters, (-2, -1))
            expected += (ground[..., ::-1] if flip else ground) / 8
    np.testing.assert_allclose(mapped(model, source, 40, 0), expected, atol=1e-5)


def test_the_mean_turns_with_the_imagery() -> None:
    model = from_all_sides(model_of("seasonal-unet"))
    random = torch.Generator().manual_seed(0)
    values, valid = torch.rand(1, 4, 3, 8, 12, generator=random), torch.rand(1, 4, 8, 12, generator=random) < 0.8
    day = torch.tensor([[20.0, 100.0, 200.0, 300.0]])
    with torch.no_grad():
        straight = model(Chips(values, valid, day))
        turned = model(Chips(values.rot90(1, (-2, -1)), valid.rot90(1, (-2, -1)), day))
    torch.testing.assert_close(turned.rot90(-1, (-2, -1)), straight, atol=1e-5, rtol=0)


@dataclass(frozen=True)
class Small:
    window_size: int = 64
    batch_size: int = 1
    min_confidence: int = 0
    probabilities: bool = False
    smooth: int = 0


def test_tiles_are_mapped_with_both_turns_and_temperature() -> None:
    model, source = model_of("seasonal-unet"), region(61, 50)
    model.augment, model.temperature = True, 2.5
    work = LandCoverMapper(model, torch.device("cpu"), Small(), Clock())
    expected, seen = predict_tile(
        model, source, Window(0, 0, 61, 50), augment=True, size=64, margin=work.margin, device="cpu", batch=1
    )
    whole = classify(expected, seen, np.ones((61, 50), bool), model.classes, 2.5)
    for window in tiles_of((61, 50), 32):
        inside = np.ones((window.height, window.width), bool)
        found = work(Sight(source, window, (0, 0), Account()), Tile(0, window, inside))
        assert (found.landcover == whole.landcover[window.slices]).all()
        apart = found.confidence.astype(int) - whole.confidence[window.slices]
        assert np.abs(apart).max() <= 1
