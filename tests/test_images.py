"""Reading images: the usual, the unusual, and the broken."""

from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.transforms import v2

from lookalike.data.datamodule import RetrievalData
from lookalike.data.decoding import decode, read_image
from lookalike.data.images import ImageBatches, ImageFiles
from lookalike.data.mining import AllPairs
from lookalike.data.sampling import UniformBatches
from lookalike.data.sources.folder import Folder
from lookalike.data.transforms import EachImage, FourViews, RandomViews, centred, random_boxes
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
        with pytest.raises(InputError, match=f"can't read the image .*{name}.*lookalike prepare"):
            decode(tmp_path / name)


def photograph(width: int, height: int) -> Image.Image:
    """Smooth, so that JPEG and shrinking change little of it."""
    rows, columns = np.mgrid[0:height, 0:width] / max(width, height)
    waves = [np.sin(6 * rows + phase) * np.cos(4 * columns) for phase in (0, 1, 2)]
    return Image.fromarray((127 + 120 * np.stack(waves, -1)).astype(np.uint8))


@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
@pytest.mark.parametrize("progressive", [False, True])
def test_decoding_gives_the_pixels_of_pillow(tmp_path: Path, mode: str, progressive: bool) -> None:
    image = photograph(61, 40).convert(mode)
    file = saved(tmp_path / "a.jpg", image, progressive=progressive)
    expected = np.asarray(read_image(file)).transpose(2, 0, 1)
    np.testing.assert_array_equal(decode(file).numpy(), expected)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_decoding_turns_upright_as_pillow_does(tmp_path: Path, orientation: int) -> None:
    image = photograph(61, 40)
    exif = image.getexif()
    exif[0x0112] = orientation
    file = saved(tmp_path / "a.jpg", image, exif=exif)
    expected = np.asarray(read_image(file)).transpose(2, 0, 1)
    np.testing.assert_array_equal(decode(file).numpy(), expected)


@pytest.mark.parametrize(
    ("short_side", "expected"), [(None, 400), (201, 400), (200, 200), (101, 200), (51, 100)]
)
def test_decoding_halves_to_no_less_than_needed(
    tmp_path: Path, short_side: int | None, expected: int
) -> None:
    image = photograph(600, 400)
    pixels = decode(saved(tmp_path / "a.jpg", image, quality=95), short_side)
    assert pixels.shape == (3, expected, expected * 3 // 2)
    shrunk = np.asarray(image.resize((expected * 3 // 2, expected), Image.Resampling.BOX))
    assert np.abs(pixels.permute(1, 2, 0).numpy() - shrunk.astype(int)).mean() < 2


def test_a_batch(class_folders: Path) -> None:
    paths = np.array([str(file) for file in sorted(class_folders.glob("*/*.png"))])
    labels = np.arange(len(paths)) // 6
    images, found, ids = ImageBatches(ImageFiles(paths), labels, centred(32))[[5, 0, 7]]
    assert (images.shape, images.dtype) == ((3, 3, 32, 32), torch.uint8)
    assert found.tolist() == [0, 0, 1]
    assert ids.tolist() == [5, 0, 7]


@pytest.mark.parametrize("shape", [(3, 20, 90), (3, 90, 20), (3, 5, 5), (3, 64, 64)])
def test_transforms_give_one_size(shape: tuple[int, ...]) -> None:
    images = [torch.randint(0, 256, shape, dtype=torch.uint8)] * 2
    full = RandomViews(32, vertical_flip=0.5, rotation=90, jitter=0.3)
    for transform in (centred(32), centred(32, resize=40), RandomViews(32), full):
        found = transform(images)
        assert (found.shape, found.dtype) == ((2, 3, 32, 32), torch.uint8)


def test_random_boxes_are_distributed_as_torchvisions() -> None:
    """Area, aspect and place, compared by quantiles of many draws."""
    torch.manual_seed(0)
    image = torch.zeros(3, 60, 90)
    theirs = v2.RandomResizedCrop(8, scale=(0.25, 1.0))
    drawn = [theirs.make_params([image]) for _ in range(4000)]
    expected = np.array([[d["top"], d["left"], d["height"], d["width"]] for d in drawn])
    found = np.array(random_boxes(torch.tensor([[60, 90]] * 4000), 0.25))
    levels = [0.05, 0.25, 0.5, 0.75, 0.95]
    np.testing.assert_allclose(
        np.quantile(found, levels, axis=0), np.quantile(expected, levels, axis=0), atol=3
    )


@pytest.mark.parametrize("size", [(1, 1), (1, 500), (500, 1), (7, 90), (64, 64)])
def test_random_boxes_lie_inside(size: tuple[int, int]) -> None:
    boxes = torch.tensor(random_boxes(torch.tensor([size] * 500), 0.25))
    assert (boxes[:, :2] >= 0).all()
    assert (boxes[:, 2:] >= 1).all()
    assert (boxes[:, :2] + boxes[:, 2:] <= torch.tensor(size)).all()


def test_flips_are_mirror_images_and_as_frequent_as_asked() -> None:
    torch.manual_seed(0)
    image = decode_like(photograph(16, 16))
    views = RandomViews(16, min_scale=1.0, horizontal_flip=0.25)([image] * 400)
    whole = views[(views == image).flatten(1).all(1)]
    mirrored = views[(views == image.flip(-1)).flatten(1).all(1)]
    assert 0.15 < len(mirrored) / (len(whole) + len(mirrored)) < 0.35


def decode_like(image: Image.Image) -> torch.Tensor:
    return torch.from_numpy(np.array(image)).permute(2, 0, 1)


def test_a_users_own_pipeline(class_folders: Path) -> None:
    with pytest.raises(InputError, match=r"data\.transform\.test .*EachImage"):
        RetrievalData(Folder(class_folders), {"test": v2.CenterCrop(8)}, UniformBatches, AllPairs())
    view = EachImage(v2.CenterCrop(8))
    assert view([torch.zeros(3, 20, 10, dtype=torch.uint8)]).shape == (1, 3, 8, 8)


def test_four_views_are_centre_whole_and_their_mirror_images() -> None:
    image = decode_like(photograph(60, 40))
    views = FourViews(20)([image, image.flip(-1)])
    assert views.shape == (2, 4, 3, 20, 20)
    torch.testing.assert_close(views[:, :1], centred(20)([image, image.flip(-1)])[:, None])
    torch.testing.assert_close(views[0, 1], v2.Resize([20, 20])(image))
    torch.testing.assert_close(views[:, 2:], views[:, :2].flip(-1))
