"""Maps that are the mean over the eight flips and quarter turns of the imagery."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from rasterio.crs import CRS
from rasterio.transform import Affine
from test_inference import region

from eearth.data.series import Chips, Series
from eearth.data.turning import from_all_sides
from eearth.geo.grid import Grid, Window
from eearth.geo.lattice import margin_for
from eearth.inference.classify import classify
from eearth.inference.tiles import predict_tile, predict_tiles
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


def test_a_walk_over_tiles_is_told_of_both_turns_and_temperature() -> None:
    model, source = model_of("seasonal-unet"), region(61, 50)
    grid = Grid(CRS.from_epsg(32633), Affine(10, 0, 0, 0, -10, 0), 61, 50)
    how = {"size": 64, "margin": 16, "device": "cpu", "batch": 1}
    expected, seen = predict_tile(model, source, grid.window, augment=True, **how)  # type: ignore[arg-type]
    whole = classify(expected, seen, np.ones((61, 50), bool), model.classes, 2.5)
    for tile in predict_tiles(
        model,
        source,
        grid,
        lambda window: np.ones((window.height, window.width), bool),
        model.classes,
        tile=32,
        temperature=2.5,
        augment=True,
        **how,  # type: ignore[arg-type]
    ):
        assert (tile.prediction.landcover == whole.landcover[tile.window.slices]).all()
        apart = tile.prediction.confidence.astype(int) - whole.confidence[tile.window.slices]
        assert np.abs(apart).max() <= 1
