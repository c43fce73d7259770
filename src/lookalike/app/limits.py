"""Limits on what strangers send: bytes, pixels, files, and the time that it takes."""

import asyncio
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from io import BytesIO
from typing import Any

from PIL import Image
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from lookalike.app.problems import RequestError, problem_response
from lookalike.data.formats import formats

FORMS = 64 * 1024  # bytes of a request beside its images


@dataclass(frozen=True)
class Limits:
    """What one request may need.

    max_bytes: of one image file.
    max_pixels: of one image, width x height.
    max_files: images in one request.
    seconds: in which a request must have arrived.
    max_held: bytes of all requests that are being answered.
    """

    max_bytes: int = 20_000_000
    max_pixels: int = 64_000_000
    max_files: int = 8
    seconds: float = 30.0
    max_held: int = 500_000_000

    @property
    def body(self) -> int:
        """Bytes of a whole request."""
        return self.max_files * self.max_bytes + FORMS

    def check_sizes(self, sizes: Sequence[int]) -> None:
        """Raises RequestError where files are too many or have too many bytes."""
        if len(sizes) > self.max_files:
            raise RequestError(413, f"{len(sizes)} files, {self.max_files} at most are taken")
        for number, size in enumerate(sizes):
            if size > self.max_bytes:
                raise RequestError(
                    413, f"file {number} has {size} bytes, {self.max_bytes} at most are taken"
                )


LIMITS = Limits()


def check_image(file: bytes, limits: Limits, name: str) -> None:
    """Reads the header; raises RequestError where a file is no image or has too many pixels."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # ours comes below
            with Image.open(BytesIO(file), formats=formats()) as image:
                width, height = image.size
    except Image.DecompressionBombError:
        raise RequestError(413, f"{name} has more than {limits.max_pixels} pixels") from None
    except Exception:  # a damaged file makes Pillow's readers raise a dozen kinds
        known = ", ".join(formats())
        raise RequestError(415, f"{name} is no image that is read here: send {known}") from None
    if width * height > limits.max_pixels:
        raise RequestError(
            413, f"{name} has {width} x {height} pixels, {limits.max_pixels} at most are taken"
        )


class BoundedBodies:
    """ASGI middleware: a request's body is as large as the limits say at most, and arrives in time.

    Args:
        app: behind it.
        limits: of bytes and seconds.
    """

    def __init__(self, app: ASGIApp, limits: Limits) -> None:
        self.app = app
        self.limits = limits
        self.held = 0  # bytes of requests that are being answered

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on."""
        if scope["type"] != "http":
            return await self.app(scope, receive, send)
        announced = dict(scope["headers"]).get(b"content-length", b"0")
        problem = self._too_large()
        if announced.isdigit() and int(announced) > self.limits.body:
            return await problem_response(problem)(scope, receive, send)
        body = _Counted(receive, self.limits, problem, self._hold)

        async def send_unless_failed(message: Message) -> None:
            if body.failed is None:
                await send(message)

        try:
            await self.app(scope, body, send_unless_failed)
        except RequestError as error:
            if error is not body.failed:
                raise
        finally:
            self._hold(-body.taken)
        if body.failed is not None:  # whatever the application made of it
            await problem_response(body.failed)(scope, receive, send)

    def _hold(self, count: int) -> bool:
        """Whether there is room for so many bytes more."""
        self.held += count
        return self.held <= self.limits.max_held

    def _too_large(self) -> RequestError:
        return RequestError(413, f"the request has more than {self.limits.body} bytes")


class _Counted:
    def __init__(
        self,
        receive: Receive,
        limits: Limits,
        problem: RequestError,
        hold: Callable[[int], bool],
    ) -> None:
        self.receive = receive
        self.limits = limits
        self.problem = problem
        self.hold = hold
        self.taken = 0
        self.until: float | None = None
        self.whole = False
        self.failed: RequestError | None = None

    async def __call__(self) -> Message:
        if self.whole:
            return await self.receive()  # waits for the client to leave
        message = await self._in_time()
        count = len(message.get("body", b""))
        self.taken += count
        has_room = self.hold(count)
        self.whole = not message.get("more_body", False)
        if self.taken > self.limits.body:
            raise self._fail(self.problem)
        if not has_room:
            raise self._fail(RequestError(503, "too much is being sent", Retry_After="1"))
        return message

    def _fail(self, problem: RequestError) -> RequestError:
        self.failed = problem
        return problem

    async def _in_time(self) -> Any:
        now = asyncio.get_running_loop().time()
        self.until = self.until or now + self.limits.seconds
        try:
            return await asyncio.wait_for(self.receive(), max(0.001, self.until - now))
        except TimeoutError:
            text = f"no whole request in {self.limits.seconds:g} s"
            raise self._fail(RequestError(408, text)) from None
