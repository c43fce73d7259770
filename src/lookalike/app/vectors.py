"""Examples -> vectors: stored ones where there are, otherwise decoded and embedded together."""

import os
from collections.abc import Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from lookalike.app.examples import Example, Item, Sent, cropped
from lookalike.app.problems import RequestError
from lookalike.app.recent import Recent
from lookalike.app.served import Served
from lookalike.app.stopwatch import Stopwatch
from lookalike.data.decoding import as_image, as_tensor, decode
from lookalike.errors import InputError
from lookalike.inference.index import Index

ROOMY = 4  # times the pixels that a network needs: larger images are reduced at once
REMEMBERED = 4096  # vectors of images that were sent; the images themselves are not kept

Vector = NDArray[np.float32]
Outcome = Vector | RequestError | InputError


class ExampleVectors:
    """The vectors of examples, for one index; in one thread.

    Args:
        others: all indexes that are served, whose items may be examples.
    """

    def __init__(self, others: Mapping[str, Served]) -> None:
        self.others = others
        self._sent: Recent[tuple[str, Sent], Vector] = Recent(REMEMBERED)
        self._decoders = ThreadPoolExecutor(os.cpu_count(), "decoding")

    def __call__(
        self,
        index: Index,
        own_name: str,
        examples: Collection[Example],
        files: Mapping[str, bytes],
        watch: Stopwatch,
    ) -> dict[Example, Outcome]:
        """Of each example its vector (D,), or why there is none.

        Args:
            index: whose network embeds.
            own_name: its name in examples.
            examples: without repeats.
            files: images that were sent, by their digests.
            watch: gets the seconds of decoding and embedding.
        """
        model = index.info()["fingerprint"]
        stored: dict[Example, Outcome] = {}
        for example in examples:
            if isinstance(example, Sent) and (model, example) in self._sent:
                stored[example] = self._sent[model, example]
            elif isinstance(example, Item) and example.index == own_name and not example.box:
                stored[example] = _vector(index, example.id)
        others = [example for example in examples if example not in stored]
        made = self._made(index, others, files, watch)
        for example, vector in made.items():
            if isinstance(example, Sent) and isinstance(vector, np.ndarray):
                self._sent[model, example] = vector
        return stored | made

    def pixels(
        self, example: Example, files: Mapping[str, bytes], short_side: int | None = None
    ) -> Tensor | RequestError | InputError:
        """The image of an example, uint8 (3, h, w), or why there is none.

        Args:
            example: of an index, or of `files`.
            files: images that were sent, by their digests.
            short_side: pixels that are needed of a whole image; None for all.
        """
        try:
            if isinstance(example, Item):
                image = served(self.others, example.index).current().image(example.id)
                return reduced(cropped(as_tensor(image), example.box), short_side)
            if example.digest not in files:
                return RequestError(410, f"{example} is not known any more: send the image again")
            needed = None if example.box else short_side
            pixels = cropped(decode(files[example.digest], needed), example.box)
            return reduced(pixels, short_side)
        except (RequestError, InputError) as error:
            return error

    def _made(
        self,
        index: Index,
        examples: Sequence[Example],
        files: Mapping[str, bytes],
        watch: Stopwatch,
    ) -> dict[Example, Outcome]:
        if not examples:
            return {}
        needed = index.embedder.transform.short_side
        with watch("decoding"):
            images = list(
                self._decoders.map(lambda each: self.pixels(each, files, needed), examples)
            )
        readable = [image for image in images if isinstance(image, Tensor)]
        with watch("embedding"):
            vectors = iter(index.embed(readable) if readable else ())
        outcomes = [next(vectors) if isinstance(each, Tensor) else each for each in images]
        return dict(zip(examples, outcomes, strict=True))


def reduced(pixels: Tensor, short_side: int | None) -> Tensor:
    """A very large image (3, h, w) by a whole factor smaller, so that a batch of them has room.

    Args:
        pixels: uint8.
        short_side: pixels that are needed; four times as many are left.
    """
    factor = min(pixels.shape[1:]) // (ROOMY * short_side) if short_side else 1
    return as_tensor(as_image(pixels).reduce(factor)) if factor > 1 else pixels


def served(indexes: Mapping[str, Served], name: str) -> Served:
    """The index of this name.

    Raises:
        RequestError: there is none.
    """
    if name not in indexes:
        raise RequestError(404, f"no index {name!r} is served here; there are {', '.join(indexes)}")
    return indexes[name]


def _vector(index: Index, id: int) -> Vector | InputError:
    try:
        return index.vector(id)
    except InputError as error:
        return error
