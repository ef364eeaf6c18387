"""How far a project is: every stage done, interrupted, stale or damaged, and the command that mends it."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from eearth.config import SETTINGS_FILE, provider_digest, resolve
from eearth.errors import EearthError
from eearth.events import Advanced, Finished, Report, Started, silent
from eearth.manifest import MANIFEST, Manifest, file_digest, files_below, folder_digest
from eearth.settings import SETTINGS
from eearth.workspace import FOLDERS, file_input

if TYPE_CHECKING:
    from collections.abc import Callable

    from eearth.workspace import Workspace

# What a stage needs before it can run for the first time.
NEEDS = {
    "download": "REGION",
    "rasterize": "LABELS",
    "predict": "REGION",
    "embed": "REGION",
}


@dataclass(frozen=True)
class StageStatus:
    """One stage of a project.

    Attributes:
        stage: Its name.
        state: "done", "stale", "partial" (interrupted), "broken" (the manifest or an artifact is gone), "damaged" (an
            artifact is not what the stage wrote) or "missing".
        reason: Why it is not done, empty if it is.
        command: What mends it, empty if nothing is to be done.
        figures: Key figures of the last finished run.
    """

    stage: str
    state: str
    reason: str
    command: str
    figures: dict[str, Any]


def project_status(workspace: Workspace, *, verify: bool = False, report: Report = silent) -> list[StageStatus]:
    """The state of every stage, in the order in which data flows.

    Args:
        workspace: The project.
        verify: Read every artifact of every finished stage again, and compare it with the manifest.
        report: Receives the progress of that, one task a stage.
    """
    found: dict[str, StageStatus] = {}
    for stage in FOLDERS:
        found[stage] = _status(workspace, stage, found, report if verify else None)
    return list(found.values())


def _status(workspace: Workspace, stage: str, earlier: dict[str, StageStatus], verify: Report | None) -> StageStatus:
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
    damages = _damages(workspace.folder(stage), manifest, verify) if verify else []
    return _finished(workspace, manifest, earlier, damages)


def _finished(
    workspace: Workspace, manifest: Manifest, earlier: dict[str, StageStatus], damages: list[str]
) -> StageStatus:
    stage = manifest.stage
    again = command_of(workspace, stage, manifest.settings | manifest.how, manifest.origins)
    if damages:  # the stage itself only looks whether its artifacts are there
        command = f"rm -r {shlex.quote(str(workspace.folder(stage)))} && {again}"
        return StageStatus(stage, "damaged", "; ".join(damages), command, manifest.figures)
    reasons = [
        *_changed_stages(workspace, manifest, earlier),
        *_changed_files(manifest),
        *_changed_settings(workspace, manifest),
        *_changed_provider(workspace, manifest),
    ]
    if reasons:
        return StageStatus(stage, "stale", "; ".join(reasons), again, manifest.figures)
    plan = workspace.interrupted(stage)
    if plan is not None:
        command = command_of(workspace, stage, plan["settings"], plan["origins"])
        return StageStatus(stage, "done", "a later run was interrupted", command, manifest.figures)
    return StageStatus(stage, "done", "", "", manifest.figures)


def _damages(folder: Path, manifest: Manifest, report: Report) -> list[str]:
    """What is wrong with each artifact that is not what the manifest says; other files in the folder do not matter."""
    task = f"verify {folder.name}"
    artifacts = {name: folder / name for name in manifest.outputs}
    counts = {name: len(files_below(path)) if path.is_dir() else 1 for name, path in artifacts.items()}
    report(Started(task=task, total=sum(counts.values()), unit="files"))
    wrong = []
    for name, path in artifacts.items():
        try:
            if _digest_of(path, lambda steps: report(Advanced(task=task, steps=steps))) != manifest.outputs[name]:
                wrong.append(f"{name} is not what was written")
        except OSError as error:
            wrong.append(f"{name} cannot be read: {error.strerror or error}")
    report(Finished(task=task))
    return wrong


def _digest_of(artifact: Path, advanced: Callable[[int], None]) -> str:
    if artifact.is_dir():
        return folder_digest(artifact, advanced)
    digest = file_digest(artifact)
    advanced(1)
    return digest


def _changed_stages(workspace: Workspace, manifest: Manifest, earlier: dict[str, StageStatus]) -> list[str]:
    reasons = []
    for stage, status in earlier.items():
        recorded = manifest.inputs.get(FOLDERS[stage])
        if recorded is None:
            continue
        if status.state in ("missing", "partial", "broken", "damaged"):
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


def _changed_provider(workspace: Workspace, manifest: Manifest) -> list[str]:
    """A provider of the user's own that `eearth.toml` now describes in another way."""
    recorded, name = manifest.inputs.get("provider"), manifest.settings.get("provider")
    changed = recorded is not None and provider_digest(workspace.root, name) != recorded
    return [f"[providers.{name}] in {SETTINGS_FILE} has changed"] if changed else []


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
