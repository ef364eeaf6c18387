"""The STAC API whose items are held in memory: `python -m loopback.memory_app SITE.json PORT [EXTENSION ...]`."""

from __future__ import annotations

import json
import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast
from urllib.parse import unquote_plus

import attr
import uvicorn
from cql2 import Expr
from fastapi import HTTPException, Request
from fastapi.responses import JSONResponse
from stac_fastapi.api.app import StacApi
from stac_fastapi.api.models import (
    ItemCollectionUri,
    create_get_request_model,
    create_post_request_model,
    create_request_model,
)
from stac_fastapi.extensions import (
    FieldsExtension,
    FilterExtension,
    QueryExtension,
    SortExtension,
    TokenPaginationExtension,
)
from stac_fastapi.types.config import ApiSettings
from stac_fastapi.types.core import AsyncBaseCoreClient
from stac_fastapi.types.errors import NotFoundError
from stac_fastapi.types.links import CollectionLinks, ItemLinks
from stac_fastapi.types.requests import get_base_url

from loopback.search import Item, Search, matches, ordered, reduced

if TYPE_CHECKING:
    from collections.abc import Callable

    from stac_fastapi.types.extension import ApiExtension

# stac-fastapi 7 claims sort v1.1.0 alone, which pystac-client 0.9 does not recognise; big providers claim v1.0.0.
SORT_CLASSES = [f"https://api.stacspec.org/v1.{minor}.0/item-search#sort" for minor in (0, 1)]
EXTENSIONS: dict[str, Callable[[], ApiExtension]] = {
    "query": QueryExtension,
    "filter": FilterExtension,
    "sort": partial(SortExtension, conformance_classes=SORT_CLASSES),
    "fields": FieldsExtension,
}


def _search_from_get(parameters: dict[str, Any]) -> Search:
    """The body of `POST /search` that says the same as the parameters of `GET /search`."""
    search = {name: parameters.get(name) for name in ("collections", "ids", "bbox", "datetime", "limit", "token")}
    search["filter"] = parameters.get("filter_expr")
    for name in ("query", "intersects"):
        search[name] = json.loads(unquote_plus(parameters[name])) if parameters.get(name) else None
    search["sortby"] = [
        {"field": rule.lstrip("+-").strip(), "direction": "desc" if rule.startswith("-") else "asc"}
        for rule in parameters.get("sortby") or []
    ]
    fields = parameters.get("fields") or []
    search["fields"] = {
        "include": [name.lstrip("+ ") for name in fields if not name.startswith("-")],
        "exclude": [name[1:] for name in fields if name.startswith("-")],
    }
    return search


def _offset(token: str | None) -> int:
    try:
        return int((token or "next:0").removeprefix("next:"))
    except ValueError as error:
        raise HTTPException(400, f"no such page: {token}") from error


async def _next_link(request: Request, offset: int) -> dict[str, Any]:
    token = f"next:{offset}"
    link = {"rel": "next", "type": "application/geo+json", "method": request.method, "href": str(request.url)}
    if request.method == "POST":
        return {**link, "body": {**await request.json(), "token": token}}
    return {**link, "href": str(request.url.include_query_params(token=token))}


@attr.s
class MemoryClient(AsyncBaseCoreClient):
    """The endpoints, over collections by id and a list of items."""

    known: dict[str, dict[str, Any]] = attr.ib(factory=dict)
    items: list[Item] = attr.ib(factory=list)

    async def _page(self, search: Search, request: Request) -> JSONResponse:
        if search.get("filter"):
            try:
                Expr(search["filter"]).validate()
            except Exception as error:  # cql2 raises no narrower class
                raise HTTPException(400, f"not a CQL2 filter: {error}") from error
        found = ordered([item for item in self.items if matches(item, search)], search.get("sortby"))
        start = _offset(search.get("token"))
        end = start + (search.get("limit") or 10)
        fields = search.get("fields") or {}
        include, exclude = set(fields.get("include") or ()), set(fields.get("exclude") or ())
        page = [reduced(self._linked(item, request), include, exclude) for item in found[start:end]]
        links = [{"rel": "root", "type": "application/json", "href": get_base_url(request)}]
        if end < len(found):
            links.append(await _next_link(request, end))
        body = {"type": "FeatureCollection", "features": page, "links": links}
        counts = {"numberMatched": len(found), "numberReturned": len(page)}
        return JSONResponse({**body, **counts}, media_type="application/geo+json")

    def _linked(self, item: Item, request: Request) -> Item:
        own = ItemLinks(collection_id=item["collection"], base_url=get_base_url(request), item_id=item["id"])
        return {**item, "links": [*own.create_links(), *item["links"]]}

    async def post_search(self, search_request: Any, **kwargs: Any) -> Any:
        return await self._page(search_request.model_dump(mode="json", by_alias=True), kwargs["request"])

    async def get_search(self, **kwargs: Any) -> Any:  # type: ignore[override]
        return await self._page(_search_from_get(kwargs), kwargs["request"])

    async def item_collection(self, collection_id: str, **kwargs: Any) -> Any:  # type: ignore[override]
        await self.get_collection(collection_id, **kwargs)
        return await self._page({**_search_from_get(kwargs), "collections": [collection_id]}, kwargs["request"])

    async def get_item(self, item_id: str, collection_id: str, **kwargs: Any) -> Any:
        for item in self.items:
            if (item["collection"], item["id"]) == (collection_id, item_id):
                return self._linked(item, kwargs["request"])
        raise NotFoundError(item_id)

    async def all_collections(self, **kwargs: Any) -> Any:
        links = [{"rel": "root", "type": "application/json", "href": get_base_url(kwargs["request"])}]
        return {"collections": [await self.get_collection(name, **kwargs) for name in self.known], "links": links}

    async def get_collection(self, collection_id: str, **kwargs: Any) -> Any:
        if collection_id not in self.known:
            raise NotFoundError(collection_id)
        collection = self.known[collection_id]
        own = CollectionLinks(collection_id=collection_id, base_url=get_base_url(kwargs["request"]))
        return {**collection, "links": [*own.create_links(), *collection["links"]]}


def build_api(collections: list[dict[str, Any]], items: list[Item], extension_names: list[str]) -> StacApi:
    pagination = TokenPaginationExtension()
    items_request = cast("type[ItemCollectionUri]", create_request_model("Items", ItemCollectionUri, [pagination]))
    extensions = [pagination, *(EXTENSIONS[name]() for name in extension_names)]
    return StacApi(
        settings=ApiSettings(),
        client=MemoryClient(known={collection["id"]: collection for collection in collections}, items=items),
        extensions=extensions,
        search_get_request_model=create_get_request_model(extensions),
        search_post_request_model=create_post_request_model(extensions),
        items_get_request_model=items_request,
    )


def main() -> None:
    site, port, *extension_names = sys.argv[1:]
    content = json.loads(Path(site).read_text(encoding="utf-8"))
    api = build_api(content["collections"], content["items"], extension_names)
    uvicorn.run(api.app, host="127.0.0.1", port=int(port), log_level="warning")


if __name__ == "__main__":
    main()
