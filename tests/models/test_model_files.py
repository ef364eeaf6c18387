"""Networks as files: what is refused, and how."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
import torch
from random_chips import chips
from safetensors import safe_open
from safetensors.torch import save_file

from eearth.errors import ModelError
from eearth.models.files import (
    ENCODER,
    HEADER,
    LAND_COVER,
    load_encoder,
    load_land_cover,
    save_encoder,
    save_land_cover,
)
from eearth.models.registry import MODELS, build
from eearth.models.segmentation import LandCoverModel

if TYPE_CHECKING:
    from pathlib import Path

    from eearth.models.encoder import Encoder


def fresh(name: str) -> Encoder:
    return build(name, bands=("a", "b"), mean=[0.5, 0.4], std=[0.3, 0.2], features=8, depth=1).eval()


def rewritten(path: Path, **changes: object) -> Path:
    """The same file with another header; None takes an entry away."""
    with safe_open(path, framework="pt") as file:
        header = json.loads(file.metadata()[HEADER]) | changes
        tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 - the file is no mapping
    kept = {key: value for key, value in header.items() if value is not None}
    save_file(tensors, path, metadata={HEADER: json.dumps(kept)})
    return path


@pytest.mark.parametrize("name", MODELS)
def test_a_file_gives_the_network_back(name: str, tmp_path: Path) -> None:
    model = LandCoverModel(fresh(name), (1, 7))
    save_encoder(tmp_path, model.encoder, {})
    save_land_cover(tmp_path, model, {}, [])
    drawn = chips(4, 8, 8)
    assert torch.equal(load_encoder(tmp_path / ENCODER)(drawn), model.encoder(drawn))
    assert torch.equal(load_encoder(tmp_path / LAND_COVER)(drawn), model.encoder(drawn))
    assert torch.equal(load_land_cover(tmp_path / LAND_COVER)[0](drawn), model(drawn))


@pytest.mark.parametrize("revision", [None, 1, 99])
def test_files_of_another_version_of_the_network_are_refused_with_what_to_run(
    revision: int | None, tmp_path: Path
) -> None:
    model = LandCoverModel(fresh("seasonal-unet"), (1, 7))
    save_encoder(tmp_path, model.encoder, {})
    save_land_cover(tmp_path, model, {}, [])
    encoder, land_cover = (rewritten(tmp_path / name, revision=revision) for name in (ENCODER, LAND_COVER))
    refused = r"expected weights of the present seasonal-unet at .*{}, found those of another version of eearth: run "
    with pytest.raises(ModelError, match=refused.format(ENCODER) + "`eearth pretrain` again") as error:
        load_encoder(encoder)
    assert "\n" not in str(error.value)
    for load in (load_encoder, load_land_cover):
        with pytest.raises(ModelError, match=refused.format(LAND_COVER) + "`eearth pretrain` and `eearth finetune`"):
            load(land_cover)


def test_files_of_networks_that_have_not_changed_are_still_read(tmp_path: Path) -> None:
    encoder = fresh("unet3d")
    save_encoder(tmp_path, encoder, {})
    again = load_encoder(rewritten(tmp_path / ENCODER, revision=None))
    assert torch.equal(again(chips(4, 8, 8)), encoder(chips(4, 8, 8)))


def test_the_temperature_is_in_the_file_and_was_1_before_there_was_one(tmp_path: Path) -> None:
    model = LandCoverModel(fresh("unet3d"), (1, 7), temperature=1.4)
    save_land_cover(tmp_path, model, {}, [])
    again, saved = load_land_cover(tmp_path / LAND_COVER)
    assert again.temperature == 1.4
    earlier = {name: value for name, value in saved.network.items() if name != "temperature"}
    assert load_land_cover(rewritten(tmp_path / LAND_COVER, network=earlier))[0].temperature == 1
