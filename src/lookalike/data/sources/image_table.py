"""A Parquet file with images inside, as Hugging Face data sets have them."""

import json
from collections.abc import Iterator, Sequence
from io import BytesIO
from pathlib import Path
from typing import Any

from PIL import Image

from lookalike.data.formats import endings, formats
from lookalike.data.records import class_text
from lookalike.errors import InputError, did_you_mean

BATCH = 64  # rows in memory at once
FEATURES = b"huggingface"  # the key of what a data set says of its columns
BYTES = "bytes"  # of an image, which is a struct of bytes and path


class ImageTable:
    """The images and labels of one Parquet file.

    Args:
        file: to be read.
        image: name of the column of images; null for the only one.
        label: name of the column of labels; null for the only class label, or the column "label".

    Raises:
        InputError: the file can't be read, has no such column, or it can't be said which it is.
    """

    def __init__(self, file: Path, image: str | None, label: str | None) -> None:
        from pyarrow import ArrowException, parquet

        try:
            self.opened = parquet.ParquetFile(file)
        except (OSError, ArrowException) as error:
            raise InputError(f"can't read {file}: {error}. Fetch it again.") from error
        self.file = file
        schema = self.opened.schema_arrow
        features = _features(schema.metadata or {})
        images = [field.name for field in schema if _holds_images(field.type)]
        kinds = {name: feature.get("_type") for name, feature in features.items()}
        labels = [name for name in schema.names if kinds.get(name) == "ClassLabel"]
        labels = labels or [name for name in schema.names if name == "label"]
        self.image = _column("image", image, images, images, file)
        self.label = _column("label", label, labels, schema.names, file)
        self.names: Sequence[str] = features.get(self.label, {}).get("names") or ()

    def rows(self) -> Iterator[tuple[bytes, str | None]]:
        """The bytes of every image and the name of its class, null where it has none.

        Raises:
            InputError: an image is not inside of the file.
        """
        for batch in self.opened.iter_batches(BATCH, columns=[self.image, self.label]):
            pairs = zip(
                *(batch[name].to_pylist() for name in (self.image, self.label)), strict=True
            )
            for image, label in pairs:
                content = image.get(BYTES) if isinstance(image, dict) else image
                if not content:
                    raise InputError(
                        f"{self.file} has a row whose image is not inside of it, but elsewhere. "
                        "Fetch the images, and use data=folder or data=table."
                    )
                yield content, self._name(label)

    def _name(self, label: Any) -> str | None:
        if label is None or (self.names and not 0 <= label < len(self.names)):
            return None  # -1 is written where a test's labels are secret
        return class_text(self.names[label] if self.names else label) or None


def ending(image: bytes, where: str) -> str:
    """The end of a file's name for an image, such as ".jpg".

    Raises:
        InputError: it is no image that can be read.
    """
    try:
        with Image.open(BytesIO(image), formats=formats()) as opened:
            return endings()[str(opened.format)][0]
    except (OSError, KeyError) as error:
        raise InputError(
            f"{where} has an image of a format that can't be read ({error})"
        ) from error


def _column(
    kind: str, given: str | None, likely: Sequence[str], every: Sequence[str], file: Path
) -> str:
    if given is None and len(likely) == 1:
        return likely[0]
    if given in every and given is not None:
        return given
    hint = did_you_mean(given, every) if given else ""
    raise InputError(
        f"which column of {file.name} has the {kind}s? It has {', '.join(every) or 'none'}: set "
        f"data.source.{kind}=<name>.{hint}"
    )


def _features(metadata: dict[bytes, bytes]) -> dict[str, Any]:
    """What is said of the columns: of labels, the names of the classes."""
    try:
        return json.loads(metadata[FEATURES])["info"]["features"]
    except (KeyError, ValueError, TypeError):
        return {}


def _holds_images(kind: Any) -> bool:
    from pyarrow import types

    if types.is_struct(kind):
        return kind.get_field_index(BYTES) >= 0
    return types.is_binary(kind) or types.is_large_binary(kind)
