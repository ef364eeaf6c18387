"""A workspace's imagery and labels, ready to learn from."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from eearth.data.chips import LabelledSeries
from eearth.data.series import Series
from eearth.errors import LabelError
from eearth.geo.cube import CUBE, Cube
from eearth.geo.labels.legend import LandCoverClass, read_classes
from eearth.geo.raster import read_raster
from eearth.geo.splits.guarantee import Guarantee, check_guarantee

if TYPE_CHECKING:
    from collections.abc import Sequence

    from eearth.workspace import Workspace

FEATURES = "features.tif"


def series_of(cube: Cube) -> Series:
    """A cube as the series that networks are fed from."""
    return Series(cube.reflectance, cube.valid, cube.times, cube.bands, cube.scale, cube.offset)


def open_series(workspace: Workspace) -> Series:
    """The imagery of a workspace.

    Raises:
        WorkspaceError: It is not there.
    """
    workspace.require("download")
    return series_of(Cube.open(workspace.folder("download") / CUBE))


def asked_imagery(workspace: Workspace) -> dict[str, Any]:
    """How a workspace's imagery was asked for, to ask for the like elsewhere: settings of the download."""
    manifest = workspace.require("download")
    return manifest.settings | {"collection": manifest.records["collection"]}


def open_labelled(workspace: Workspace) -> tuple[LabelledSeries, tuple[LandCoverClass, ...]]:
    """The imagery of a workspace with its labels and split, and the legend.

    Raises:
        WorkspaceError: They are not there, or the labels were made from other imagery.
        LabelError: The split is not the one that was made: parts lie too near each other, or features are divided.
    """
    made = workspace.require_current("rasterize", made_from="download")
    folder = workspace.folder("rasterize")
    cube = Cube.open(workspace.folder("download") / CUBE)
    labels, split = (read_raster(folder / name, cube.grid) for name in ("labels.tif", "split.tif"))
    if "split" in made.records:
        features = read_raster(folder / FEATURES, cube.grid) if FEATURES in made.outputs else None
        check_guarantee(split, features, cube.grid, Guarantee.from_dict(made.records["split"]), str(folder))
    return LabelledSeries(series_of(cube), labels, split), read_classes(folder / "classes.json")


def open_all_labelled(
    sources: Sequence[Workspace],
) -> tuple[list[LabelledSeries], tuple[LandCoverClass, ...]]:
    """The labelled imagery of several workspaces, and the union of their legends.

    Raises:
        WorkspaceError: See `open_labelled`.
        LabelError: The workspaces do not agree on what a class code means.
    """
    opened = [open_labelled(source) for source in sources]
    legend = {entry.code: entry.name for _, classes in opened for entry in classes}
    for source, (_, classes) in zip(sources, opened, strict=True):
        for entry in classes:
            if legend[entry.code] != entry.name:
                msg = (
                    f"expected the same classes in all workspaces, found code {entry.code} as {entry.name!r} in "
                    f"{source.root} and as {legend[entry.code]!r} in another: give them one `code` column"
                )
                raise LabelError(msg)
    if len(set(legend.values())) < len(legend):
        msg = f"expected one code for each class in all workspaces, found {legend}: give them one `code` column"
        raise LabelError(msg)
    merged = {entry.code: entry for _, classes in reversed(opened) for entry in classes}
    return [region for region, _ in opened], tuple(merged[code] for code in sorted(merged))
