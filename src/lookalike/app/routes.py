"""The routes of the API: each takes its parameters apart and asks the desk."""

import asyncio
from collections.abc import Sequence
from importlib.metadata import version
from typing import Annotated, Any

from fastapi import APIRouter, File, Path, Query, Request, Response, UploadFile

from lookalike.app.access import COOKIE, Access
from lookalike.app.desk import Desk
from lookalike.app.examples import parse
from lookalike.app.explaining import Pair
from lookalike.app.messages import (
    Browsed,
    Compared,
    Health,
    HitsOut,
    ItemOut,
    ItemsOut,
    Problems,
    RegionsOut,
    Searched,
    Token,
)
from lookalike.app.problems import RequestError
from lookalike.app.tables import as_csv
from lookalike.app.telemetry import CONTENT_TYPE
from lookalike.errors import InputError

DRAWN_AT_ONCE = 4  # thumbnails
KEPT = "private, max-age=3600"  # thumbnails, by the browser alone
Responses = dict[int | str, dict[str, Any]]
SAID: Responses = {
    status: {"model": Problems, "description": text}
    for status, text in {
        400: "a parameter does not fit the index or an image",
        401: "the token is missing",
        403: "a page of another site asks",
        404: "there is no such index or item",
        408: "the request did not arrive in time",
        410: "an image is not known any more: send it again",
        413: "too many bytes, pixels or files",
        415: "a file is no image",
        421: "the server is not known under this name",
        422: "a parameter is missing or out of range",
        503: "too much is waiting; Retry-After says for how long",
    }.items()
}
Id = Annotated[int, Path(ge=0, lt=2**63)]
Files = Annotated[list[UploadFile], File(description="Images, named file:0, file:1 ...")]


class Routes:
    """What the API answers.

    Args:
        desk: that answers.
    """

    def __init__(self, desk: Desk) -> None:
        self.desk = desk
        self._drawing = asyncio.Semaphore(DRAWN_AT_ONCE)

    def router(self) -> APIRouter:
        """All routes."""
        router = APIRouter(responses=SAID)
        csv: Responses = {200: {"content": {"text/csv": {}}}}
        router.get("/search", response_model=HitsOut, responses=csv)(self.search)
        router.post("/search", response_model=HitsOut, responses=csv)(self.search_sent)
        router.get("/items")(self.items)
        router.get("/items/{index}/{id}")(self.item)
        jpeg: Responses = {
            200: {"content": {"image/jpeg": {}}},
            304: {"description": "as the browser has it"},
        }
        router.get("/thumbnails/{index}/{id}", response_class=Response, responses=jpeg)(
            self.thumbnail
        )
        router.get("/regions")(self.regions)
        router.post("/regions")(self.regions_sent)
        router.get("/indexes")(self.indexes)
        router.get("/health")(self.health)
        router.get("/metrics", response_class=Response)(self.metrics)
        router.post("/session", status_code=204)(self.session)
        return router

    async def search(self, asked: Annotated[Searched, Query()]) -> Any:
        """Search by items of an index, or by images that were sent before."""
        return self._written(asked, await self.desk.search(asked))

    async def search_sent(self, asked: Annotated[Searched, Query()], file: Files) -> Any:
        """Search by images that are sent, and by items."""
        return self._written(asked, await self.desk.search(asked, await self._read(file)))

    def items(self, asked: Annotated[Browsed, Query()]) -> ItemsOut:
        """A page of the items of an index."""
        return self.desk.browse(asked)

    def item(self, index: str, id: Id) -> ItemOut:
        """One item."""
        return self.desk.item(index, id)

    async def thumbnail(
        self,
        request: Request,
        index: str,
        id: Id,
        size: Annotated[int, Query(ge=16, le=1024, description="Longer side, pixels")] = 320,
    ) -> Response:
        """An item's image as JPEG."""
        served = self.desk.index(index)
        tag = f'"{id}-{size}-{served.index.store.generation.number}"'
        headers = {"Cache-Control": KEPT, "ETag": tag}
        if request.headers.get("if-none-match") == tag:
            return Response(status_code=304, headers=headers)
        async with self._drawing:
            try:
                data = await asyncio.to_thread(served.thumbnail, id, size)
            except InputError as error:  # no such item, or its file is gone
                raise RequestError(404, str(error)) from error
        return Response(data, media_type="image/jpeg", headers=headers)

    async def regions(self, asked: Annotated[Compared, Query()]) -> RegionsOut:
        """Why an item was found by another item: the regions that match."""
        return await self._regions(asked, [])

    async def regions_sent(self, asked: Annotated[Compared, Query()], file: Files) -> RegionsOut:
        """Why an item was found by an image that is sent."""
        return await self._regions(asked, await self._read(file))

    def indexes(self) -> list[dict[str, Any]]:
        """The cards of the indexes and their networks."""
        return [each.card() for each in self.desk.indexes.values()]

    def health(self) -> Health:
        """Whether the server answers."""
        return Health(version=version("lookalike"), waiting=self.desk.waiting())

    def metrics(self) -> Response:
        """Counters in Prometheus's text format."""
        return Response(self.desk.telemetry.text(), media_type=CONTENT_TYPE)

    def session(self, request: Request, given: Token) -> Response:
        """Take a token for a cookie, which pages send with their images."""
        access: Access = request.state.access
        if not access.accepts(given.token):
            raise RequestError(401, "this is not the token of this server")
        response = Response(status_code=204)
        response.set_cookie(COOKIE, access.session, httponly=True, samesite="strict")
        return response

    async def _regions(self, asked: Compared, files: Sequence[bytes]) -> RegionsOut:
        sent = self.desk.checked(files)
        example = parse(asked.query, list(sent))
        pair = Pair(self.desk.index(asked.index), example, asked.id, sent)
        return await asyncio.wrap_future(self.desk.regions.submit(pair))

    async def _read(self, files: Sequence[UploadFile]) -> list[bytes]:
        self.desk.limits.check_sizes([file.size or 0 for file in files])
        return [await file.read() for file in files]

    def _written(self, asked: Searched, found: HitsOut) -> HitsOut | Response:
        if asked.format == "json":
            return found
        named = {"Content-Disposition": 'attachment; filename="hits.csv"'}
        return Response(as_csv(found), media_type="text/csv", headers=named)
