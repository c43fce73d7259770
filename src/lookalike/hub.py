"""The Hugging Face Hub: fetch files of its repositories, and upload folders.

Files are kept in the Hub's own cache. HF_ENDPOINT, HF_HOME, HF_TOKEN and HF_HUB_OFFLINE count, as
in every program that uses the Hub.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Literal

from lookalike.errors import InputError

PREFIX = "hf-hub:"
Kind = Literal["model", "dataset"]


def is_on_hub(place: str | Path) -> bool:
    """Whether a place is written as one of the Hub.

    >>> is_on_hub("hf-hub:me/flowers"), is_on_hub("me/flowers")
    (True, False)
    """
    return str(place).startswith(PREFIX)


def fetched(place: str, names: Sequence[str], kind: Kind = "model") -> Path:
    """A folder with those files of a repository that are named; it may lack some.

    Args:
        place: the repository, such as "hf-hub:me/flowers" or "me/flowers@v1.0".
        names: of the files, or patterns such as "*.parquet".
        kind: of the repository.

    Raises:
        InputError: it is not there, or neither the Hub nor a copy in the cache can be reached.
    """
    repository, _, revision = place.removeprefix(PREFIX).partition("@")
    hub = _module()
    with _explained(repository):
        folder = hub.snapshot_download(
            repository, repo_type=kind, revision=revision or None, allow_patterns=list(names)
        )
    return Path(folder)


def upload(folder: Path, repository: str, private: bool, message: str) -> str:
    """Upload a folder's files as one commit; returns the repository's address.

    Args:
        folder: of files alone.
        repository: such as "me/flowers"; it is made if it is not there.
        private: whether a new one is.
        message: of the commit.

    Raises:
        InputError: the Hub can't be reached, or does not let the user write.
    """
    repository = repository.removeprefix(PREFIX)
    api = _module().HfApi(library_name="lookalike")
    with _explained(repository):
        address = api.create_repo(repository, private=private, exist_ok=True)
        api.upload_folder(repo_id=repository, folder_path=folder, commit_message=message)
    return str(address)


def _module() -> ModuleType:
    try:
        return import_module("huggingface_hub")  # 0.8 s that nothing else needs
    except ImportError:
        raise InputError('the Hub needs its client: pip install "lookalike[hub]"') from None


@contextmanager
def _explained(repository: str) -> Iterator[None]:
    """Turns the errors of the client into an `InputError` of one line."""
    errors = import_module("huggingface_hub.errors")
    try:
        yield
    except (OSError, ValueError, errors.HTTPError, errors.EntryNotFoundError) as error:
        if getattr(error, "errno", None) is not None:  # of the disk
            raise
        raise InputError(_advice(error, errors, repository)) from error


def _advice(error: Exception, errors: ModuleType, repository: str) -> str:
    status = getattr(getattr(error, "response", None), "status_code", None)
    match error:
        case errors.HFValidationError():
            return (
                f"{repository!r} is neither a folder nor the name of a repository on the Hub. Give "
                "an existing folder, or a name such as hf-hub:user/network."
            )
        case errors.GatedRepoError():
            return f"{repository} asks for its terms to be accepted: do so on the Hub, and log in."
        case errors.RevisionNotFoundError():
            return f"{repository} has no such revision on the Hub: give a branch, tag or commit."
        case errors.RepositoryNotFoundError():
            return (
                f"the Hub has no {repository}, or it is private. Check its name; for a private one "
                "log in with `hf auth login`, or set HF_TOKEN."
            )
    if status in (401, 403):
        return (
            f"the Hub does not let you change {repository}: log in with `hf auth login` or set "
            "HF_TOKEN, with the right to write."
        )
    said = (str(error).splitlines() or [type(error).__name__])[0]
    return (
        f"can't get to {repository} on the Hub ({said}). Check the network and HF_ENDPOINT, or "
        "fetch the repository on another machine and give its folder."
    )
