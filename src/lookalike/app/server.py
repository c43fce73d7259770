"""The web application: the API of one or several indexes, and the page that is its client."""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from importlib.metadata import version
from pathlib import Path

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from fastapi.responses import FileResponse
from fastapi.staticfiles import StaticFiles
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware

from lookalike.app.access import LOCAL_DOOR, Access, Door
from lookalike.app.desk import Desk
from lookalike.app.limits import LIMITS, BoundedBodies, Limits
from lookalike.app.problems import RequestError, explain
from lookalike.app.queue import QueueFullError
from lookalike.app.routes import Routes
from lookalike.app.served import Served
from lookalike.app.telemetry import Counting
from lookalike.errors import InputError

PAGE = Path(__file__).parent / "page"


def create_app(
    indexes: Mapping[str, Served],
    door: Door = LOCAL_DOOR,
    limits: Limits = LIMITS,
    most_waiting: int = 64,
    batch_size: int = 16,
) -> FastAPI:
    """The application, for any ASGI server.

    Args:
        indexes: by name, at least one; the first is asked by default.
        door: whom it lets in.
        limits: of what is sent.
        most_waiting: searches that wait for an index at most; others get 503.
        batch_size: searches that are computed at once at most.
    """
    desk = Desk(indexes, limits, most_waiting, batch_size)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        yield
        desk.close()

    app = FastAPI(
        title="lookalike",
        version=version("lookalike"),
        description="Searches indexes of images by example.",
        docs_url=None,  # it loads its scripts from a CDN
        redoc_url=None,
        lifespan=lifespan,
        middleware=[
            Middleware(Counting, requests=desk.telemetry.requests),
            Middleware(Access, door=door),
            Middleware(BoundedBodies, limits=limits),
        ],
    )
    for error in (RequestError, QueueFullError, InputError, RequestValidationError, HTTPException):
        app.add_exception_handler(error, explain)
    app.include_router(Routes(desk).router())
    app.mount("/page", StaticFiles(directory=PAGE))
    app.get("/", include_in_schema=False)(page)
    app.get("/favicon.ico", include_in_schema=False)(icon)
    return app


def page() -> FileResponse:
    """The page."""
    return FileResponse(PAGE / "index.html", headers={"Cache-Control": "no-cache"})


def icon() -> FileResponse:
    """Its icon, for browsers that ask for it under this name."""
    return FileResponse(PAGE / "icon.svg", media_type="image/svg+xml")
