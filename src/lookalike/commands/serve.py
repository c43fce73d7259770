"""lookalike serve: a web page and an API that search one or several indexes."""

from importlib.util import find_spec

from omegaconf import DictConfig

from lookalike.commands.verb import run_verb
from lookalike.config import as_list, build, check_arguments
from lookalike.errors import InputError
from lookalike.inference.index import Index

EXTRA = ("fastapi", "uvicorn", "python_multipart", "prometheus_client")


def serve(config: DictConfig) -> None:
    """Serves until it is stopped."""
    folders = as_list(config.index)
    if not folders:
        raise InputError("give index=<folder>, which `lookalike index build` makes")
    missing = [name for name in EXTRA if find_spec(name) is None]
    if missing:
        raise InputError(f'serving needs {", ".join(missing)}: pip install "lookalike[serve]"')
    from lookalike.app.running import run_server  # imports the extra

    check_arguments(config.limits)
    trust = as_list(config.trust)
    run_server(
        [Index.load(each, config.device, config.root, trust) for each in folders],
        config.host,
        config.port,
        as_list(config.hosts),
        config.token,
        build(config.limits),
        config.waiting,
        config.batch_size,
    )


if __name__ == "__main__":
    run_verb("serve", serve)
