"""Which layers learn, and how fast: on every encoder."""

from __future__ import annotations

import copy
import dataclasses
from typing import TYPE_CHECKING

import pytest
import torch
from test_training import FINETUNE, PRETRAIN, region, same

from eearth.data.series import Chips
from eearth.models.registry import MODELS, build
from eearth.models.segmentation import LandCoverModel
from eearth.settings import FinetuneSettings
from eearth.training.averaging import average_of, begin_average, follow, learnt_of
from eearth.training.finetune import finetune
from eearth.training.pretrain import new_encoder
from eearth.training.unfreezing import optimizer_of, thaw

if TYPE_CHECKING:
    from eearth.models.encoder import Encoder

GRADUAL = FinetuneSettings(mode="gradual")


def model_of(name: str, depth: int = 2) -> LandCoverModel:
    torch.manual_seed(0)
    encoder = build(name, bands=("a", "b"), mean=[0.5, 0.4], std=[0.3, 0.2], features=8, depth=depth)
    model = LandCoverModel(encoder, (1, 2, 5))
    for weight in model.parameters():  # some layers start as zero and would pass no gradient on
        torch.nn.init.normal_(weight, std=0.2)
    return model


def some_chips() -> Chips:
    random = torch.Generator().manual_seed(0)
    days = torch.tensor([[30.0, 120.0, 200.0, 300.0]])
    return Chips(torch.rand(1, 4, 2, 8, 8, generator=random), torch.ones(1, 4, 8, 8, dtype=torch.bool), days)


def one_step(model: LandCoverModel, optimizer: torch.optim.Optimizer) -> None:
    for group in optimizer.param_groups:
        group["lr"] = group["peak"]
    optimizer.zero_grad(set_to_none=True)
    model(some_chips()).square().sum().backward()
    optimizer.step()


def moved_layers(before: Encoder, after: Encoder) -> list[bool]:
    pairs = zip(before.layers(), after.layers(), strict=True)
    return [
        not all(torch.equal(a, b) for a, b in zip(one.parameters(), two.parameters(), strict=True))
        for one, two in pairs
    ]


@pytest.mark.parametrize("depth", [0, 1, 2])
@pytest.mark.parametrize("name", MODELS)
def test_every_weight_lies_in_one_layer(name: str, depth: int) -> None:
    encoder = model_of(name, depth).encoder
    found = [id(weight) for layer in encoder.layers() for weight in layer.parameters()]
    assert sorted(found) == sorted(id(weight) for weight in encoder.parameters())
    assert len(encoder.layers()) > 1
    assert all(any(True for _ in layer.parameters()) for layer in encoder.layers())


@pytest.mark.parametrize("name", MODELS)
def test_layers_come_in_the_order_in_which_the_imagery_meets_them(name: str) -> None:
    """When each layer's last module runs: later for later layers."""
    encoder, clock, last = model_of(name).encoder, [0], {}
    for number, layer in enumerate(encoder.layers()):
        owners = [part for part in layer.modules() if list(part.parameters(recurse=False))]
        for part in owners:

            def note(*_: object, number: int = number) -> None:
                clock[0] += 1
                last[number] = clock[0]

            part.register_forward_hook(note)
    encoder(some_chips())
    assert list(last) == sorted(last)
    assert sorted(last.values()) == [last[number] for number in sorted(last)]
    assert len(last) == len(encoder.layers())


@pytest.mark.parametrize("name", MODELS)
def test_frozen_moves_no_layer_and_full_all(name: str) -> None:
    for mode in ("frozen", "full"):
        model = model_of(name)
        before, head = copy.deepcopy(model.encoder), model.head.weight.clone()
        one_step(model, optimizer_of(model, FinetuneSettings(mode=mode)))  # type: ignore[arg-type]
        assert moved_layers(before, model.encoder) == [mode == "full"] * len(before.layers())
        assert not torch.equal(head, model.head.weight)


