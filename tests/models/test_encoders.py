"""What every encoder promises, whatever it is made of."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, get_args, get_type_hints

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from random_chips import chips, each

from eearth.data.series import Chips
from eearth.errors import ModelError
from eearth.geo.lattice import STEP, margin_for
from eearth.inference.tiles import EVALUATION_WINDOW
from eearth.models.registry import MODELS, build, build_land_cover
from eearth.models.segmentation import LandCoverModel
from eearth.settings import PredictSettings, PretrainSettings

if TYPE_CHECKING:
    from collections.abc import Iterator

    from eearth.models.encoder import Encoder

BANDS = ("blue", "red", "nir")
SMALL: dict[str, dict[str, int]] = {
    "seasonal-unet": {"hidden": 8},
    "temporal-attention-unet": {"hidden": 8, "heads": 4},
    "unet3d": {"hidden": 4, "slots": 8},
    "convlstm-unet": {"hidden": 8, "directions": 2},
    "tsvit": {"width": 8, "heads": 2, "tokens": 2},
}

every_encoder = pytest.mark.parametrize("name", MODELS)
every_depth = pytest.mark.parametrize("depth", [0, 1, 2])
some = settings(max_examples=8, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
sides, seeds = st.integers(1, 11), st.integers(0, 99)


@pytest.fixture(autouse=True, scope="module")
def _one_thread() -> Iterator[None]:
    """Small convolutions are slower on several threads."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def fresh(name: str, depth: int = 1, bands: int = 2) -> Encoder:
    torch.manual_seed(0)
    numbers: dict[str, Any] = {"mean": [0.5] * bands, "std": [0.3] * bands}
    return build(name, bands=BANDS[:bands], **numbers, features=6, depth=depth, **SMALL[name]).eval()


def stirred(name: str, depth: int = 1, bands: int = 2) -> Encoder:
    """An encoder of which nothing is zero any more, as after training."""
    encoder = fresh(name, depth, bands)
    with torch.no_grad():
        for weight in encoder.parameters():
            weight.add_(0.2 * torch.randn(weight.shape))
    return encoder


def close(found: torch.Tensor, expected: torch.Tensor, tolerance: float = 1e-5) -> None:
    torch.testing.assert_close(found, expected, rtol=tolerance, atol=tolerance)


@every_encoder
@some
@given(times=st.integers(1, 5), bands=st.integers(1, 3), height=sides, width=sides, depth=st.integers(0, 2), seed=seeds)
def test_any_number_of_dates_and_bands_and_any_size(
    name: str, *, times: int, bands: int, height: int, width: int, depth: int, seed: int
) -> None:
    features = stirred(name, depth, bands)(chips(times, height, width, bands=bands, count=2, seed=seed))
    assert features.shape == (2, 6, height, width)
    assert features.dtype == torch.float32
    assert bool(features.isfinite().all())


@every_encoder
@some
@given(times=st.integers(1, 5), height=sides, width=sides, depth=st.integers(0, 2), seed=seeds)
def test_what_is_not_valid_has_no_influence(
    name: str, *, times: int, height: int, width: int, depth: int, seed: int
) -> None:
    encoder, drawn = stirred(name, depth), chips(times, height, width, seed=seed)
    for garbage in (7.0, float("nan")):
        changed = drawn.reflectance.masked_fill(~drawn.valid[:, :, None], garbage)
        assert torch.equal(encoder(drawn._replace(reflectance=changed)), encoder(drawn))


@every_encoder
@some
@given(times=st.integers(1, 4), more=st.integers(1, 3), side=sides, depth=st.integers(0, 2), seed=seeds)
def test_dates_on_which_nothing_is_valid_change_nothing(
    name: str, *, times: int, more: int, side: int, depth: int, seed: int
) -> None:
    encoder, drawn, other = stirred(name, depth), chips(times, side, 5, seed=seed), chips(more, side, 5, seed=seed + 1)
    cloudy = Chips(other.reflectance + 1, torch.zeros_like(other.valid), other.day)
    for parts in ((drawn, cloudy), (cloudy, drawn), (drawn, cloudy._replace(day=torch.zeros_like(other.day)))):
        longer = Chips(*(torch.cat(pair, dim=1) for pair in zip(*parts, strict=True)))
        close(encoder(longer), encoder(drawn))


@every_encoder
@some
@given(order=st.permutations(range(6)), days=st.lists(st.integers(1, 4), min_size=6, max_size=6), seed=seeds)
def test_the_order_of_the_dates_does_not_matter_even_if_some_share_a_day(
    name: str, order: list[int], days: list[int], seed: int
) -> None:
    encoder, drawn = stirred(name), chips(6, 6, 5, seed=seed)
    drawn = drawn._replace(day=90.0 * torch.tensor([days]))
    close(encoder(each(drawn, lambda part: part[:, order])), encoder(drawn))


@every_encoder
def test_the_time_of_the_year_matters(name: str) -> None:
    encoder, drawn = fresh(name, bands=3), chips(5, 6, 6, bands=3)
    if name == "seasonal-unet":
        encoder = stirred(name, bands=3)
    for later in (drawn.day + 365.2425 / 2, drawn.day.flip(1)):
        moved = encoder(drawn._replace(day=later)) - encoder(drawn)
        assert moved.abs().mean() > 1e-3 * encoder(drawn).abs().mean()


@every_encoder
@every_depth
def test_without_any_observation_features_are_finite_and_always_the_same(name: str, depth: int) -> None:
    encoder = stirred(name, depth)
    dark = [each(chips(times, 7, 6, seed=times), torch.zeros_like) for times in (1, 4)]
    close(encoder(dark[0]), encoder(dark[1]))
    assert bool(encoder(dark[0]).isfinite().all())


