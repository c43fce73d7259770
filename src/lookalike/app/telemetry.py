"""What the server counts, for Prometheus: requests, seconds by step, batches, what waits."""

from collections.abc import Callable, Mapping

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST
from starlette.types import ASGIApp, Message, Receive, Scope, Send

SECONDS = (0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1, 3, 10)  # edges of the histograms

CONTENT_TYPE = CONTENT_TYPE_LATEST


class Telemetry:
    """Counters of one server.

    Args:
        waiting: index -> how many requests wait now.
        sizes: index -> how many items it has now.
    """

    def __init__(
        self, waiting: Mapping[str, Callable[[], int]], sizes: Mapping[str, Callable[[], int]]
    ) -> None:
        self._registry = CollectorRegistry()
        own = {"registry": self._registry, "namespace": "lookalike"}
        self.requests = Counter(
            "requests", "Requests that were answered", ["route", "status"], **own
        )
        self.seconds = Histogram(
            "step_seconds", "Seconds of a search by step", ["step"], buckets=SECONDS, **own
        )
        waits = Gauge("waiting", "Searches that wait for their batch", ["index"], **own)
        items = Gauge("items", "Items of an index", ["index"], **own)
        for gauge, functions in ((waits, waiting), (items, sizes)):
            for name, function in functions.items():
                gauge.labels(name).set_function(function)

    def observe(self, seconds: Mapping[str, float]) -> None:
        """Count a search with the seconds of its steps."""
        for step, spent in seconds.items():
            self.seconds.labels(step).observe(spent)

    def text(self) -> bytes:
        """In Prometheus's text format, `CONTENT_TYPE`."""
        return generate_latest(self._registry)


class Counting:
    """ASGI middleware that counts requests by route and status.

    Args:
        app: behind it.
        requests: the counter.
    """

    def __init__(self, app: ASGIApp, requests: Counter) -> None:
        self.app = app
        self.requests = requests

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, and count its answer."""
        if scope["type"] != "http":
            return await self.app(scope, receive, send)

        async def counted(message: Message) -> None:
            if message["type"] == "http.response.start":
                route = getattr(scope.get("route"), "path", "other")
                self.requests.labels(route, message["status"]).inc()
            await send(message)

        await self.app(scope, receive, counted)