@pytest.mark.parametrize("name", MODELS)
def test_gradual_adds_one_layer_after_the_other_from_the_features_down(name: str) -> None:
    model = model_of(name)
    count = len(model.encoder.layers())
    steps, optimizer = 2 * (count + 1), optimizer_of(model, GRADUAL)
    for step in range(steps):
        before = copy.deepcopy(model.encoder)
        thaw(model, GRADUAL, step, steps)
        one_step(model, optimizer)
        learning = step // 2
        assert moved_layers(before, model.encoder) == [False] * (count - learning) + [True] * learning


@pytest.mark.parametrize("name", MODELS)
def test_each_layer_down_learns_at_a_share_of_the_rate_above(name: str) -> None:
    model = model_of(name)
    settings = FinetuneSettings(layer_decay=0.5, learning_rate=0.08, head_learning_rate=0.3)
    rates = {
        id(weight): group["peak"] for group in optimizer_of(model, settings).param_groups for weight in group["params"]
    }
    assert {rates[id(weight)] for weight in model.head.parameters()} == {0.3}
    for depth, layer in enumerate(reversed(model.encoder.layers())):
        assert {rates[id(weight)] for weight in layer.parameters()} == {0.08 * 0.5**depth}
    assert len(rates) == len(list(model.parameters()))


def test_with_one_rate_the_encoder_is_one_group_in_its_own_order() -> None:
    model = model_of("seasonal-unet")
    groups = optimizer_of(model, FinetuneSettings()).param_groups
    assert [id(weight) for weight in groups[1]["params"]] == [id(weight) for weight in model.encoder.parameters()]
    assert len(groups) == 2


@pytest.mark.parametrize(
    "changes",
    [{"mode": "gradual"}, {"layer_decay": 0.6}, {"loss": "dice"}, {"loss": "cross_entropy+focal"}, {"ema": 0.8},
     {"sampling": "plain"}, {"class_weights": ("early=3",)}],
    ids=str,
)  # fmt: skip
def test_each_choice_reaches_the_weights_and_learns(changes: dict[str, object]) -> None:
    one = region()
    encoder, rates = new_encoder([one.series], PRETRAIN), {"learning_rate": 1e-3, "head_learning_rate": 1e-3}
    plain, settings = (dataclasses.replace(FINETUNE, labels_per_class=5, **rates, **more) for more in ({}, changes))
    usual, _ = finetune(encoder, [one], plain, legend={"late": 4, "early": 9})
    changed, history = finetune(encoder, [one], settings, legend={"late": 4, "early": 9})
    assert not same(usual, changed)
    assert history[-1]["loss"] < 0.2


def test_with_nothing_kept_the_average_is_the_model_and_with_all_kept_the_start() -> None:
    one = region()
    encoder = new_encoder([one.series], PRETRAIN)
    settings = dataclasses.replace(FINETUNE, labels_per_class=5)
    usual, _ = finetune(encoder, [one], settings)
    start, _ = finetune(encoder, [one], dataclasses.replace(settings, steps=0))
    assert same(finetune(encoder, [one], dataclasses.replace(settings, ema=1.0))[0], start)
    nearly, _ = finetune(encoder, [one], dataclasses.replace(settings, ema=1e-9))
    for mine, theirs in zip(nearly.parameters(), usual.parameters(), strict=True):
        torch.testing.assert_close(mine, theirs, rtol=0, atol=1e-7)


def test_the_average_is_that_of_a_loop_over_the_weights_of_each_step() -> None:
    model = model_of("seasonal-unet")
    modules = torch.nn.ModuleDict({"model": model, **average_of(model, 0.7)})
    torch.nn.init.normal_(model.head.weight)
    begin_average(modules)
    expected = model.head.weight.detach().clone()
    for _ in range(5):
        torch.nn.init.normal_(model.head.weight)
        follow(modules, 0.7)
        expected = 0.7 * expected + 0.3 * model.head.weight.detach()
    torch.testing.assert_close(learnt_of(modules).head.weight, expected)
    assert not learnt_of(modules).head.weight.requires_grad
    assert learnt_of(torch.nn.ModuleDict({"model": model})) is model
