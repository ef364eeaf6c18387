"""A map → a stratified random sample of its pixels, to be labelled."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np

from eearth.accuracy.allocation import allocate, sample_size
from eearth.accuracy.expectation import expected_accuracies
from eearth.errors import WorkspaceError
from eearth.events import Note, Report, Table, Warned, silent
from eearth.geo.products.landcover.writer import LANDCOVER
from eearth.geo.sampling.areas import SQUARE_KILOMETRE
from eearth.geo.sampling.classmap import read_map
from eearth.geo.sampling.design import DESIGN, Design, DesignStratum
from eearth.geo.sampling.draw import draw_pixels
from eearth.geo.sampling.files import SAMPLE, labelled_points, write_sample
from eearth.manifest import MANIFEST, file_digest
from eearth.workspace import file_input

if TYPE_CHECKING:
    from pathlib import Path

    from eearth.accuracy.expectation import Expected
    from eearth.geo.sampling.classmap import ClassMap
    from eearth.manifest import Manifest
    from eearth.settings import SampleSettings
    from eearth.workspace import Input, Workspace


def sample(workspace: Workspace, settings: SampleSettings, report: Report = silent) -> Manifest:
    """Draw a stratified random sample from a map, into `sample/`.

    Writes `sample.gpkg`, in which an interpreter fills the column `reference`, and `design.json`, which says what each
    point stands for. `eearth assess --reference` reads both.

    Args:
        workspace: Where the map is, and where to write.
        settings: How many points, and how they are shared out.
        report: Receives progress, and the reasons.

    Raises:
        EearthError: There is no map, it is no map of classes, or the present sample has labels that would be lost.
    """
    path, digest, inputs = _map_of(workspace, settings)
    with workspace.stage(settings, inputs) as run:
        if run.finished:
            report(Note(text=f"{workspace.folder('sample')} is up to date"))
            return run.finished
        _spare_labels(workspace)
        source = read_map(path, settings.classes, report)
        _warn_of_zero(source, report)
        expected = expected_accuracies(settings.expected, source.strata, _measured(workspace, settings))
        strata, why = _plan(source, expected, settings)
        drawn = draw_pixels(source, {s.code: s.points for s in strata if s.points}, settings.seed, report)
        ids = np.arange(1, len(drawn.codes) + 1)
        where = str(path.resolve())
        design = Design(digest, where, source.grid, settings.seed, strata, ids, drawn.codes, drawn.rows, drawn.cols)
        design.write(run.folder / DESIGN, settings.what())
        write_sample(run.folder / SAMPLE, design)
        report(_table(strata, expected))
        report(Note(text=why))
        report(Note(text=_next(workspace)))
        records = {"why": why, "map": digest, "drawn": file_digest(run.folder / SAMPLE)}
        return run.finish(seed=settings.seed, figures=_figures(design), records=records, to_be_filled=(SAMPLE,))


def _map_of(workspace: Workspace, settings: SampleSettings) -> tuple[Path, str, dict[str, Input]]:
    """The map's file, its sha256, and what the sample is made from."""
    legend = {"classes": file_input(settings.classes)} if settings.classes else {}
    if settings.map is not None:
        raster = file_input(settings.map)
        return settings.map, raster.digest, {"raster": raster, **legend}
    inputs = workspace.given("predict")
    return workspace.folder("predict") / LANDCOVER, workspace.require("predict").outputs[LANDCOVER], inputs | legend


def _spare_labels(workspace: Workspace) -> None:
    """Never replace a sample that somebody has worked on, nor what lies beside it."""
    folder, done = workspace.folder("sample"), workspace.manifest("sample")
    if done is None:
        return
    theirs = [path.name for path in sorted(folder.iterdir()) if path.name not in {MANIFEST, SAMPLE, *done.outputs}]
    if (folder / SAMPLE).is_file() and file_digest(folder / SAMPLE) != done.records["drawn"]:
        count = labelled_points(folder / SAMPLE)
        theirs.insert(0, f"{SAMPLE} with {count} labelled points" if count else f"changes in {SAMPLE}")
    if theirs:
        msg = (
            f"expected a sample that nobody has worked on to replace, found {', '.join(theirs)} in {folder}: move it "
            f"elsewhere together with its {DESIGN}, `eearth assess --reference FILE` reads them there"
        )
        raise WorkspaceError(msg)


