"""A land cover model as a STAC Item of the machine learning model extension, so that catalogues find it.

The extension says what a program must know to use the model: https://github.com/stac-extensions/mlm
"""

from __future__ import annotations

import re
import unicodedata
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from eearth.geo.products.metadata.item import Asset, legend_fields, write_any_item
from eearth.geo.products.metadata.provenance import software

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from eearth.geo.products.metadata.model_facts import ModelFacts

# The versions that pystac 1.15 reads.
EXTENSIONS = (
    "https://stac-extensions.github.io/mlm/v1.4.0/schema.json",
    "https://stac-extensions.github.io/classification/v2.0.0/schema.json",
    "https://stac-extensions.github.io/file/v2.1.0/schema.json",
    "https://stac-extensions.github.io/processing/v1.1.0/schema.json",
)

TASKS = ["semantic-segmentation"]

# There is no media type for safetensors.
WEIGHTS = "application/octet-stream"

REFLECTANCE = (
    "Reflectance, 0 to 1 for most surfaces, 0 where not valid. The network itself standardises it: give it as it is."
)
VALID = "1: a clear observation of the ground in every band. Nothing else has an influence."
DAY = "Day of the year, 1 to 366, of each date. Dates may be irregular, and of any number."


def write_model_item(path: Path, facts: ModelFacts, weights: Path, assets: dict[str, Asset]) -> None:
    """Write the item.

    Args:
        path: The JSON file.
        facts: What to say.
        weights: The model's file.
        assets: Key → further file.
    """
    start, end = facts.period
    fields = {"mlm:artifact_type": "safetensors.torch.save_file", "bands": _bands(facts.encoder)}
    model = Asset(weights, "Weights, and what rebuilds the network", WEIGHTS, ("mlm:model", "mlm:weights"), fields)
    write_any_item(
        path,
        id=f"{facts.home.name}-landcover-model",
        extensions=EXTENSIONS,
        region=facts.outline,
        start=start,
        end=end,
        assets={"model": model, **assets},
        properties=_properties(facts),
    )


def _properties(facts: ModelFacts) -> dict[str, Any]:
    return {
        "title": facts.title,
        "gsd": round(facts.home.pixel_metres, 6),
        "processing:software": software(),
        "mlm:name": _mlm_name(facts.home.name),
        "mlm:architecture": f"{facts.encoder['name']} and one linear layer",
        "mlm:tasks": TASKS,
        "mlm:framework": "PyTorch",
        "mlm:framework_version": version("torch"),
        "mlm:total_parameters": facts.parameters,
        "mlm:pretrained": facts.pretrained is not None,
        "mlm:pretrained_source": facts.pretrained,
        "mlm:accelerator_constrained": False,
        "mlm:input": _inputs(facts),
        "mlm:output": [_output(facts)],
        "mlm:hyperparameters": {name: value for name, value in facts.settings.items() if value is not None},
    }


def _mlm_name(region: str) -> str:
    """A name in the letters that the extension allows, beginning and ending with a letter."""
    letters = unicodedata.normalize("NFKD", region).encode("ascii", "ignore").decode()
    return f"eearth land cover {re.sub(r'[^0-9A-Za-z]+', ' ', letters).strip()}".strip()


def _bands(encoder: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The bands of the imagery, with what the network standardises them by."""
    statistics = zip(encoder["bands"], encoder["mean"], encoder["std"], strict=True)
    return [{"name": name, "statistics": {"mean": mean, "stddev": std}} for name, mean, std in statistics]


def _inputs(facts: ModelFacts) -> list[dict[str, Any]]:
    bands = list(facts.encoder["bands"])
    image = _structure(("batch", "time", "channel", "height", "width"), "float32", channel=len(bands))
    mask = _structure(("batch", "time", "height", "width"), "uint8")
    day = _structure(("batch", "time"), "float32")
    return [
        {"name": "reflectance", "bands": bands, "input": image, "value_scaling": None, "resize_type": None}
        | {"description": REFLECTANCE},
        {"name": "valid", "bands": [], "input": mask, "description": VALID},
        {"name": "day", "bands": [], "input": day, "description": DAY},
    ]


def _output(facts: ModelFacts) -> dict[str, Any]:
    result = _structure(("batch", "class", "height", "width"), "float32", **{"class": len(facts.network["classes"])})
    temperature = facts.network["temperature"]
    text = f"Scores; their softmax, after division by {temperature:g}, are the probabilities. Classes in this order."
    by_code = {entry["value"]: entry for entry in legend_fields(facts.classes)}
    # `description` for `title`, which programs of this extension do not know.
    classes = [
        {"description" if key == "title" else key: value for key, value in by_code[code].items()}
        for code in facts.network["classes"]
    ]
    return {
        "name": "scores",
        "tasks": TASKS,
        "result": result,
        "description": text,
        "classification:classes": classes,
    }


def _structure(order: tuple[str, ...], kind: str, **sizes: int) -> dict[str, Any]:
    """Shape of a tensor; −1 for what may be of any size."""
    return {"shape": [sizes.get(name, -1) for name in order], "dim_order": list(order), "data_type": kind}
