"""STAC's own validator, with the schemas of the extensions from files: the network is closed in tests."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pystac
from pystac.validation.stac_validator import JsonSchemaSTACValidator

SCHEMAS = Path(__file__).parent / "geo" / "schemas"


def validator() -> JsonSchemaSTACValidator:
    made = JsonSchemaSTACValidator()
    for path in SCHEMAS.glob("*.json"):
        name, _, number = path.stem.partition("-")
        made.schema_cache[f"https://stac-extensions.github.io/{name}/v{number}/schema.json"] = json.loads(
            path.read_text(encoding="utf-8")
        )
    return made


def validate(item: dict[str, Any]) -> list[str]:
    """Check an item against the schemas of the core and of its extensions; their addresses.

    Raises:
        pystac.STACValidationError: It is not valid.
    """
    return pystac.validation.validate_dict(item, validator=validator())
