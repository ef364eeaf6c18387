"""Fills an empty database, named by the PG* variables: `python -m loopback.pgstac_load SITE.json`."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from pypgstac.db import PgstacDB
from pypgstac.load import Loader, Methods
from pypgstac.migrate import Migrate

# Without this a bound sent as a string is compared as text: "5" > "20".
CLOUD_COVER_IS_A_NUMBER = """
INSERT INTO pgstac.queryables (name, definition, property_wrapper)
VALUES ('eo:cloud_cover', '{"title": "Cloud cover", "type": "number", "minimum": 0, "maximum": 100}', 'to_float')
"""


def main() -> None:
    content = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    with PgstacDB() as database:
        Migrate(database).run_migration()
    with PgstacDB() as database:  # a second connection: the migration leaves its own inside a transaction
        database.connect().execute(CLOUD_COVER_IS_A_NUMBER)
        loader = Loader(database)
        loader.load_collections(iter(content["collections"]), Methods.insert)
        loader.load_items(iter(content["items"]), Methods.insert)


if __name__ == "__main__":
    main()
