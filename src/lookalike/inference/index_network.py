"""The network that an index keeps beside its vectors: a checkpoint, or an exported file."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from lookalike.errors import InputError
from lookalike.files import writing
from lookalike.inference.checkpoint import FORMAT, KEY, Checkpoint, read_checkpoint, write_content
from lookalike.inference.network import Network, is_exported, network_in
from lookalike.models.exported import ExportedNetwork, read_exported

CHECKPOINT, EXPORTED = "network.ckpt", "network.onnx"  # in the folder, one of the two

Content = Mapping[str, Any] | bytes  # of a checkpoint, or of an exported file


def content_of(given: str | Path | Mapping[str, Any], trust: Sequence[str] = ()) -> Content:
    """What `keep_network` writes.

    Args:
        given: a checkpoint, a shared network, an .onnx file of `lookalike export`, or the content
            of a checkpoint.
        trust: packages of your own whose parts it may name.

    Raises:
        InputError: it can't be read.
    """
    if isinstance(given, Mapping):
        return given
    if is_exported(given):
        read_exported(given)
        return Path(given).read_bytes()
    found = read_checkpoint(given, trust)
    ours = {
        "format": FORMAT,
        "config": found.config,
        "scores": found.scores,
        "epochs": found.epochs,
        "class_names": list(found.class_names),
    }
    return {KEY: ours, "state_dict": found.state}


def keep_network(folder: Path, content: Content, trust: Sequence[str] = ()) -> tuple[str, Network]:
    """Write a network into the folder of an index; returns the name of the file, and the network.

    Args:
        folder: of an index that is being made; what an earlier start wrote there must be the same.
        content: of the network.
        trust: packages of your own whose parts it may name.

    Raises:
        InputError: the folder was begun with another network.
    """
    name = EXPORTED if isinstance(content, bytes) else CHECKPOINT
    begun = next((each for each in (CHECKPOINT, EXPORTED) if (folder / each).is_file()), None)
    if begun is None:
        _write(folder / name, content)
    found = network_in(folder / (begun or name), trust)
    if begun not in (None, name) or found.fingerprint != _fingerprint(content):
        raise InputError(
            f"{folder} was begun with another network ({found.name}), and is not built yet. Give "
            "that network, or remove the folder."
        )
    return name, found


def kept_network(folder: Path, name: str, fingerprint: str, trust: Sequence[str] = ()) -> Network:
    """The network that `keep_network` wrote.

    Args:
        folder: of the index.
        name: of the file.
        fingerprint: of the network that made the vectors.
        trust: packages of your own whose parts it may name.

    Raises:
        InputError: it can't be read, or is another one.
    """
    found = network_in(folder / name, trust)
    if found.fingerprint != fingerprint:
        raise InputError(
            f"{folder / name} is not the network that made the vectors of this index. Copy the "
            "whole folder again, or build the index again."
        )
    return found


def _write(file: Path, content: Content) -> None:
    if not isinstance(content, bytes):
        return write_content(file, content)
    with writing(file, "wb") as stream:
        stream.write(content)


def _fingerprint(content: Content) -> str:
    if isinstance(content, bytes):
        return ExportedNetwork(content, EXPORTED).notes["fingerprint"]
    return Checkpoint(Path(), content[KEY]["config"], content["state_dict"], {}, 0).fingerprint()
