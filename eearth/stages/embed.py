"""An encoder and a region → its features, for a classifier of the user's own."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING, Any

from eearth.data.scenery import Scenery, Wish, find_scenery
from eearth.errors import UsageError
from eearth.events import Note, Report, Warned, silent
from eearth.geo.aoi import Region, read_region
from eearth.geo.products.features.pca import draw_pca
from eearth.geo.products.features.quantisation import MeasuredInt8
from eearth.geo.products.features.writer import FILES, FeatureWriter
from eearth.geo.products.metadata.item import Asset, features_asset, write_item
from eearth.geo.products.metadata.provenance import ITEM, processing_fields
from eearth.inference.cover import cover
from eearth.inference.mapping import FeatureMapper
from eearth.inference.walk import RegionTiles
from eearth.models.files import ENCODER, LAND_COVER
from eearth.workspace import Input, Run, Workspace, file_input

if TYPE_CHECKING:
    from pathlib import Path

    from eearth.data.sights import Account
    from eearth.geo.products.features.moments import Moments
    from eearth.manifest import Manifest
    from eearth.settings import EmbedSettings

PICTURE = "pca.png"

# Stages whose folders hold an encoder.
TRAINED = ("pretrain", "finetune")


def embed(workspace: Workspace, settings: EmbedSettings, report: Report = silent) -> Manifest:
    """Write the features of every pixel of a region, into `embedding/`.

    Writes `features.tif` (cloud-optimised GeoTIFF) or `features.zarr`, `item.json` (STAC) and `pca.png`. Imagery is
    found or fetched as for a map.

    Args:
        workspace: Where encoder and imagery are, and where to write.
        settings: What to encode, and how.
        report: Receives progress.

    Raises:
        EearthError: There is no encoder, it cannot be read, or the imagery cannot be had.
    """
    _check_output(settings)
    region = read_region(settings.region, report)
    path = _encoder_path(workspace, settings)
    manifest = _run(workspace, settings, region, path, report)
    _copy_output(workspace.folder("embed"), settings, report)
    return manifest


def _run(workspace: Workspace, settings: EmbedSettings, region: Region, path: Path, report: Report) -> Manifest:
    with workspace.stage(settings, _inputs(workspace, settings, path)) as run:
        if run.finished:
            report(Note(text=f"{workspace.folder('embed')} is up to date"))
            return run.finished
        mapper, saved = FeatureMapper.loaded(path, settings)
        encoder = mapper.encoder
        wish = Wish(encoder.bands, saved.imagery, "pretrain" if saved.kind == "encoder" else "finetune")
        scenery = find_scenery(workspace, region, wish, settings, scratch=run.scratch)
        tags = scenery.provenance(wish, model=_digest(run), encoder=encoder.name, window_size=settings.window_size)
        writer = FeatureWriter(run.folder, run.scratch, scenery.grid, encoder.features, tags)
        tiles = RegionTiles(region, scenery.grid, settings.tile_size)
        account = cover("features", tiles, scenery, mapper, writer, run.scratch, report)
        moments = writer.moments()
        if not moments.count:
            report(Warned(text="no pixel of the region was ever observed clearly: all features are nodata"))
        coder = MeasuredInt8(moments) if settings.encoding == "int8" else None
        product = writer.finish(settings.format, coder)
        draw_pca(run.folder / PICTURE, writer, moments)
        made = processing_fields("Features", tags, account.items, settings)
        _write_item(run.folder, region, account, writer, product, coder, made)
        records = {
            "grid": scenery.grid.as_dict(),
            "provenance": tags,
            "items": list(account.items),
            "dropped": account.dropped or {},
            "radiometry": {name: why for name, (_, why) in account.offsets.items()},
        }
        return run.finish(
            figures=_figures(writer, scenery, moments, coder),
            records=records | ({"int8": coder.records()} if coder else {}),
        )


def _encoder_path(workspace: Workspace, settings: EmbedSettings) -> Path:
    given = settings.encoder
    if given is not None and not given.is_dir():
        return given
    if given is not None:
        for name in (ENCODER, LAND_COVER):
            if (given / name).is_file():
                return given / name
    source = workspace if given is None else Workspace(given)
    source.require("pretrain")
    return source.folder("pretrain") / ENCODER


def _inputs(workspace: Workspace, settings: EmbedSettings, path: Path) -> dict[str, Input]:
    inputs = {"region": file_input(settings.region)}
    own = [stage for stage in TRAINED if path.resolve().parent == workspace.folder(stage).resolve()]
    inputs |= workspace.given(*own) if own else {"encoder": file_input(path)}
    return inputs | (workspace.given("download") if workspace.folder("download").is_dir() else {})


def _digest(run: Run) -> str:
    """Of the stage that trained the encoder, or of the encoder's file."""
    return next(run.inputs[name].digest for name in (*TRAINED, "encoder") if name in run.inputs)


def _write_item(  # noqa: PLR0917 - all are needed, none twice
    folder: Path,
    region: Region,
    account: Account,
    writer: FeatureWriter,
    product: Path,
    coder: MeasuredInt8 | None,
    made: dict[str, Any],
) -> None:
    start, end = account.period
    write_item(
        folder / ITEM,
        id=f"{region.name}-features",
        grid=writer.grid,
        region=region.geometry,
        start=start,
        end=end,
        assets={
            "features": features_asset(product, writer.grid, writer.names, coder.code if coder else None),
            "preview": Asset(folder / PICTURE, "Principal components of the features", "image/png", ("overview",)),
        },
        properties={"title": f"Features of {region.name}", **made},
    )


def _check_output(settings: EmbedSettings) -> None:
    """Refuse to replace what is not a product of this format, before any work is done."""
    output = settings.output
    if output is None or not output.exists():
        return
    if settings.format == "cog" and output.is_dir():
        msg = f"expected the name of a GeoTIFF for --output, found the folder {output}"
        raise UsageError(msg)
    if settings.format == "zarr" and not (output / ".zgroup").is_file():
        msg = f"expected the name of a Zarr store for --output, found {output}, which is something else"
        raise UsageError(msg)


def _copy_output(folder: Path, settings: EmbedSettings, report: Report) -> None:
    """The features under the name that the user gave."""
    if settings.output is None:
        return
    target, source = settings.output, folder / FILES[settings.format]
    target.parent.mkdir(parents=True, exist_ok=True)
    if source.is_dir():
        shutil.rmtree(target, ignore_errors=True)
        shutil.copytree(source, target)
    else:
        shutil.copyfile(source, target)
    report(Note(text=f"features copied to {target}"))


def _figures(writer: FeatureWriter, scenery: Scenery, moments: Moments, coder: MeasuredInt8 | None) -> dict[str, Any]:
    return {
        "grid": f"{scenery.grid.height} x {scenery.grid.width}",
        "features": len(writer.names),
        "pixels with features": moments.count,
        "imagery": "fetched for this region" if scenery.fetching else "of the workspace",
        **(coder.figures() if coder else {}),
    }
