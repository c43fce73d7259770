"""Checkpoints: each has its configuration as plain data and alone rebuilds what was trained."""

from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from zipfile import ZipFile

import torch
from torch import Tensor, nn

from lookalike.config import build
from lookalike.data.images import Transform
from lookalike.errors import InputError
from lookalike.files import writing
from lookalike.hub import fetched, is_on_hub
from lookalike.inference.shared import FILES, check_complete, read_folder
from lookalike.inference.trust import check_trusted
from lookalike.models.embedder import Embedder
from lookalike.models.lora import merged_state
from lookalike.provenance import weights_fingerprint

FORMAT = 2  # raised whenever older files can't be read any more; 2: modules moved
KEY = "lookalike"  # under which a Lightning checkpoint holds what is ours
OTHER = "Use another checkpoint of the run (best.ckpt, last.ckpt), or train again."
# what every checkpoint has of ours, and of which kind
PARTS = {"format": int, "config": dict, "scores": dict, "epochs": int, "class_names": list | tuple}
CHECKSUM = "checksum"  # of the weights, in what is ours


@dataclass(frozen=True)
class Checkpoint:
    """A trained network with all that is needed to use it.

    file: that it was read from.
    config: the resolved configuration of its run, as plain dicts and lists.
    state: the parameters and buffers of the learner, by name.
    scores: of the validation when it was saved, by name.
    epochs: trained until then, whole ones.
    class_names: of the training classes, in the order of their labels.
    trust: packages whose parts its configuration may name, beside those that lookalike knows.
    batches: trained of the epoch that was running.
    resumable: whether it has the optimiser's states, from which a training goes on.
    """

    file: Path
    config: dict[str, Any]
    state: dict[str, Tensor]
    scores: dict[str, float]
    epochs: int
    class_names: tuple[str, ...] = ()
    trust: tuple[str, ...] = ()
    batches: int = 0
    resumable: bool = False

    def part(self, name: str) -> dict[str, Tensor]:
        """The state dict of a part of the learner alone: "embedder" or "loss".

        Low-rank additions are part of the weights.
        """
        prefix, state = f"{name}.", self.state
        return merged_state(
            {key.removeprefix(prefix): state[key] for key in state if key.startswith(prefix)}
        )

    def fingerprint(self) -> str:
        """Of the embedder's weights, and of its length if it is cut; embeddings carry it."""
        cut = {} if self.length is None else {"length": torch.tensor(self.length)}
        return weights_fingerprint(self.part("embedder") | cut)

    @property
    def length(self) -> int | None:
        """To how many numbers its embeddings are cut; null where they are whole."""
        return self._said("embedder").get("length")

    def shortened(self, length: int | None) -> "Checkpoint":
        """The same network with only the first numbers of its embeddings; null for all."""
        return replace(self, config=_with_length(self.config, self._said("embedder"), length))

    def embedder(self) -> Embedder:
        """The trained embedder on the CPU, to measure and search with.

        Raises:
            InputError: its configuration names a part that is neither known nor trusted.
        """
        config = deepcopy(self._trusted("embedder"))
        backbone = config.get("backbone")
        if isinstance(backbone, dict) and "weights" in backbone:
            backbone["weights"] = None  # the checkpoint has its own
        config.pop("lora", None)  # it is in the weights
        return self._filled(config, "embedder").for_measuring()

    def loss(self) -> nn.Module:
        """The loss with its trained parameters, in evaluation mode, on the CPU.

        Raises:
            InputError: its configuration names a part that is neither known nor trusted.
        """
        return self._filled(self._trusted("loss"), "loss").eval()

    def transform(self) -> Transform:
        """The view in which its images are measured.

        Raises:
            InputError: its configuration names a part that is neither known nor trusted.
        """
        view = self._said("data", "transform", "test")
        check_trusted(view, self.trust)
        return build(view)

    def data(self) -> dict[str, Any]:
        """What its configuration says of the data; the sampler and the miner are left out.

        Raises:
            InputError: it names a part that is neither known nor trusted.
        """
        only_training = ("_target_", "sampler", "miner")
        data = {k: v for k, v in self._said("data").items() if k not in only_training}
        check_trusted(data, self.trust)
        return data

    def _trusted(self, name: str) -> dict[str, Any]:
        said = self._said(name)
        check_trusted(said, self.trust)
        return said

    def _said(self, *names: str) -> dict[str, Any]:
        """What its configuration says of a part, which it must."""
        node: Any = self.config
        for name in names:
            node = node.get(name) if isinstance(node, dict) else None
        if not isinstance(node, dict):
            raise InputError(f"{self.file} lacks {'.'.join(names)} in its configuration. {OTHER}")
        return node

    def _filled(self, config: dict[str, Any], name: str) -> Any:
        """A part, built and with its parameters."""
        part = build(config)
        try:
            part.load_state_dict(self.part(name))
        except (RuntimeError, AttributeError, TypeError) as error:
            said = " ".join(str(error).split())[:300]
            raise InputError(f"{self.file} does not fit its own {name}: {said} {OTHER}") from error
        return part


