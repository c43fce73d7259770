"""Run the web application until it is stopped."""

import secrets
import socket
from collections.abc import Collection, Sequence

import uvicorn

from lookalike.app.access import Door, is_local
from lookalike.app.limits import LIMITS, Limits
from lookalike.app.served import named
from lookalike.app.server import create_app
from lookalike.errors import InputError
from lookalike.inference.index import Index

GRACE = 3  # seconds that requests get to end


def run_server(
    indexes: Sequence[Index],
    host: str = "127.0.0.1",
    port: int = 8000,
    hosts: Collection[str] = (),
    token: str | None = None,
    limits: Limits = LIMITS,
    waiting: int = 64,
    batch_size: int = 16,
) -> None:
    """Serve the page and the API of indexes until a signal comes.

    Args:
        indexes: at least one; the first is asked by default.
        host: address to listen on; a token is made for one that other machines reach.
        port: likewise; 0 for any that is free.
        hosts: further names under which the server may be asked.
        token: that every request must show.
        limits: of what is sent.
        waiting: searches that wait for an index at most.
        batch_size: searches that are computed at once at most.

    Raises:
        InputError: the address can't be listened on.
    """
    with listener(host, port) as opened:
        token = token or (None if is_local(host) else secrets.token_urlsafe(16))
        door = Door((*hosts, host), host in ("0.0.0.0", "::"), token)
        served = named(indexes)
        for each in served.values():
            each.warm_up()
        app = create_app(served, door, limits, waiting, batch_size)
        print(address(host, opened.getsockname()[1], token), flush=True)
        config = uvicorn.Config(
            app,
            log_config=None,
            access_log=False,
            server_header=False,
            timeout_graceful_shutdown=GRACE,
        )
        uvicorn.Server(config).run([opened])


def listener(host: str, port: int) -> socket.socket:
    """A socket that listens.

    Raises:
        InputError: the port is taken, or the host is none of this machine.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family)
    except (OSError, OverflowError) as error:
        raise InputError(
            f"can't listen on {host}, port {port} ({error}). Take another one: port={port + 1}, or "
            "port=0 for any that is free."
        ) from error


def address(host: str, port: int, token: str | None) -> str:
    """What to open in a browser.

    >>> address("0.0.0.0", 8000, "secret")
    'http://127.0.0.1:8000/#token=secret'
    """
    name = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(host, f"[{host}]" if ":" in host else host)
    return f"http://{name}:{port}/" + (f"#token={token}" if token else "")
