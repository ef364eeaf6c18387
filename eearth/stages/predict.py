"""A trained model and a region → the land cover map."""

from __future__ import annotations

import shutil
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from eearth.data.regions import asked_imagery
from eearth.data.scenery import Scenery, Wish, find_scenery
from eearth.errors import UsageError
from eearth.events import Note, Report, Table, Warned, silent
from eearth.geo.aoi import Region, read_region
from eearth.geo.labels.legend import LandCoverClass
from eearth.geo.products.generalisation.refinement import Refinement
from eearth.geo.products.landcover.legend import write_qml, write_sld
from eearth.geo.products.landcover.preview import draw_map
from eearth.geo.products.landcover.unfamiliar import UNFAMILIAR, unfamiliar_share, unfamiliar_warnings
from eearth.geo.products.landcover.writer import CONFIDENCE, LandCoverWriter
from eearth.geo.products.metadata.item import write_item
from eearth.geo.products.metadata.map_item import map_assets
from eearth.geo.products.metadata.provenance import ITEM, model_link, processing_fields, source_links
from eearth.inference.cluster import Order, map_on_cluster
from eearth.inference.cover import cover
from eearth.inference.estimate import estimate_map
from eearth.inference.mapping import LandCoverMapper
from eearth.inference.walk import RegionTiles
from eearth.models.files import LAND_COVER
from eearth.workspace import Input, Workspace, file_input

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from eearth.data.sights import Account
    from eearth.inference.walk import Made, Tile
    from eearth.manifest import Manifest
    from eearth.models.segmentation import LandCoverModel
    from eearth.settings import PredictSettings


def predict(workspace: Workspace, settings: PredictSettings, report: Report = silent) -> Manifest | None:
    """Map a region, into `map/`.

    Writes `landcover.tif` and `confidence.tif` (cloud-optimised GeoTIFFs), `areas.csv`, `landcover.qml`,
    `landcover.sld`, `item.json` (STAC), `preview.png`, and what else the settings ask for. Where the workspace's
    imagery does not cover the region, imagery is fetched as that was, or else as the model's was, tile by tile,
    and not kept.

    Args:
        workspace: Where the model and the imagery are, and where to write.
        settings: What to map, and how.
        report: Receives progress.

    Returns:
        The manifest; None if only an estimate was asked for.

    Raises:
        EearthError: There is no model, it cannot be read, or the imagery cannot be had.
    """
    _check_output(settings)
    region = read_region(settings.region, report)
    path = _model_path(workspace, settings)
    if settings.estimate:
        report(_estimate(workspace, settings, region, path))
        return None
    if path.parent == workspace.folder("finetune"):
        _warn_of_an_old_model(workspace, report)
    manifest = _run(workspace, settings, region, path, report)
    _copy_output(workspace.folder("predict"), settings, report)
    report(Note(text="`eearth report` puts the map, its accuracy and where it comes from on one page"))
    return manifest


def _run(workspace: Workspace, settings: PredictSettings, region: Region, path: Path, report: Report) -> Manifest:
    with workspace.stage(settings, _inputs(workspace, settings, path)) as run:
        if run.finished:
            report(Note(text=f"{workspace.folder('predict')} is up to date"))
            return run.finished
        mapper, saved = LandCoverMapper.loaded(path, settings)
        classes = tuple(LandCoverClass(**entry) for entry in saved.classes)
        wish = Wish(mapper.model.bands, saved.imagery, "finetune")
        scenery = find_scenery(workspace, region, wish, settings, scratch=run.scratch)
        refinement = _refinement(scenery, settings)
        digest = (run.inputs.get("finetune") or run.inputs["model"]).digest
        encoder = saved.network["encoder"]["name"]
        tags = scenery.provenance(wish, model=digest, encoder=encoder, window_size=settings.window_size)
        writer = LandCoverWriter(
            run.folder, run.scratch, scenery.grid, classes, tags, probabilities=settings.probabilities
        )
        tiles = RegionTiles(region, scenery.grid, settings.tile_size)
        elsewhere = _cluster(Order(digest, path, scenery, settings))
        account = cover("map", tiles, scenery, mapper, writer, run.scratch, report, elsewhere)
        landcover, found = refinement.finish(writer, classes, run.folder, run.scratch, report)
        write_qml(run.folder / "landcover.qml", classes)
        write_sld(run.folder / "landcover.sld", classes)
        draw_map(run.folder / "preview.png", landcover, classes, title=f"{region.name}: land cover")
        made = processing_fields("Land cover", tags, account.items, settings)
        links = _links(workspace, path, scenery, account)
        _write_item(run.folder, region, scenery, account, classes, made, links)
        figures = _figures(scenery) | found | _unfamiliar(run.folder / CONFIDENCE, mapper.model, account, report)
        records = {
            "grid": scenery.grid.as_dict(),
            "provenance": tags,
            "items": list(account.items),
            "dropped": account.dropped or {},
            "radiometry": {name: why for name, (_, why) in account.offsets.items()},
        }
        return run.finish(figures=figures, records=records)


