"""An exported embedder, which ONNX Runtime runs where otherwise an Embedder would."""

import json
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from lookalike.errors import InputError
from lookalike.models.exporting import UNNORMALISED, VECTORS
from lookalike.models.runtimes import in_onnxruntime, onnxruntime_session

FORMAT = 1  # raised whenever older files can't be read any more
KEY = "lookalike"  # of the notes in a file's metadata
NEEDED = ("format", "name", "fingerprint", "precision", "view")


class ExportedNetwork(nn.Module):
    """Images -> vectors, on the CPU; it stands where an `Embedder` stands in evaluation mode.

    Args:
        content: of an .onnx file that `lookalike export` wrote.
        file: to be named in messages.

    Raises:
        InputError: onnxruntime is not installed or can't read it, or lookalike did not write it.
    """

    def __init__(self, content: bytes, file: str | Path) -> None:
        super().__init__()
        session = _opened(content, file)
        self.notes = _notes(session.get_modelmeta().custom_metadata_map, file)
        self.image_shape: tuple[int, ...] = tuple(session.get_inputs()[0].shape[1:])
        self.embedding_size = int(session.get_outputs()[0].shape[1])
        threads = torch.get_num_threads()
        self.normalised_run = in_onnxruntime(session, VECTORS, threads)
        self.unnormalised_run = in_onnxruntime(session, UNNORMALISED, threads)

    def forward(self, images: Tensor) -> Tensor:
        """Images (B, ...) uint8 -> embeddings (B, D) float32 of length 1."""
        return self.normalised_run(self._checked(images))

    def unnormalised(self, images: Tensor) -> Tensor:
        """Images (B, ...) uint8 -> embeddings (B, D) float32, before normalisation."""
        return self.unnormalised_run(self._checked(images))

    def _checked(self, images: Tensor) -> Tensor:
        if images.shape[1:] != self.image_shape:
            raise InputError(
                f"the exported network takes images {self.image_shape}, not "
                f"{tuple(images.shape[1:])}. Export it with the view that you want."
            )
        return images.cpu()


def read_exported(file: str | Path) -> ExportedNetwork:
    """The network in an .onnx file.

    Raises:
        InputError: there is no such file, or it can't be used, see `ExportedNetwork`.
    """
    path = Path(file)
    if not path.is_file():
        raise InputError(f"no exported network at {path.resolve()}. Write one: lookalike export")
    return ExportedNetwork(path.read_bytes(), path)


def _opened(content: bytes, file: str | Path) -> Any:
    if find_spec("onnxruntime") is None:
        raise InputError(f'{file} needs onnxruntime: pip install "lookalike[onnxruntime]"')
    try:
        return onnxruntime_session(content)
    except Exception as error:  # of ONNX Runtime's own kinds, which have no common class
        reason = str(error).strip().partition("\n")[0][:200]
        raise InputError(f"{file} can't be read as an ONNX network: {reason}") from error


def _notes(metadata: dict[str, str], file: str | Path) -> dict[str, Any]:
    """What lookalike wrote beside the network: its name, preprocessing and fingerprint."""
    try:
        notes = json.loads(metadata.get(KEY, "null"))
        missing = [name for name in NEEDED if name not in notes]
    except (TypeError, ValueError):
        missing, notes = list(NEEDED), {}
    if missing:
        raise InputError(
            f"{file} does not say how images are prepared for it: `lookalike export` did not write "
            "it. Export the checkpoint itself: lookalike export checkpoint=..."
        )
    if notes["format"] != FORMAT:
        raise InputError(
            f"{file} has format {notes['format']}, and this lookalike reads {FORMAT}: "
            "export the checkpoint again, or upgrade lookalike."
        )
    return notes
