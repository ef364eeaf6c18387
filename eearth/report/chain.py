"""How everything on a page was made: the manifests of the stages, and where they do not fit together."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from eearth.workspace import FOLDERS

if TYPE_CHECKING:
    from eearth.manifest import Manifest
    from eearth.report.sources import Held


@dataclass(frozen=True)
class Link:
    """One finished stage.

    Attributes:
        stage: Its name.
        folder: Of its artifacts.
        version: Of eearth that made it.
        digest: Of its manifest.
        seed: Of its random draws, if it draws any.
        settings: (name, value) of all that say what was made.
        inputs: (name, digest) of what it read.
        outputs: (name, digest) of what it wrote.
    """

    stage: str
    folder: str
    version: str
    digest: str
    seed: int | None
    settings: tuple[tuple[str, str], ...]
    inputs: tuple[tuple[str, str], ...]
    outputs: tuple[tuple[str, str], ...]


def chain_of(held: Held) -> list[Link]:
    """Every finished stage that the report tells of, in the order in which data flows."""
    return [_link(stage, manifest) for stage, manifest in held.manifests.items()]


def _link(stage: str, manifest: Manifest) -> Link:
    return Link(
        stage=stage,
        folder=FOLDERS[stage],
        version=manifest.eearth,
        digest=manifest.digest,
        seed=manifest.seed,
        settings=tuple((name, _shown(value)) for name, value in manifest.settings.items()),
        inputs=tuple((_input_name(name, manifest), digest) for name, digest in manifest.inputs.items()),
        outputs=tuple(manifest.outputs.items()),
    )


def _shown(value: Any) -> str:
    """A setting in words; of a path on somebody's disk the last part."""
    if isinstance(value, list):
        return ", ".join(_shown(part) for part in value) or "none"
    if isinstance(value, bool) or value is None:
        return {True: "on", False: "off", None: "not set"}[value]
    text = str(value)
    return Path(text).name if text.startswith(("/", "~")) else text


def _input_name(name: str, manifest: Manifest) -> str:
    """The name of an input, with the file's own where it was one."""
    return f"{name} ({Path(manifest.paths[name]).name})" if name in manifest.paths else f"{name}/"


def mismatches(held: Held) -> list[str]:
    """One sentence for each stage that was made of other artifacts than the workspace holds now."""
    stage_of = {folder: stage for stage, folder in FOLDERS.items()}
    found = []
    for stage, manifest in held.manifests.items():
        for name, digest in manifest.inputs.items():
            source = held.manifests.get(stage_of.get(name, ""))
            if name not in manifest.paths and source is not None and source.digest != digest:
                text = f"{FOLDERS[stage]}/ was made before the present {name}/, whose figures may be others"
                found.append(f"{text}: run `eearth {stage}` again.")
    return found
