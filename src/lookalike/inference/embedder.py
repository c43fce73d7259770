"""A trained embedder with its preprocessing: images -> vectors."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from lookalike.data.decoding import as_tensor, decode, to_rgb
from lookalike.data.images import Transform
from lookalike.device import find_device
from lookalike.errors import InputError
from lookalike.hub import PREFIX, is_on_hub
from lookalike.inference.checkpoint import Checkpoint
from lookalike.inference.network import network_in
from lookalike.inference.share import share_as_folder, share_on_hub
from lookalike.models.embedder import Embedder
from lookalike.models.embedding_engine import EmbeddingEngine, Engine
from lookalike.models.exported import ExportedNetwork
from lookalike.models.racing import Racing
from lookalike.models.runtimes import Precision

AUTO = EmbeddingEngine()
AnyImage = str | Path | bytes | Image.Image | np.ndarray | Tensor


class ImageEmbedder:
    """Turns images into vectors.

    Args:
        embedder: in evaluation mode.
        transform: its test transform, a list of uint8 (3, h, w) -> uint8 (B, 3, H, W).
        engine: what runs the embedder.
        method: of the embedder; "unnormalised" gives vectors before they get length 1.
        checkpoint: that it comes from; needed to save or upload it.
    """

    def __init__(
        self,
        embedder: Embedder | ExportedNetwork,
        transform: Transform,
        engine: EmbeddingEngine = AUTO,
        method: str = "forward",
        checkpoint: Checkpoint | None = None,
    ) -> None:
        self.checkpoint = checkpoint
        self.embedder = embedder
        self.device = next(embedder.parameters(), torch.empty(0)).device  # exported: none
        self.transform = transform
        self.compute = engine.faster(embedder, method)

    @staticmethod
    def from_pretrained(
        name: str | Path,
        revision: str | None = None,
        device: str = "cpu",
        trust: Sequence[str] = (),
        engine: Engine = "auto",
        precision: Precision = "float32",
    ) -> "ImageEmbedder":
        """A shared network with its preprocessing.

            embed = lookalike.ImageEmbedder.from_pretrained("user/network")

        Args:
            name: a folder of `save_pretrained` or `lookalike share`, or a name on the Hub.
            revision: a branch, tag or commit on the Hub; null for the newest.
            device: "cpu", "cuda", "cuda:1" ..., or "auto" for a GPU where there is one.
            trust: packages of your own whose parts it may name.
            engine: what runs the network, and
            precision: in which it computes, see `EmbeddingEngine`.

        Raises:
            InputError: there is no such network, it is damaged or comes from a newer lookalike,
                or it names a part that is neither known nor trusted.
        """
        place = str(name)
        if not Path(name).exists() and not is_on_hub(place):
            place = f"{PREFIX}{place}"
        if revision and is_on_hub(place):
            place = f"{place}@{revision}"
        return load_embedder(place, device, trust, engine, precision)

    def save_pretrained(self, folder: str | Path, licence: str | None = None) -> Path:
        """Write a folder, whose `from_pretrained` gives the same embeddings to the last bit.

        See `share_as_folder`.

        Raises:
            InputError: it was not loaded from a checkpoint, or the folder holds a network already.
        """
        return share_as_folder(self._origin(), folder, licence)

    def push_to_hub(self, repository: str, licence: str | None = None, private: bool = True) -> str:
        """Upload it to the Hub as one commit; returns the address. See `share_on_hub`.

        Raises:
            InputError: it was not loaded from a checkpoint, or the Hub refuses.
        """
        return share_on_hub(self._origin(), repository, licence, private=private)

    def _origin(self) -> Checkpoint:
        if self.checkpoint is None:
            raise InputError(
                "this embedder was put together in Python, so no configuration can rebuild it. "
                "Share one of load_embedder(RUN/checkpoints/best.ckpt) or from_pretrained."
            )
        return self.checkpoint

    @torch.inference_mode()
    def __call__(
        self, images: AnyImage | Sequence[AnyImage], batch_size: int = 64
    ) -> NDArray[np.float32]:
        """Images -> (N, D) float32, of length 1; a single image -> (D,).

        Args:
            images: each a path, the bytes of a file, a PIL image, an array (h, w, 3) uint8 or a
                tensor (3, h, w) uint8.
            batch_size: images at once.

        Raises:
            InputError: an image can't be read, or is of another kind.
        """
        if isinstance(images, AnyImage):
            return self([images])[0]
        starts = range(0, len(images), batch_size)
        if isinstance(self.compute, Racing):
            self.compute.expect(len(starts))
        batches = [
            self.compute(self._batch(images[start : start + batch_size]).to(self.device)).cpu()
            for start in starts
        ]
        empty = torch.zeros(0, self.embedder.embedding_size)
        return torch.cat([empty, *batches]).numpy()

    def _batch(self, images: Sequence[AnyImage]) -> Tensor:
        return self.transform([self._pixels(image) for image in images])

    def _pixels(self, image: AnyImage) -> Tensor:
        """uint8 (3, h, w)."""
        match image:
            case str() | Path() | bytes():
                return decode(image, self.transform.short_side)
            case Image.Image():
                return as_tensor(to_rgb(image))
            case np.ndarray() if image.dtype == np.uint8 and image.shape[2:] == (3,):
                return torch.from_numpy(image.copy()).permute(2, 0, 1)
            case Tensor() if (
                image.dtype == torch.uint8 and image.shape[:1] == (3,) and image.ndim == 3
            ):
                return image
        shape = f" {tuple(image.shape)} {image.dtype}" if hasattr(image, "shape") else ""
        raise InputError(
            f"can't embed {type(image).__name__}{shape}: give a path, the bytes of a file, a PIL "
            "image, an array (h, w, 3) uint8 or a tensor (3, h, w) uint8, or a list of these."
        )


def load_embedder(
    file: str | Path,
    device: str = "cpu",
    trust: Sequence[str] = (),
    engine: Engine = "auto",
    precision: Precision = "float32",
) -> ImageEmbedder:
    """From a checkpoint or an exported network alone: an object that turns images into vectors.

        embed = lookalike.load_embedder("outputs/train/<run>/checkpoints/best.ckpt")
        vectors = embed(["rose.jpg", Image.open("tulip.png")])  # (2, 128)

    Args:
        file: a checkpoint that `lookalike train` saved, a shared network (see `read_checkpoint`),
            or an .onnx file of `lookalike export`.
        device: "cpu", "cuda", "cuda:1" ..., or "auto" for a GPU where there is one; an exported
            network stays on the CPU.
        trust: packages of your own whose parts the file may name.
        engine: what runs the network, and
        precision: in which it computes, see `EmbeddingEngine`.

    Raises:
        InputError: the file is neither of them, names a part that is neither known
            nor trusted, or there is no such device or engine.
    """
    where = find_device(device)
    network = network_in(file, trust)
    chosen = EmbeddingEngine(engine, precision)
    embedder = network.embedder.to(where)
    return ImageEmbedder(embedder, network.view, chosen, checkpoint=network.checkpoint)
