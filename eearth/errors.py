"""What a user can mend, said in one line.

Every error that a person at the command line can do something about is an `EearthError`. Its message names what was
expected, what was found, and what to run; the command line prints it without a traceback and exits with `exit_code`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path


class EearthError(Exception):
    """Root of every error that the user can mend.

    Attributes:
        exit_code: Of the process.
        workspace: The folder that the command line named, for the commands in the message; None for the current one.
    """

    exit_code = 1
    workspace: Path | None = None


class UsageError(EearthError):
    """The command was called with values that cannot be meant: an unknown setting, a value out of its range."""

    exit_code = 2


class RegionError(EearthError):
    """The region of interest cannot be used: no polygon, no coordinate reference system, outside the valid range."""


class SourceError(EearthError):
    """The imagery's provider did not deliver: a dead server, no scenes, a missing band, an unreadable asset."""


class LabelError(EearthError):
    """The ground truth cannot be used: a missing column, no overlap, too few or too many classes."""


class WorkspaceError(EearthError):
    """A stage's artifacts are missing, incomplete, or do not fit the stage that reads them."""


class ModelError(EearthError):
    """A model file is corrupt, foreign, or made for other bands."""


class DiskError(EearthError):
    """The disk is full, read-only, or too small for what was asked."""


class UnreachableError(SourceError):
    """The provider's server does not answer at all: no scene is at fault, and the same command may work later."""


class NothingFoundError(SourceError):
    """No scene is there, or none that shows anything of the region: elsewhere the same provider may have some.

    Attributes:
        unreadable: Item id of a scene that is there but cannot be read → the reason.
    """

    def __init__(self, message: str, unreadable: Mapping[str, str] | None = None) -> None:
        """Say it in one line."""
        super().__init__(message)
        self.unreadable = dict(unreadable or {})


class SceneError(SourceError):
    """One scene cannot be read, and is left out."""

    def __init__(self, scene: str, reason: str) -> None:
        """Name the item's id, and say why."""
        super().__init__(scene, reason)
        self.scene, self.reason = scene, reason

    def __str__(self) -> str:
        """Both in one line."""
        return f"{self.scene}: {self.reason}"


def innermost(error: BaseException) -> str:
    """The first line of the innermost cause: what a library wraps four times says itself only at the bottom."""
    while error.__cause__ or error.__context__:
        error = error.__cause__ or error.__context__ or error
    return (str(error).strip() or type(error).__name__).splitlines()[0]
