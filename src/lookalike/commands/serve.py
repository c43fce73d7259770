"""lookalike serve: a web page and an API that search one or several indexes."""

import secrets
import socket

from omegaconf import DictConfig

from lookalike.commands.verb import run_verb
from lookalike.config import as_list, build, check_arguments
from lookalike.errors import InputError
from lookalike.inference.index import Index

try:
    import uvicorn

    from lookalike.app.access import Door, is_local
    from lookalike.app.served import named
    from lookalike.app.server import create_app
except ModuleNotFoundError as error:
    missing = error.name
else:
    missing = None


def serve(config: DictConfig) -> None:
    """Serves until it is stopped."""
    folders = as_list(config.index)
    _check(folders)
    check_arguments(config.limits)
    listener = _listener(config.host, config.port)
    token = config.token or (None if is_local(config.host) else secrets.token_urlsafe(16))
    door = Door(
        (*as_list(config.hosts), config.host), config.host in ("0.0.0.0", "::"), token
    )
    trust = as_list(config.trust)
    indexes = named([Index.load(each, config.device, config.root, trust) for each in folders])
    for each in indexes.values():
        each.warm_up()
    app = create_app(indexes, door, build(config.limits), config.waiting, config.batch_size)
    print(_greeting(list(indexes), config.host, listener.getsockname()[1], token))
    server = uvicorn.Server(uvicorn.Config(app, log_config=None, access_log=False, server_header=False))
    server.run([listener])


if __name__ == "__main__":
    run_verb("serve", serve)