@every_encoder
@every_depth
def test_a_feature_depends_on_nothing_beyond_the_margin(name: str, depth: int) -> None:
    encoder = stirred(name, depth)
    middle = -(-encoder.margin // encoder.alignment) * encoder.alignment
    drawn, reach = chips(3, *[2 * middle + 2 * encoder.alignment] * 2), 0
    with torch.no_grad():
        before = encoder(drawn)
        for at in range(middle, middle + encoder.alignment):
            values = drawn.reflectance.clone()
            values[..., at, at] += 1.0
            seen = drawn.valid.clone()
            seen[..., at, at] = True
            change = (encoder(Chips(values, seen, drawn.day)) - before).abs().amax(dim=(0, 1))
            reach = max(reach, int((torch.nonzero(change > 1e-6) - at).abs().max()))
    assert encoder.margin - encoder.alignment < reach <= encoder.margin


@every_encoder
@every_depth
def test_tiles_with_a_margin_give_the_features_of_the_whole(name: str, depth: int) -> None:
    encoder = stirred(name, depth)
    margin = -(-encoder.margin // encoder.alignment) * encoder.alignment
    drawn, top, left, size = chips(4, 2 * margin + 21, 2 * margin + 19), 8, 4, 8
    rows, cols = slice(top, top + size + 2 * margin), slice(left, left + size + 2 * margin)
    with torch.no_grad():
        whole, tile = encoder(drawn), encoder(Chips(*(part[..., rows, cols] for part in drawn[:2]), drawn.day))
    inner = (..., slice(margin, margin + size), slice(margin, margin + size))
    close(tile[inner], whole[..., rows, cols][inner], 1e-4)
    assert depth == 0 or not torch.allclose(tile, whole[..., rows, cols], atol=1e-4)


@every_encoder
@every_depth
def test_windows_of_a_map_meet(name: str, depth: int) -> None:
    encoder = fresh(name, depth)
    assert STEP % encoder.alignment == 0
    smallest = min(EVALUATION_WINDOW, PredictSettings.__dataclass_fields__["window_size"].default)
    assert 2 * margin_for(encoder.margin) < smallest


@every_encoder
def test_a_chip_does_not_depend_on_its_batch(name: str) -> None:
    encoder, drawn = stirred(name), chips(4, 8, 8, count=3)
    for index in range(3):
        close(encoder(drawn)[index : index + 1], encoder(each(drawn, lambda part, i=index: part[i : i + 1])))


@every_encoder
def test_a_network_is_made_again_from_its_description(name: str) -> None:
    model = LandCoverModel(stirred(name, 2), (1, 4, 200))
    torch.nn.init.normal_(model.head.weight)
    again = build_land_cover(json.loads(json.dumps(model.config()))).eval()
    again.load_state_dict(model.state_dict())
    drawn = chips(4, 8, 8)
    assert again.encoder.config() == model.encoder.config()
    assert again.encoder.config()["name"] == name
    assert SMALL[name].items() <= again.encoder.config().items()
    assert again.classes == (1, 4, 200)
    assert torch.equal(again(drawn), model(drawn))
    assert model(drawn).shape == (1, 3, 8, 8)


@every_encoder
def test_the_same_seed_gives_the_same_features_and_gradients(name: str) -> None:
    found = []
    for _ in range(2):
        encoder = fresh(name)
        features = encoder(chips(4, 8, 8))
        features.square().sum().backward()
        found.append([features, *(weight.grad for weight in encoder.parameters())])
    assert all(torch.equal(one, other) for one, other in zip(*found, strict=True))


@every_encoder
@every_depth
def test_gradients_reach_all_parameters(name: str, depth: int) -> None:
    encoder = stirred(name, depth).train()
    encoder(chips(6, 9, 9, count=2)).square().sum().backward()
    for title, weight in encoder.named_parameters():
        assert weight.grad is not None, title
        assert bool(weight.grad.isfinite().all()), title
        assert bool((weight.grad != 0).any()), title


@every_encoder
def test_gradients_are_finite_where_nothing_is_clear(name: str) -> None:
    encoder = stirred(name)
    drawn = chips(3, 8, 8)
    drawn.valid[..., :6] = False
    encoder(drawn).square().sum().backward()
    assert all(bool(weight.grad.isfinite().all()) for weight in encoder.parameters() if weight.grad is not None)


@every_encoder
def test_half_precision_gives_nearly_the_same(name: str) -> None:
    encoder, drawn = fresh(name), chips(5, 9, 9)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        features = encoder(drawn)
    features.float().square().sum().backward()
    expected = encoder(drawn)
    assert (features.float() - expected).std() < 0.05 * expected.std()
    assert all(bool(weight.grad.isfinite().all()) for weight in encoder.parameters() if weight.grad is not None)


def test_the_settings_name_every_encoder() -> None:
    assert get_args(get_type_hints(PretrainSettings)["model"]) == tuple(MODELS)


def test_what_cannot_be_built_is_refused() -> None:
    with pytest.raises(ModelError, match=", ".join(MODELS)):
        build("resnet")
    with pytest.raises(ModelError, match="description"):
        build("seasonal-unet", bands=["a"])
    with pytest.raises(ModelError, match="depth from 0 to 2, found 3"):
        build("unet3d", bands=["a"], mean=[0.0], std=[1.0], depth=3)
    with pytest.raises(ModelError, match="land cover"):
        build_land_cover({"name": "seasonal-unet"})
