"""What a client is told when it does not get what it asked for: JSON with one clear sentence."""

from fastapi.exceptions import RequestValidationError
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import compile_path

from lookalike.app.queue import QueueFullError
from lookalike.errors import InputError


class RequestError(Exception):
    """A request that is not answered, and why.

    status: HTTP's.
    text: a sentence for the user.
    """

    def __init__(self, status: int, text: str, **headers: str) -> None:
        super().__init__(text)
        self.status = status
        self.headers = {name.replace("_", "-"): value for name, value in headers.items()}


def problem_response(problem: RequestError) -> Response:
    """`{"error": "..."}` with the status."""
    return JSONResponse({"error": str(problem)}, problem.status, problem.headers)


async def explain(request: Request, error: Exception) -> Response:
    """The response to any error that a client can understand."""
    match error:
        case RequestError():
            return problem_response(error)
        case QueueFullError():
            return problem_response(
                RequestError(503, str(error), Retry_After=str(error.retry_after))
            )
        case RequestValidationError():
            return problem_response(RequestError(422, _first_of(error)))
        case InputError():
            return problem_response(RequestError(400, str(error)))
    status = getattr(error, "status_code", 500)
    said = getattr(error, "detail", "something went wrong here; the server's log has more")
    headers = getattr(error, "headers", None) or {}
    if status == 405 and (methods := _methods(request)):
        headers = {"Allow": methods}
    return JSONResponse({"error": str(said)}, status, headers)


def _methods(request: Request) -> str:
    """Those that a path takes; Starlette names the methods of its first route only."""
    asked, paths = request.url.path, request.app.openapi()["paths"]
    fitting = [known for path, known in paths.items() if compile_path(path)[0].match(asked)]
    return ", ".join(sorted(name.upper() for known in fitting for name in known))


def _first_of(error: RequestValidationError) -> str:
    """Names the parameter: pydantic lists everything, a person reads one sentence."""
    first = error.errors()[0]
    name = ".".join(str(part) for part in first["loc"][1:]) or "the request"
    return f"{name}: {first['msg']}"