def read_checkpoint(file: str | Path, trust: Sequence[str] = ()) -> Checkpoint:
    """Read with `weights_only=True`: reading runs no code of the file, and nor does using it.

    Args:
        file: that `lookalike train` saved; or a shared network: its folder, or its name on the Hub
            such as "hf-hub:user/network".
        trust: packages of your own whose parts it may name, see `inference.trust`.

    Raises:
        InputError: there is no such file, it is no checkpoint of lookalike's, or it was saved in
            another format.
    """
    file = fetched(str(file), FILES) if is_on_hub(file) else Path(file)
    if file.is_dir():
        content = _checked(file, read_folder(file))
        ours = check_complete(file, content[KEY])
    else:
        content = read_content(file)
        ours = content[KEY]
    return Checkpoint(
        file,
        ours["config"],
        content["state_dict"],
        ours["scores"],
        ours["epochs"],
        tuple(ours["class_names"]),
        tuple(trust),
        ours.get("batches", 0),
        "optimizer_states" in content,
    )


def read_content(file: Path) -> dict[str, Any]:
    """All that a checkpoint holds, on the CPU, compared with its checksums.

    The file has a checksum of each of its parts (CRC-32, by torch), and one of the weights.

    Raises:
        InputError: as `read_checkpoint`.
    """
    if not file.is_file():
        raise InputError(f"no checkpoint at {file.resolve()}")
    try:
        with ZipFile(file) as parts:
            damaged = parts.testzip()
        content = None if damaged else torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises a dozen kinds, depending on what the bytes look like
        raise InputError(f"{file} can't be read as a checkpoint: {error}") from error
    if damaged:
        raise InputError(_differs(file, damaged))
    if not isinstance(content, dict) or KEY not in content:
        raise InputError(
            f"{file} was not saved by lookalike. Give checkpoint=RUN/checkpoints/best.ckpt; to "
            "start from weights of another program, use `lookalike train backbone.weights=...`."
        )
    return _checked(file, content)


def _checked(file: Path, content: dict[str, Any]) -> dict[str, Any]:
    """The same content, if its format can be read and its weights have their checksum."""
    _check_parts(file, content)
    _check_format(file, content[KEY]["format"])
    checksum = content[KEY].get(CHECKSUM)  # the first files of format 2 have none
    if checksum not in (None, weights_fingerprint(content["state_dict"])):
        raise InputError(_differs(file, "the weights"))
    return content


def write_content(file: Path, content: Mapping[str, Any]) -> None:
    """Write a checkpoint with the checksum of its weights, whole or not at all.

    Args:
        file: replaced if it exists.
        content: of a Lightning checkpoint, with what is ours under KEY.

    Raises:
        InputError: the disk is full, or may not be written to.
    """
    ours = content[KEY] | {CHECKSUM: weights_fingerprint(content["state_dict"])}
    with writing(file, "wb") as stream:
        torch.save({**content, KEY: ours}, stream)


def weights_alone(file: Path) -> dict[str, Any]:
    """A checkpoint's content without what only resuming needs: `read_checkpoint` reads it too."""
    content = read_content(file)
    needed = (KEY, "state_dict", "pytorch-lightning_version")
    return {name: content[name] for name in needed if name in content}  # the last: of Lightning's


def shortened(content: Mapping[str, Any], length: int) -> dict[str, Any]:
    """A checkpoint's content, with only the first numbers of its embeddings."""
    ours = content[KEY]
    config = _with_length(ours["config"], ours["config"].get("embedder", {}), length)
    return {**content, KEY: {**ours, "config": config}}


def _with_length(
    config: dict[str, Any], embedder: dict[str, Any], length: int | None
) -> dict[str, Any]:
    return {**config, "embedder": {**embedder, "length": length}}


def _differs(file: Path, part: str) -> str:
    return (
        f"{file} is damaged: {part} differs from its checksum. Use another checkpoint of the run "
        "(best.ckpt, last.ckpt) or a copy of this one, or train again."
    )


def _check_parts(file: Path, content: dict[str, Any]) -> None:
    """Every part that is read without a question is there, and of its kind."""
    ours, state = content[KEY], content.get("state_dict")
    wrong = [] if isinstance(ours, dict) else [KEY]
    wrong += [f"{KEY}.{n}" for n, kind in PARTS.items() if not wrong and not _is(ours, n, kind)]
    if not isinstance(state, dict) or not all(isinstance(each, Tensor) for each in state.values()):
        wrong.append("state_dict")
    if wrong:
        raise InputError(f"{file} lacks {', '.join(wrong)}, or has something else there. {OTHER}")


def _is(ours: dict[str, Any], name: str, kind: Any) -> bool:
    return isinstance(ours.get(name), kind)


def _check_format(file: Path, found: int) -> None:
    if found > FORMAT:
        raise InputError(f"{file} comes from a newer lookalike (format {found}): upgrade lookalike")
    if found < FORMAT:
        raise InputError(
            f"{file} was saved by an older lookalike (format {found}, now {FORMAT}), whose "
            "configuration names modules that have moved. Train it again, or use the version of "
            "lookalike that saved it."
        )
