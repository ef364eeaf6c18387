from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from sklearn.decomposition import PCA
from test_training import PRETRAIN, region

from eearth.training.pretrain import new_encoder, pretrain
from eearth.training.probe import Probe, embedding_colours, principal_colours

CPU = torch.device("cpu")


def test_the_probe_learns_from_training_pixels_and_asks_validation_pixels_only() -> None:
    one = region()
    encoder = new_encoder([one.series], PRETRAIN)
    probe = Probe.of(one, encoder.bands)
    assert probe is not None
    score = probe.mean_iou(encoder, CPU)
    assert 0.5 < score <= 1
    assert probe.mean_iou(encoder, CPU) == score
    held = one.split == 3
    wrong = dataclasses.replace(one, labels=np.where(held, 13 - one.labels, one.labels))
    other = Probe.of(wrong, encoder.bands)
    assert other is not None
    assert other.mean_iou(encoder, CPU) == score
    asked = dataclasses.replace(one, labels=np.where(one.split == 2, 13 - one.labels, one.labels))
    flipped = Probe.of(asked, encoder.bands)
    assert flipped is not None
    assert flipped.mean_iou(encoder, CPU) < 0.5
    assert encoder.training


@pytest.mark.parametrize("part", [1, 2])
def test_without_labels_of_both_parts_there_is_no_probe(part: int) -> None:
    one = region()
    assert Probe.of(dataclasses.replace(one, split=np.where(one.split == part, 4, one.split)), one.series.bands) is None


def test_watching_changes_no_weight() -> None:
    one = region()
    plain, history = pretrain([one.series], dataclasses.replace(PRETRAIN, probe_every=0))
    watched, seen = pretrain([one.series], dataclasses.replace(PRETRAIN, probe_every=1))
    assert all(torch.equal(a, b) for a, b in zip(plain.parameters(), watched.parameters(), strict=True))
    assert [row["loss"] for row in seen] == [row["loss"] for row in history]
    assert all({"alignment", "uniformity"} <= set(row) for row in seen)
    assert not any("alignment" in row for row in history)


def test_colours_are_the_principal_components() -> None:
    random = np.random.default_rng(1)
    features = (random.normal(size=(30, 40, 8)) * np.arange(8, 0, -1)).astype(np.float32)
    seen = random.random((30, 40)) < 0.7
    colours = principal_colours(features, seen)
    assert (colours[~seen] == 255).all()
    components = PCA(3).fit_transform(features[seen])
    for channel in range(3):
        correlation = np.corrcoef(colours[seen][:, channel], components[:, channel])[0, 1]
        assert abs(correlation) > 0.97
    turned = principal_colours(-features, seen)
    assert (turned[seen] == 255 - colours[seen]).mean() > 0.99 or (turned == colours).mean() > 0.99


def test_one_feature_and_no_observation_still_give_a_picture() -> None:
    assert (principal_colours(np.zeros((4, 5, 1), np.float32), np.zeros((4, 5), bool)) == 255).all()
    ramp = principal_colours(np.arange(20, dtype=np.float32).reshape(4, 5, 1), np.ones((4, 5), bool))
    assert len(np.unique(ramp[..., 0])) > 10
    assert not ramp[..., 1:].any()


def test_the_picture_shows_the_fields() -> None:
    one = region()
    encoder, _ = pretrain([one.series], PRETRAIN)
    colours = embedding_colours(encoder, one.series, CPU)
    assert colours.shape == (48, 48, 3)
    fields = [colours[..., 0][one.labels == code] for code in (4, 9)]
    assert abs(fields[0].mean() - fields[1].mean()) > 80
