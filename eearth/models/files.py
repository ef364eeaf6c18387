"""Networks as files: weights as safetensors, and in the header all that rebuilds and applies them."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from eearth.errors import ModelError
from eearth.manifest import write_json
from eearth.models.registry import MODELS, build, build_land_cover

if TYPE_CHECKING:
    from pathlib import Path

    from torch import nn

    from eearth.models.encoder import Encoder
    from eearth.models.segmentation import LandCoverModel
    from eearth.workspace import Workspace

# The one key of the header's metadata: safetensors writes several keys in no fixed order.
HEADER = "eearth"

ENCODER = "encoder.safetensors"
LAND_COVER = "model.safetensors"
DESCRIPTION = "model.json"


@dataclass(frozen=True)
class SavedModel:
    """What is known of a model beside its weights.

    Attributes:
        kind: "encoder" or "land cover".
        network: What the network's `config` gave.
        imagery: How the imagery was asked for: settings of the download.
        classes: The legend, as in `classes.json`; empty for an encoder.
        revision: Of the encoder's network; files of the first have none.
    """

    kind: str
    network: dict[str, Any]
    imagery: dict[str, Any]
    classes: list[dict[str, Any]]
    revision: int = 1

    @property
    def encoder(self) -> str | None:
        """Name of the encoder, by itself or inside a land cover model."""
        name: str | None = self.network.get("encoder", self.network).get("name")
        return name


def save_encoder(folder: Path, encoder: Encoder, imagery: dict[str, Any]) -> None:
    """Write `encoder.safetensors` and, for people, its header as `model.json`."""
    _save(folder, ENCODER, encoder, SavedModel("encoder", encoder.config(), imagery, [], encoder.revision))


def save_land_cover(
    folder: Path, model: LandCoverModel, imagery: dict[str, Any], classes: list[dict[str, Any]]
) -> None:
    """Write `model.safetensors` and, for people, its header as `model.json`."""
    saved = SavedModel("land cover", model.config(), imagery, classes, model.encoder.revision)
    _save(folder, LAND_COVER, model, saved)


def _save(folder: Path, name: str, network: nn.Module, saved: SavedModel) -> None:
    header = json.dumps(vars(saved), sort_keys=True)
    tensors = {key: value.detach().cpu().contiguous() for key, value in network.state_dict().items()}
    save_file(tensors, folder / name, metadata={HEADER: header})
    write_json(folder / DESCRIPTION, vars(saved))


def encoder_of(workspace: Workspace) -> Path:
    """Where the encoder of a workspace's finished pre-training lies.

    Raises:
        WorkspaceError: It has none.
    """
    workspace.require("pretrain")
    return workspace.folder("pretrain") / ENCODER


def load_encoder(path: Path) -> Encoder:
    """Read an encoder; of a land cover model, the encoder inside.

    Raises:
        ModelError: The file is missing, corrupt, not one of ours, or of another revision of the network.
    """
    return load_described_encoder(path)[0]


def load_described_encoder(path: Path) -> tuple[Encoder, SavedModel]:
    """Read an encoder and what is known of its file.

    Raises:
        ModelError: See `load_encoder`.
    """
    saved, tensors = _load(path)
    _refuse_other_revisions(saved, path)
    if saved.kind == "land cover":
        return load_land_cover(path)[0].encoder, saved
    encoder = build(**saved.network)
    _fill(encoder, tensors, path)
    return encoder.eval(), saved


def load_land_cover(path: Path) -> tuple[LandCoverModel, SavedModel]:
    """Read a land cover model and what is known of it.

    Raises:
        ModelError: See `load_encoder`, or it is an encoder without classes.
    """
    saved, tensors = _load(path)
    if saved.kind != "land cover":
        msg = f"expected a land cover model at {path}, found an encoder: run `eearth finetune` with it first"
        raise ModelError(msg)
    _refuse_other_revisions(saved, path)
    model = build_land_cover(saved.network)
    _fill(model, tensors, path)
    return model.eval(), saved


def _load(path: Path) -> tuple[SavedModel, dict[str, Any]]:
    if not path.is_file():
        msg = f"expected a model file, found nothing at {path}"
        raise ModelError(msg)
    try:
        with safe_open(path, framework="pt") as file:
            header = json.loads((file.metadata() or {})[HEADER])
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 - the file is no mapping
        return SavedModel(**header), tensors
    except (SafetensorError, OSError, KeyError, ValueError, TypeError) as error:
        found = "a file of another program" if isinstance(error, KeyError) else f"a corrupt file ({error})"
        msg = f"expected a model that eearth wrote at {path}, found {found}"
        raise ModelError(msg) from error


def is_outdated(path: Path) -> bool:
    """Whether a file cannot be used by this version, so that its stage has to run again; not where there is none."""
    if not path.is_file():
        return False
    try:
        return _of_other_revision(_load(path)[0])
    except ModelError:
        return True


def _of_other_revision(saved: SavedModel) -> bool:
    return saved.encoder in MODELS and saved.revision != MODELS[saved.encoder].revision


def _refuse_other_revisions(saved: SavedModel, path: Path) -> None:
    """Weights of a network that has changed since would load, or not, and mean something else."""
    if _of_other_revision(saved):
        stages = "`eearth pretrain`" if saved.kind == "encoder" else "`eearth pretrain` and `eearth finetune`"
        msg = (
            f"expected weights of the present {saved.encoder} at {path}, found those of another version of eearth: "
            f"run {stages} again"
        )
        raise ModelError(msg)


def _fill(network: nn.Module, tensors: dict[str, Any], path: Path) -> None:
    try:
        network.load_state_dict(tensors)
    except RuntimeError as error:
        msg = f"expected the weights of the network that {path} describes, found others: the file is damaged"
        raise ModelError(msg) from error
