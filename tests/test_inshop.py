"""In-Shop Clothes Retrieval, on tiny folders in the official layout."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from omegaconf import DictConfig
from PIL import Image

from lookalike.data.sources.inshop import InShop
from lookalike.data.splits import assign_splits
from lookalike.errors import InputError
from lookalike.training.experiment import Experiment

HEADER = "image_name item_id evaluation_status"


def rows() -> list[tuple[str, str, str]]:
    """(path, item, status) of 16 items: every other one is for training, the rest for the test; the
    last one is in the gallery only."""
    listed = []
    for item in range(1, 17):
        statuses = ["train"] * 4 if item % 2 else ["query", "gallery", "query", "gallery"]
        statuses = ["gallery"] * 2 if item == 16 else statuses
        for view, status in enumerate(statuses, start=1):
            folder = f"img/{'MEN' if item % 3 else 'WOMEN'}/Denim/id_{item:08d}"
            listed.append((f"{folder}/{view:02d}_1_front.jpg", f"id_{item:08d}", status))
    return listed


ROWS = rows()


def write_list(root: Path, listed: list[tuple[str, str, str]], count: int | None = None) -> None:
    lines = [f"{path:<60} {item} {status}" for path, item, status in listed]
    (root / "Eval").mkdir(parents=True, exist_ok=True)
    (root / "Eval" / "list_eval_partition.txt").write_text(
        "\n".join([str(len(listed) if count is None else count), HEADER, *lines]) + "\n"
    )


@pytest.fixture
def root(tmp_path: Path) -> Path:
    root = tmp_path / "clothes"
    write_list(root, ROWS)
    for path, item, _ in reversed(ROWS):
        file = root / "Img" / path
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (24, 32), (int(item[3:]) * 15, 90, 30)).save(file)
    return root


def test_records(root: Path) -> None:
    records = InShop(str(root)).records()
    assert len(records) == len(ROWS)
    assert records.class_names == tuple(f"id_{item:08d}" for item in range(1, 17))
    for row, (path, item, status) in enumerate(ROWS):
        assert records.paths[row] == str(root / "Img" / path)
        assert records.labels[row] == int(item[3:]) - 1
        assert records.splits[row] == ("train" if status == "train" else "test")
        assert records.roles[row] == ("both" if status == "train" else status)
    assert set(records.groups) == {""}


@pytest.mark.parametrize("protocol", ["query_gallery", "zero_shot", "official"])
def test_every_protocol_tests_on_queries_and_gallery(root: Path, protocol: str) -> None:
    records = InShop(str(root)).records()
    found = assign_splits(records, protocol, folds=4, fold=1)
    for (_, item, status), part in zip(ROWS, found.splits, strict=True):
        validates = item in ("id_00000003", "id_00000011")  # of 1, 3, 5, 7, 9, 11, 13, 15
        assert part == ("val" if validates else "train" if status == "train" else "test")
    np.testing.assert_array_equal(found.roles, records.roles)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda root: write_list(root, ROWS[1:], len(ROWS)),
            "says that 62 rows follow, and has 61",
        ),
        (lambda root: write_list(root, [*ROWS[1:], ("img/a.jpg", "id_1", "")]), "in line 64, not"),
        (
            lambda root: write_list(root, [(*ROWS[0][:2], "val"), *ROWS[1:]]),
            "says 'val', not one of train, query, gallery",
        ),
        (lambda root: (root / "Img" / ROWS[5][0]).unlink(), "1 of 62 images are missing, first"),
        (lambda root: (root / "Eval" / "list_eval_partition.txt").unlink(), "txt is missing"),
        (lambda root: (root / "Img").rename(root / "images"), "62 of 62 images are missing"),
    ],
)
def test_what_is_missing_or_wrong(
    root: Path, change: Callable[[Path], object], message: str
) -> None:
    change(root)
    with pytest.raises(InputError, match=message) as caught:
        InShop(str(root)).records()
    assert f"Put list_eval_partition.txt into {root / 'Eval'}" in str(caught.value)
    assert f"img.zip in {root / 'Img'}" in str(caught.value)
    assert "InShopRetrieval.html" in str(caught.value)


def test_prepare_compares_with_the_published_counts(
    root: Path, caplog: pytest.LogCaptureFixture
) -> None:
    InShop(str(root)).prepare()
    assert "14 query images, not 14218; 16 gallery images, not 12612" in caplog.text


def test_a_run_asks_the_gallery(
    compose: Callable[..., DictConfig], tiny: tuple[str, ...], root: Path, tmp_path: Path
) -> None:
    others = [o for o in tiny if not o.startswith(("data=", "data.root="))]
    config = compose("train", *others, "data=inshop", f"data.root={root}")
    assert config.data.protocol == "query_gallery"
    experiment = Experiment(config, tmp_path)
    checkpoint = experiment.fit()
    scores = experiment.test(checkpoint)
    assert scores["test/queries"] == sum(status == "query" for _, _, status in ROWS)
    assert 0 <= scores["test/recall_at_1"] <= 1
    config = compose("train", "data=inshop", "paths.data=here")
    assert config.data.root == "here/inshop"
