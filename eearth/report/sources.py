"""What a workspace holds that a report can show: its finished stages, and figures quoted from their files."""

from __future__ import annotations

import csv
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from eearth.errors import WorkspaceError
from eearth.manifest import Manifest
from eearth.workspace import FOLDERS, Workspace

if TYPE_CHECKING:
    from pathlib import Path

# The stages that a report tells of, in the order in which data flows.
TOLD = ("download", "rasterize", "pretrain", "finetune", "predict", "sample", "assess")


@dataclass(frozen=True, kw_only=True)
class Figure:
    """A number or a word on the page, and where it stands in the workspace.

    Attributes:
        name: What it is.
        value: None where the file holds none.
        unit: "share" (0..1, shown in percent), "km2", "m", "pixels", "points" and the like; empty for plain ones.
        of: The class that it tells of, if any.
        low: Lower end of the 95 % interval.
        high: Upper end of the 95 % interval.
        artifact: The file, from the workspace's folder on.
        field: Where in the file: a JSON pointer (RFC 6901), or words for what is no JSON.
    """

    name: str
    value: Any
    unit: str = ""
    of: str | None = None
    low: float | None = None
    high: float | None = None
    artifact: str
    field: str


@dataclass(frozen=True)
class Document:
    """A JSON file of a finished stage."""

    artifact: str
    data: Any

    def at(self, pointer: str) -> Any:
        """What stands at a JSON pointer (RFC 6901); None where nothing does."""
        found = self.data
        for part in pointer.split("/")[1:]:
            key = part.replace("~1", "/").replace("~0", "~")
            try:
                found = found[int(key) if isinstance(found, list) else key]
            except (KeyError, IndexError, ValueError, TypeError):
                return None
        return found

    def entries(self, pointer: str) -> list[Any]:
        """The list at a JSON pointer; empty where there is none."""
        found = self.at(pointer)
        return found if isinstance(found, list) else []

    def figure(self, pointer: str, name: str, *, unit: str = "", of: str | None = None) -> Figure:
        """Quote one number, or one with its interval: {"estimate", "low", "high"}."""
        found = self.at(pointer)
        if isinstance(found, dict):
            low, high, pointer = found.get("low"), found.get("high"), f"{pointer}/estimate"
            found = found.get("estimate")
        else:
            low = high = None
        return Figure(
            name=name, value=found, unit=unit, of=of, low=low, high=high, artifact=self.artifact, field=pointer
        )


@dataclass(frozen=True)
class Held:
    """The finished stages of a workspace.

    Attributes:
        workspace: The project.
        manifests: Stage → its manifest, in the order in which data flows.
    """

    workspace: Workspace
    manifests: dict[str, Manifest]

    @classmethod
    def by(cls, workspace: Workspace) -> Held:
        """Look at the stages that a report tells of.

        Raises:
            WorkspaceError: An artifact of a finished stage is gone, or its manifest was edited.
        """
        finished = [stage for stage in TOLD if stage in FOLDERS and workspace.folder(stage).is_dir()]
        return cls(workspace, {stage: workspace.require(stage) for stage in finished})

    def __contains__(self, stage: str) -> bool:
        """Whether a stage is finished."""
        return stage in self.manifests

    def path(self, stage: str, name: str) -> Path | None:
        """A file of a finished stage; None where the stage is not finished or has not written it."""
        path = self.workspace.folder(stage) / name if stage in self.manifests else None
        return path if path is not None and path.is_file() else None

    def document(self, stage: str, name: str) -> Document | None:
        """A JSON file of a finished stage; None where there is none.

        Raises:
            WorkspaceError: The file is no JSON.
        """
        path = self.path(stage, name)
        if path is None:
            return None
        try:
            data = json.loads(path.read_text(encoding="utf-8"))
        except ValueError as error:
            msg = f"expected JSON in {path}, found {error}: run `eearth {stage}` again"
            raise WorkspaceError(msg) from error
        return Document(f"{FOLDERS[stage]}/{name}", data)

    def rows(self, stage: str, name: str) -> list[dict[str, str]]:
        """The rows of a CSV file of a finished stage; none where there is no such file."""
        path = self.path(stage, name)
        if path is None:
            return []
        with path.open(encoding="utf-8", newline="") as file:
            return list(csv.DictReader(file))

    def manifest_document(self, stage: str) -> Document:
        """A finished stage's manifest, to quote its figures from."""
        document = self.document(stage, "manifest.json")
        assert document is not None, f"{stage} is finished"  # noqa: S101 - `manifests` holds it
        return document
