"""Images in tar files, as WebDataset packs them: `0001.jpg` beside `0001.cls`, in any order.

The format: https://github.com/webdataset/webdataset. Image files and `.cls`, the class as text, are
read; nothing is unpacked to the disk.
"""

import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from lookalike.data.formats import extensions
from lookalike.data.sources.files import Skipped, is_hidden

CLASS = ".cls"
BESIDE = (".json", ".txt")  # of a sample, and nothing that is needed
ENDINGS = (".tar", ".tar.gz", ".tgz")
DAMAGED = "damaged tar"  # the kind under which its rest is skipped


@dataclass(frozen=True)
class Packed:
    """An image in a tar file.

    name: in the tar.
    content: bytes of the image file.
    class_name: from the `.cls` beside it, "" without one.
    """

    name: str
    content: bytes
    class_name: str


def is_tar(path: str | Path) -> bool:
    """Whether a file is a tar, by its name."""
    return str(path).lower().endswith(ENDINGS)


def images_in(tar: str | Path, skipped: Skipped) -> Iterator[Packed]:
    """Every image in a tar, in its order; a damaged end is skipped, and all that is no image.

    Args:
        tar: also compressed.
        skipped: learns what is skipped.
    """
    waiting: list[tuple[str, bytes]] = []
    key = class_name = ""
    for name, content in _files_in(Path(tar), skipped):
        path = PurePosixPath(name)
        stem, ending = str(path.with_suffix("")), path.suffix.lower()
        if stem != key:
            yield from (Packed(member, held, class_name) for member, held in waiting)
            key, waiting, class_name = stem, [], ""
        if ending == CLASS:
            class_name = content.decode(errors="replace").strip()
        elif ending in extensions():
            waiting.append((name, content))
        elif ending not in BESIDE:
            skipped.add(ending or "without extension", Path(tar) / name)
    yield from (Packed(member, held, class_name) for member, held in waiting)


def _files_in(tar: Path, skipped: Skipped) -> Iterator[tuple[str, bytes]]:
    try:
        with tarfile.open(tar, "r|*") as opened:  # a stream: read once, from begin to end
            for member in opened:
                stream = opened.extractfile(member) if member.isreg() else None
                if stream is not None and not is_hidden(Path(member.name)):
                    yield member.name, stream.read()
    except (tarfile.TarError, OSError, EOFError) as error:
        skipped.add(DAMAGED, tar / f"({error})")
