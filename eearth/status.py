"""How far a project is: every stage done, interrupted or stale, and the command that mends it."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from eearth.config import resolve
from eearth.errors import EearthError
from eearth.manifest import MANIFEST, Manifest
from eearth.settings import SETTINGS
from eearth.workspace import FOLDERS, file_input

if TYPE_CHECKING:
    from eearth.workspace import Workspace

# What a stage needs before it can run for the first time.
NEEDS = {
    "download": "REGION",
    "rasterize": "LABELS",
    "predict": "REGION",
}


@dataclass(frozen=True)
class StageStatus:
    """One stage of a project.

    Attributes:
        stage: Its name.
        state: "done", "stale", "partial" (interrupted), "broken" or "missing".
        reason: Why it is not done, empty if it is.
        command: What mends it, empty if nothing is to be done.
        figures: Key figures of the last finished run.
    """

    stage: str
    state: str
    reason: str
    command: str
    figures: dict[str, Any]


def project_status(workspace: Workspace) -> list[StageStatus]:
    """The state of every stage, in the order in which data flows."""
    found: dict[str, StageStatus] = {}
    for stage in FOLDERS:
        found[stage] = _status(workspace, stage, found)
    return list(found.values())


def _status(workspace: Workspace, stage: str, earlier: dict[str, StageStatus]) -> StageStatus:
    try:
        manifest = workspace.require(stage) if workspace.folder(stage).is_dir() else None
    except EearthError as error:
        return StageStatus(stage, "broken", str(error), _first_command(workspace, stage), {})
    if manifest is None:
        plan = workspace.interrupted(stage)
        if plan is None:
            return StageStatus(stage, "missing", "", _first_command(workspace, stage), {})
        command = command_of(workspace, stage, plan["settings"], plan["origins"])
        return StageStatus(stage, "partial", "interrupted; the same command continues", command, {})
    reasons = [
        *_changed_stages(workspace, manifest, earlier),
        *_changed_files(manifest),
        *_changed_settings(workspace, manifest),
    ]
    if reasons:
        command = command_of(workspace, stage, manifest.settings | manifest.how, manifest.origins)
        return StageStatus(stage, "stale", "; ".join(reasons), command, manifest.figures)
    plan = workspace.interrupted(stage)
    if plan is not None:
        command = command_of(workspace, stage, plan["settings"], plan["origins"])
        return StageStatus(stage, "done", "a later run was interrupted", command, manifest.figures)
    return StageStatus(stage, "done", "", "", manifest.figures)


def _changed_stages(workspace: Workspace, manifest: Manifest, earlier: dict[str, StageStatus]) -> list[str]:
    reasons = []
    for stage, status in earlier.items():
        recorded = manifest.inputs.get(FOLDERS[stage])
        if recorded is None:
            continue
        if status.state in ("missing", "partial", "broken"):
            reasons.append(f"{FOLDERS[stage]}/ is {status.state}")
        elif recorded != workspace.require(stage).digest:
            reasons.append(f"{FOLDERS[stage]}/ was made again since")
        elif status.state == "stale":
            reasons.append(f"{FOLDERS[stage]}/ is stale")
    return reasons


def _changed_files(manifest: Manifest) -> list[str]:
    """Inputs of the user's, or of other workspaces, that are still there and have other content."""
    reasons = []
    for name, text in manifest.paths.items():
        path = Path(text)
        if path.exists() and _digest_now(path) != manifest.inputs[name]:
            reasons.append(f"{name} ({path.name}) has changed")
    return reasons


def _digest_now(path: Path) -> str:
    """Of a user's file, or of a stage's folder in another workspace."""
    return Manifest.read(path).digest if (path / MANIFEST).is_file() else file_input(path).digest


def _changed_settings(workspace: Workspace, manifest: Manifest) -> list[str]:
    """Settings that `eearth.toml` or the environment now gives another value; what came as a flag stands."""
    cls = SETTINGS[manifest.stage]
    settled = ("flag", "call")
    recorded = manifest.settings | manifest.how
    flags = {name: value for name, value in recorded.items() if manifest.origins.get(name) in settled}
    try:
        now = resolve(cls, flags, workspace.root).what()
    except EearthError as error:
        return [str(error)]
    return [
        f"{name} is now {now[name]} (was {value})"
        for name, value in manifest.settings.items()
        if name in now and now[name] != value
    ]


def command_of(workspace: Workspace, stage: str, settings: dict[str, Any], origins: dict[str, str]) -> str:
    """The command line that a stage was last run with, flags that stood in the file or the environment left out."""
    words = ["eearth", stage]
    for name, declared in SETTINGS[stage].__dataclass_fields__.items():
        value = settings.get(name)
        if origins.get(name) not in ("flag", "call"):
            continue
        text = ",".join(str(part) for part in value) if isinstance(value, list) else str(value)
        option = f"--{name.replace('_', '-')}"
        if declared.metadata["argument"]:
            words.append(text)
        elif isinstance(value, bool):
            words += [option] if value else []
        else:
            words += [option, text]
    return shlex.join([*words, *_workspace_flag(workspace)])


def _first_command(workspace: Workspace, stage: str) -> str:
    needs = [NEEDS[stage]] if stage in NEEDS else []
    return " ".join(["eearth", stage, *needs, *(shlex.quote(word) for word in _workspace_flag(workspace))])


def _workspace_flag(workspace: Workspace) -> list[str]:
    return [] if workspace.root == Path() else ["-w", str(workspace.root)]