def _warn_of_zero(source: ClassMap, report: Report) -> None:
    """A foreign map without a nodata value may mean that by 0, or a class."""
    if 0 in source.rows:
        text = f"the value 0 counts as a class of {source.path}, which does not name it as nodata: if it is no class, "
        report(Warned(text=f"{text}run `gdal_edit.py -a_nodata 0 {source.path}` and this command again"))


def _measured(workspace: Workspace, settings: SampleSettings) -> dict[int, float]:
    """User's accuracies on the test blocks, of the model that made the workspace's map; empty where it is another."""
    if settings.map is not None or not workspace.folder("finetune").is_dir():
        return {}
    if workspace.require("predict").inputs.get("finetune") != workspace.require("finetune").digest:
        return {}
    test = json.loads((workspace.folder("finetune") / "metrics.json").read_text(encoding="utf-8")).get("test")
    pairs = zip(test["codes"], test["users_accuracy"], strict=True) if test else ()
    return {code: accuracy for code, accuracy in pairs if accuracy is not None}


def _plan(
    source: ClassMap, expected: dict[int, Expected], settings: SampleSettings
) -> tuple[tuple[DesignStratum, ...], str]:
    """How many points each class gets, with the reasons for each and for their sum."""
    there = [stratum for stratum in source.strata if stratum.pixels]
    pixels = np.array([stratum.pixels for stratum in there])
    accuracies = np.array([expected[stratum.code].accuracy for stratum in there])
    size = settings.size or sample_size(pixels, accuracies, settings.standard_error)
    allocation = allocate(pixels, size, settings.allocation, settings.minimum)
    given = {s.code: figures for s, *figures in zip(there, allocation.points, allocation.reasons, strict=True)}
    strata = []
    for stratum in source.strata:
        points, reason = given.get(stratum.code, (0, "the map does not show it"))
        strata.append(
            DesignStratum(
                code=stratum.code,
                name=stratum.name,
                colour=stratum.colour,
                pixels=stratum.pixels,
                area_km2=stratum.area / SQUARE_KILOMETRE,
                share=stratum.pixels / int(pixels.sum()),
                expected_users_accuracy=expected[stratum.code].accuracy if stratum.pixels else None,
                points=int(points),
                inclusion_probability=int(points) / stratum.pixels if stratum.pixels else None,
                why=str(reason),
            )
        )
    return tuple(strata), _why(size, int(allocation.points.sum()), settings)


def _why(size: int, drawn: int, settings: SampleSettings) -> str:
    """The reason for the number of points."""
    if settings.size is not None:
        text = f"{size} points as asked"
    else:
        text = (
            f"{size} points give overall accuracy a standard error of {settings.standard_error:g} if user's accuracies "
            "are as expected (Cochran 1977, equation 5.25; Olofsson et al. 2014, equation 13)"
        )
    return text if drawn == size else f"{text}; {drawn} are drawn, for every class gets its least or all of its pixels"


def _table(strata: tuple[DesignStratum, ...], expected: dict[int, Expected]) -> Table:
    rows = tuple(
        (
            str(stratum.code),
            stratum.name,
            f"{stratum.share:.2%}",
            f"{stratum.area_km2:.4g}",
            f"{expected[stratum.code].accuracy:.2f} ({expected[stratum.code].source})" if stratum.pixels else "",
            str(stratum.points),
            stratum.why,
        )
        for stratum in strata
    )
    columns = ("code", "stratum", "map share", "km²", "user's accuracy expected", "points", "why")
    return Table(title="sample", columns=columns, rows=rows)


def _next(workspace: Workspace) -> str:
    path = workspace.folder("sample") / SAMPLE
    return (
        f"fill the column `reference` of {path} with a class name or code for each point, looking at imagery and never "
        f"at the map, then run `eearth assess --reference {path} -w {workspace.root}`"
    )


def _figures(design: Design) -> dict[str, Any]:
    return {
        "points": len(design.ids),
        "strata": sum(stratum.points > 0 for stratum in design.strata),
        **{stratum.name: stratum.points for stratum in design.strata},
    }