def _estimate(workspace: Workspace, settings: PredictSettings, region: Region, path: Path) -> Table:
    mapper, saved = LandCoverMapper.loaded(path, settings)
    wish = Wish(mapper.model.bands, saved.imagery, "finetune")
    with TemporaryDirectory() as name:
        scenery = find_scenery(workspace, region, wish, settings, scratch=Path(name))
        tiles = RegionTiles(region, scenery.grid, settings.tile_size)
        return estimate_map(tiles, scenery, mapper, workspace.root, settings.rate)


def _cluster(order: Order) -> Callable[[Iterator[Tile]], Iterator[Made[Any]]] | None:
    """What maps tiles on the cluster that the settings name."""
    scheduler = order.settings.scheduler
    return partial(map_on_cluster, order, scheduler=scheduler) if scheduler else None


def _check_output(settings: PredictSettings) -> None:
    if settings.output is not None and settings.output.is_dir():
        msg = f"expected the name of a GeoTIFF for --output, found the folder {settings.output}"
        raise UsageError(msg)


def _model_path(workspace: Workspace, settings: PredictSettings) -> Path:
    if settings.model is not None and not settings.model.is_dir():
        return settings.model
    source = workspace if settings.model is None else Workspace(settings.model)
    source.require("finetune")
    return source.folder("finetune") / LAND_COVER


def _warn_of_an_old_model(workspace: Workspace, report: Report) -> None:
    """A model that knows nothing of the present labels or imagery still maps."""
    changed = " and ".join(f"{folder}/" for folder in workspace.changed_since("finetune"))
    if changed:
        report(Warned(text=f"the model is older than {changed}: run `eearth finetune` again for one made from these"))


def _inputs(workspace: Workspace, settings: PredictSettings, path: Path) -> dict[str, Input]:
    inputs = {"region": file_input(settings.region)}
    if path.parent == workspace.folder("finetune"):
        inputs |= workspace.given("finetune")
    else:
        inputs["model"] = file_input(path)
    return inputs | (workspace.given("download") if workspace.folder("download").is_dir() else {})


def _links(workspace: Workspace, path: Path, scenery: Scenery, account: Account) -> list[dict[str, str]]:
    """To the model, where it is the workspace's own, and to the imagery, where that has addresses."""
    home = workspace.folder("finetune")
    own = [model_link(home.name)] if path.parent == home and (home / ITEM).is_file() else []
    asked = vars(scenery.fetching.request) if scenery.fetching else asked_imagery(workspace)
    return own + source_links(asked["catalog"], asked["collection"], account.items)


def _write_item(  # noqa: PLR0917 - all are needed, none twice
    folder: Path,
    region: Region,
    scenery: Scenery,
    account: Account,
    classes: tuple[LandCoverClass, ...],
    made: dict[str, Any],
    links: list[dict[str, str]],
) -> None:
    first, last = account.period
    write_item(
        folder / ITEM,
        id=f"{region.name}-landcover",
        grid=scenery.grid,
        region=region.geometry,
        start=first,
        end=last,
        assets=map_assets(folder, scenery.grid, classes),
        properties={"title": f"Land cover of {region.name}", **made},
        links=links,
    )


def _copy_output(folder: Path, settings: PredictSettings, report: Report) -> None:
    """The map under the name that the user gave, side files beside it under the same stem."""
    if settings.output is None:
        return
    target = settings.output
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(folder / "landcover.tif", target)
    shutil.copyfile(folder / "landcover.tif.aux.xml", target.with_name(target.name + ".aux.xml"))
    shutil.copyfile(folder / "landcover.qml", target.with_suffix(".qml"))
    shutil.copyfile(folder / "landcover.sld", target.with_suffix(".sld"))
    shutil.copyfile(folder / "confidence.tif", target.with_name(f"{target.stem}_confidence.tif"))
    shutil.copyfile(folder / "areas.csv", target.with_name(f"{target.stem}_areas.csv"))
    if settings.probabilities:
        shutil.copyfile(folder / "probabilities.tif", target.with_name(f"{target.stem}_probabilities.tif"))
    for path in (folder / "landcover.gpkg", folder / "landcover.parquet"):
        if path.exists():
            shutil.copyfile(path, target.with_suffix(path.suffix))
    report(Note(text=f"map copied to {target}"))


def _figures(scenery: Scenery) -> dict[str, Any]:
    return {
        "grid": f"{scenery.grid.height} x {scenery.grid.width}",
        "imagery": "fetched for this map" if scenery.fetching else "of the workspace",
    }


def _unfamiliar(confidence: Path, model: LandCoverModel, account: Account, report: Report) -> dict[str, Any]:
    """How much of the map is unlike what its model was trained on; nothing where that is not known."""
    share = unfamiliar_share(confidence)
    for text in unfamiliar_warnings(share, model.familiarity.months if model.familiarity else (), account.months):
        report(Warned(text=text))
    return {} if share is None else {UNFAMILIAR: f"{share:.1%}"}


def _refinement(scenery: Scenery, settings: PredictSettings) -> Refinement:
    return Refinement(scenery.grid, settings.min_mapping_unit, settings.vector, settings.simplify)
