"""Reading images: the usual, the unusual, and the broken."""

from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from lookalike.data.images import ImageBatches, read_image
from lookalike.data.transforms import augmented, centred
from lookalike.errors import InputError

RED = (200, 30, 40)


def saved(file: Path, image: Image.Image, **options: object) -> Path:
    image.save(file, **options)
    return file


def test_ordinary_image(tmp_path: Path) -> None:
    image = read_image(saved(tmp_path / "a.png", Image.new("RGB", (6, 4), RED)))
    assert (image.mode, image.size, image.getpixel((0, 0))) == ("RGB", (6, 4), RED)


def test_grey(tmp_path: Path) -> None:
    image = read_image(saved(tmp_path / "a.png", Image.new("L", (2, 2), 77)))
    assert image.getpixel((0, 0)) == (77, 77, 77)


def test_cmyk(tmp_path: Path) -> None:
    cmyk = Image.new("RGB", (8, 8), RED).convert("CMYK")
    image = read_image(saved(tmp_path / "a.jpg", cmyk, quality=100))
    np.testing.assert_allclose(image.getpixel((4, 4)), RED, atol=4)


def test_sixteen_bit_keeps_its_greys(tmp_path: Path) -> None:
    ramp = np.arange(0, 65536, 1024, dtype=np.uint16).reshape(8, 8)
    image = read_image(saved(tmp_path / "a.png", Image.fromarray(ramp)))
    np.testing.assert_array_equal(np.asarray(image)[..., 0], ramp // 256)


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P"])
def test_transparency_becomes_white(tmp_path: Path, mode: str) -> None:
    clear = Image.new("RGBA", (4, 4), (0, 0, 0, 0)).convert(mode)
    options = {"transparency": 0} if mode == "P" else {}
    image = read_image(saved(tmp_path / "a.png", clear, **options))
    assert image.getpixel((0, 0)) == (255, 255, 255)


def test_exif_orientation_is_applied(tmp_path: Path) -> None:
    image = Image.new("RGB", (8, 4))
    exif = image.getexif()
    exif[0x0112] = 6  # rotated by 90 degrees
    assert read_image(saved(tmp_path / "a.jpg", image, exif=exif)).size == (4, 8)


def test_truncated_empty_missing_and_foreign_files(tmp_path: Path) -> None:
    whole = BytesIO()
    Image.effect_noise((64, 64), 50).save(whole, "JPEG")
    (tmp_path / "cut.jpg").write_bytes(whole.getvalue()[:-200])
    (tmp_path / "empty.jpg").touch()
    (tmp_path / "text.jpg").write_text("no image")
    for name in ("cut.jpg", "empty.jpg", "text.jpg", "missing.jpg"):
        with pytest.raises(InputError, match=f"can't read the image .*{name}.*lookalike prepare"):
            read_image(tmp_path / name)


def test_a_batch(class_folders: Path) -> None:
    paths = np.array([str(file) for file in sorted(class_folders.glob("*/*.png"))])
    labels = np.arange(len(paths)) // 6
    images, found, ids = ImageBatches(paths, labels, centred(32))[[5, 0, 7]]
    assert (images.shape, images.dtype) == ((3, 3, 32, 32), torch.uint8)
    assert found.tolist() == [0, 0, 1]
    assert ids.tolist() == [5, 0, 7]


@pytest.mark.parametrize("shape", [(3, 20, 90), (3, 90, 20), (3, 5, 5), (3, 64, 64)])
def test_transforms_give_one_size(shape: tuple[int, ...]) -> None:
    image = torch.randint(0, 256, shape, dtype=torch.uint8)
    full = augmented(32, vertical_flip=0.5, rotation=90, jitter=0.3)
    for transform in (centred(32), centred(32, resize=40), augmented(32), full):
        found = transform(image)
        assert (found.shape, found.dtype) == ((3, 32, 32), torch.uint8)
