"""Checkpoints: each carries its configuration as plain data and alone rebuilds the embedder."""

from collections.abc import Sequence
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from pytorch_lightning import Callback, LightningModule, Trainer
from torch import Tensor, nn
from torchvision.transforms.v2.functional import pil_to_tensor

from lookalike.config import build
from lookalike.data.decoding import decode, to_rgb
from lookalike.errors import InputError
from lookalike.evaluation.callback import RetrievalEvaluation
from lookalike.losses.classifier import logits_of
from lookalike.models.classifier import Classifier, EmbeddingLogits
from lookalike.models.embedder import Embedder

FORMAT = 1  # raised when older code could not read what is written
KEY = "lookalike"  # under which a Lightning checkpoint holds what is ours


@dataclass(frozen=True)
class Checkpoint:
    """config: as plain dicts and lists; state: of the learner, by name; scores: of the validation
    when it was saved; epochs: trained until then; class_names: of the training classes, in the
    order of their labels."""

    config: dict[str, Any]
    state: dict[str, Tensor]
    scores: dict[str, float]
    epochs: int
    class_names: tuple[str, ...] = ()

    def part(self, name: str) -> dict[str, Tensor]:
        """The state dict of a part of the learner alone: "embedder" or "loss"."""
        prefix = f"{name}."
        return {k.removeprefix(prefix): v for k, v in self.state.items() if k.startswith(prefix)}


class CarryConfig(Callback):
    """Puts the resolved configuration, the scores and the names of the training classes into
    every checkpoint that is saved."""

    def __init__(
        self,
        config: dict[str, Any],
        evaluation: RetrievalEvaluation,
        class_names: Sequence[str],
    ) -> None:
        self.config = config
        self.evaluation = evaluation
        self.class_names = class_names

    def on_save_checkpoint(
        self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        checkpoint[KEY] = {
            "format": FORMAT,
            "config": self.config,
            "scores": dict(self.evaluation.scores),
            "epochs": trainer.current_epoch + 1,
            "class_names": list(self.class_names),
        }


def read_checkpoint(file: str | Path) -> Checkpoint:
    """Read with `weights_only=True`: a checkpoint can't run code.

    Raises:
        InputError: there is no such file, or it is no checkpoint of lookalike's.
    """
    file = Path(file)
    if not file.is_file():
        raise InputError(f"no checkpoint at {file.resolve()}")
    try:
        content = torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises a dozen kinds, depending on what the bytes look like
        raise InputError(f"{file} can't be read as a checkpoint: {error}") from error
    if not isinstance(content, dict) or KEY not in content:
        raise InputError(
            f"{file} was not saved by lookalike. Give checkpoint=RUN/checkpoints/best.ckpt; to "
            "start from weights of another program, use `lookalike train backbone.weights=...`."
        )
    ours = content[KEY]
    if ours["format"] > FORMAT:
        raise InputError(f"{file} comes from a newer lookalike (format {ours['format']}): upgrade")
    return Checkpoint(
        ours["config"],
        content["state_dict"],
        ours["scores"],
        ours["epochs"],
        tuple(ours.get("class_names", ())),  # the first versions had none
    )


def rebuild_embedder(checkpoint: Checkpoint) -> Embedder:
    """The trained embedder on the CPU, to measure and search with."""
    config = deepcopy(checkpoint.config["embedder"])
    if "weights" in config["backbone"]:
        config["backbone"]["weights"] = None  # the checkpoint has its own
    embedder = build(config)
    embedder.load_state_dict(checkpoint.part("embedder"))
    return embedder.for_measuring()


def rebuild_loss(checkpoint: Checkpoint) -> nn.Module:
    """The loss with its trained parameters, in evaluation mode, on the CPU."""
    loss = build(checkpoint.config["loss"])
    loss.load_state_dict(checkpoint.part("loss"))
    return loss.eval()


def rebuild_classifier(file: str | Path) -> Classifier:
    """The classifier of the training classes that a checkpoint holds, under its run's name.

    Raises:
        InputError: the file is no checkpoint of lookalike's, or its loss has no classifier.
    """
    checkpoint = read_checkpoint(file)
    loss = rebuild_loss(checkpoint)
    logits = logits_of(loss)
    if logits is None:
        kind = checkpoint.config["loss"]["_target_"].rpartition(".")[2]
        raise InputError(
            f"{file} was trained with {kind}, which has no classifier, so it can't name classes; "
            "lookalike search can use it with within=all. Train with loss=softmax, "
            "softmax_triplet, norm_softmax, arcface or cosface."
        )
    if not checkpoint.class_names:
        raise InputError(f"{file} was saved by an older lookalike, without class names: train anew")
    return Classifier(
        name=checkpoint.config["name"],
        network=EmbeddingLogits(rebuild_embedder(checkpoint), loss, logits).eval(),
        class_names=checkpoint.class_names,
        transform=build(checkpoint.config["data"]["transform"]["test"]),
    )


class ImageEmbedder:
    """A trained embedder with its preprocessing: images -> vectors.

    Args:
        embedder: in evaluation mode.
        transform: its test transform, a list of uint8 (3, h, w) -> uint8 (B, 3, H, W).
    """

    def __init__(self, embedder: Embedder, transform: Any) -> None:
        self.embedder = embedder
        self.transform = transform

    @torch.inference_mode()
    def __call__(
        self, images: Sequence[str | Path | Image.Image], batch_size: int = 64
    ) -> NDArray[np.float32]:
        """Files or PIL images -> (N, D) float32, of length 1.

        Raises:
            InputError: a file can't be read.
        """
        device = next(self.embedder.parameters()).device
        batches = [
            self.embedder(self._batch(images[start : start + batch_size]).to(device)).cpu()
            for start in range(0, len(images), batch_size)
        ]
        empty = torch.zeros(0, self.embedder.embedding_size)
        return torch.cat([empty, *batches]).numpy()

    def _batch(self, images: Sequence[str | Path | Image.Image]) -> Tensor:
        return self.transform([self._opened(image) for image in images])

    def _opened(self, image: str | Path | Image.Image) -> Tensor:
        if isinstance(image, Image.Image):
            return pil_to_tensor(to_rgb(image))
        return decode(image, self.transform.short_side)


def load_embedder(file: str | Path, device: str = "cpu") -> ImageEmbedder:
    """From a checkpoint alone: an object that turns images into vectors.

    >>> embed = lookalike.load_embedder("outputs/train/.../checkpoints/best.ckpt")
    >>> embed(["rose.jpg", Image.open("tulip.png")]).shape
    (2, 128)

    Raises:
        InputError: the file is no checkpoint of lookalike's.
    """
    checkpoint = read_checkpoint(file)
    transform = build(checkpoint.config["data"]["transform"]["test"])
    return ImageEmbedder(rebuild_embedder(checkpoint).to(device), transform)
