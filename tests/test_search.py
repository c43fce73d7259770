"""Search: exact neighbours by two measures, inside a class or not, and the verb `search`."""

import csv
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from lookalike.data.decoding import decode, read_image
from lookalike.errors import InputError
from lookalike.inference.embedder import load_embedder
from lookalike.inference.lookup import check_threshold, look_up
from lookalike.inference.pretrained import pretrained_embedder
from lookalike.models.pooling import AveragePooling
from lookalike.models.siamese import siamese_backbone
from lookalike.retrieval.exact import nearest, pair_scores
from lookalike.retrieval.faiss_flat import unit

Cli = Callable[..., Any]


@pytest.mark.parametrize("measure", ["cosine", "euclidean"])
@pytest.mark.parametrize(("size", "k"), [(1, 3), (5, 5), (400, 3)])
def test_nearest_equals_a_double_loop(measure: str, size: int, k: int) -> None:
    rng = np.random.default_rng(size)
    gallery = (rng.normal(size=(size, 6)) * rng.uniform(0.1, 9, (size, 1))).astype(np.float32)
    gallery[size // 2 :: 3] = gallery[0]  # exact copies: ties in the gallery's order
    queries = np.concatenate([rng.normal(size=(7, 6)).astype(np.float32), gallery[:1]])
    found, _ = nearest(queries, gallery, k, measure)
    for query, rows in zip(queries.astype(np.float64), found, strict=True):
        if measure == "euclidean":
            costs = [np.sqrt(((query - item) ** 2).sum()) for item in gallery]
        else:
            costs = [
                -(query @ item) / np.sqrt((query @ query) * (item @ item))
                for item in gallery.astype(np.float64)
            ]
        ordered = sorted(range(size), key=lambda row: (round(costs[row], 5), row))
        assert [round(costs[row], 4) for row in rows] == [round(costs[r], 4) for r in ordered[:k]]
        assert len(set(rows.tolist())) == min(k, size)


def test_at_length_1_both_measures_agree_and_otherwise_they_need_not() -> None:
    rng = np.random.default_rng(0)
    gallery = (rng.normal(size=(300, 8)) * rng.uniform(0.2, 5, (300, 1))).astype(np.float32)
    queries = rng.normal(size=(40, 8)).astype(np.float32)
    by = {
        (name, length): nearest(*vectors, 1, name)[0][:, 0]
        for length, vectors in (("1", (unit(queries), unit(gallery))), ("own", (queries, gallery)))
        for name in ("cosine", "euclidean")
    }
    np.testing.assert_array_equal(by["cosine", "1"], by["euclidean", "1"])
    np.testing.assert_array_equal(by["cosine", "1"], by["cosine", "own"])
    assert (by["cosine", "own"] != by["euclidean", "own"]).any()


def test_both_best_matches_are_shown_and_once_if_they_agree() -> None:
    gallery = np.array([[9, 0], [1, 1], [0.9, 1.2], [-1, 0]], np.float32)
    queries = np.array([[1, 0.1], [1, 1.01]], np.float32)
    everything, no_row = np.arange(4), np.full(2, -1)
    differ, agree = look_up(queries, gallery, everything, no_row, 1, -1.0)
    assert [(m.row, m.cosine_rank, m.euclidean_rank) for m in differ] == [
        (0, 1, None),
        (1, None, 1),
    ]
    assert [(m.row, m.cosine_rank, m.euclidean_rank) for m in agree] == [(1, 1, 1)]
    for match in (*differ, *agree):
        query = queries[0] if match in differ else queries[1]
        item = gallery[match.row]
        assert match.cosine == pytest.approx(
            float(query @ item / np.linalg.norm(query) / np.linalg.norm(item)), abs=1e-6
        )
        assert match.euclidean == pytest.approx(float(np.linalg.norm(query - item)), abs=1e-6)


def test_threshold_own_row_and_part_of_the_gallery() -> None:
    gallery = np.array([[1, 0], [1, 0], [0, 1], [-1, 0]], np.float32)
    query = np.array([[1, 0]], np.float32)
    every = np.arange(4)

    def rows(part: np.ndarray, own: int, k: int, threshold: float) -> list[int]:
        (found,) = look_up(query, gallery, part, np.array([own]), k, threshold)
        return [match.row for match in found]

    assert rows(every, 0, 1, -1) == [1]  # itself is left out, its exact copy is not
    assert rows(every, 0, 3, -1) == [1, 2, 3]
    assert rows(every, 0, 3, 0.0) == [1, 2]
    assert rows(every, -1, 9, 1.0) == [0, 1]  # a copy reaches the highest threshold
    assert rows(np.array([2, 3]), 0, 1, 0.5) == []
    assert rows(np.array([], np.int64), 0, 1, -1) == []


def test_zero_vectors_have_no_direction_and_break_nothing() -> None:
    zero = np.zeros((1, 3), np.float32)
    both = np.zeros(2, np.int64)
    ones = np.ones((2, 3), np.float32)
    assert pair_scores(zero, ones, both, both, "cosine").tolist() == [0, 0]
    assert pair_scores(zero, ones, both, both, "euclidean")[0] == pytest.approx(-(3**0.5))
    assert nearest(zero, np.ones((2, 3), np.float32), 1, "cosine")[0].shape == (1, 1)


@pytest.mark.parametrize("wrong", [1.01, -2.0, float("nan")])
def test_threshold_outside_of_cosine_is_refused(wrong: float) -> None:
    check_threshold(-1.0)
    check_threshold(1.0)
    with pytest.raises(InputError, match=r"it lies in \[-1, 1\]"):
        check_threshold(wrong)


@pytest.fixture(scope="module")
def once(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("trained") / "run"


@pytest.fixture
def trained(cli: Cli, tiny: tuple[str, ...], once: Path) -> str:
    """A checkpoint in the folder of the test; it is trained once."""
    if not once.exists():
        kept = [o for o in tiny if "images_per_class" not in o]
        cli("train", *kept, "loss=softmax", "sampler=uniform", "miner=none",
            "evaluation.before_training=false", f"hydra.run.dir={once}")  # fmt: skip
    shutil.copytree(once, "run")
    return "run/checkpoints/best.ckpt"


def answers(folder: str) -> list[dict[str, str]]:
    return list(csv.DictReader(Path(folder, "matches.csv").read_text().splitlines()))


def test_search_in_everything_in_a_class_and_in_the_predicted_one(
    cli: Cli, trained: str, class_folders: Path
) -> None:
    given = (f"images={class_folders / 'class05'}", f"checkpoint={trained}", "num_workers=0")
    assert cli("search", *given, "within=all", "k=2", "hydra.run.dir=all") == 6
    embed = load_embedder(trained)
    paths = sorted(class_folders.glob("*/*.png"))
    vectors = embed(paths)
    rows = answers("all")
    for path in sorted((class_folders / "class05").glob("*.png")):
        query = paths.index(path)
        scores = vectors @ vectors[query]
        scores[query] = -np.inf  # its own file
        best = [row for row in rows if row["query"] == str(path) and row["cosine_rank"] == "1"]
        assert float(best[0]["cosine"]) == pytest.approx(float(scores.max()), abs=1e-4)
        assert best[0]["match"] != str(path)

    cli("search", *given, "class=class07", f"gallery={class_folders}", "hydra.run.dir=seven")
    assert {row["class_name"] for row in answers("seven")} == {"class07"}
    cli("search", *given, f"checkpoint=[{trained},{trained}]", "hydra.run.dir=predicted")
    found = answers("predicted")
    assert all(row["class_name"] == row["searched_in"] for row in found)
    named = cli("classify", *given, "hydra.run.dir=named")
    searched = {row["query"]: row["searched_in"] for row in found}
    assert [searched[path] for path in sorted(searched)] == named
    assert read_image("predicted/matches.png").width > 300


def test_no_match_is_an_answer(cli: Cli, trained: str, class_folders: Path, tmp_path: Path) -> None:
    Image.effect_noise((40, 40), 90).convert("RGB").save(tmp_path / "noise.png")
    count = cli("search", f"images={tmp_path / 'noise.png'}", f"checkpoint={trained}", "within=all",
                "threshold=1", "num_workers=0", "hydra.run.dir=none")  # fmt: skip
    assert count == 0
    (row,) = answers("none")
    assert row["match"] == ""


def test_a_gallery_without_classes_and_with_boxes(
    cli: Cli, trained: str, class_folders: Path, tmp_path: Path
) -> None:
    """A box cuts one colour out of a picture of two, which finds the picture of that colour."""
    left, right = (Image.open(class_folders / f"class{c:02d}" / "0.png") for c in (2, 9))
    both = Image.new("RGB", (96, 40))
    both.paste(left, (0, 0))
    both.paste(right, (48, 0))
    both.save(tmp_path / "both.png")
    (tmp_path / "query.csv").write_text(
        "path,label,left,top,right,bottom\nboth.png,two,48,0,96,40\n"
    )
    cli("search", f"images={tmp_path / 'query.csv'}", f"checkpoint={trained}", "within=all",
        "num_workers=0", f"gallery={class_folders}", "hydra.run.dir=boxed")  # fmt: skip
    best = answers("boxed")[0]
    assert best["match"].endswith("class09/0.png")
    assert float(best["cosine"]) == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["threshold=1.5"], "threshold=1.5"),
        (["class=class99"], "no class 'class99' among 16. Did you mean class"),
        (["within=everything"], "it is predicted, all or null"),
        (["k=0"], "k=0: need 1 or more"),
        (["checkpoint=null"], "give what embeds the images"),
        (["backbone=siamese"], "give what embeds the images, one of"),
        (["checkpoint=null", "backbone=siamese"], "give the images to search"),
        (["checkpoint=null", "backbone=siamese", "gallery=flat"], "is a random network"),
        (["checkpoint=null", "model=[vgg16,resnet50]", "gallery=flat"], "give what embeds"),
        (["gallery=flat", "within=predicted"], "Set within=all"),
        (["gallery=nowhere"], "there is no file or folder nowhere"),
    ],
)
def test_what_does_not_fit_is_explained(
    cli: Cli,
    trained: str,
    class_folders: Path,
    capsys: Any,
    overrides: list[str],
    message: str,
) -> None:
    Path("flat").mkdir()
    Image.new("RGB", (20, 20)).save("flat/a.png")
    given = [f"images={class_folders / 'class00'}", f"checkpoint={trained}", "num_workers=0"]
    kept = [o for o in given if o.split("=")[0] not in {x.split("=")[0] for x in overrides}]
    with pytest.raises(SystemExit):
        cli("search", *kept, *overrides)
    assert message in capsys.readouterr().err


def test_without_a_classifier_the_whole_gallery_is_searched(
    cli: Callable[..., Any], tiny: tuple[str, ...], class_folders: Path
) -> None:
    """The default loss has none."""
    cli("train", *tiny, "evaluation.before_training=false", "hydra.run.dir=run")
    query = class_folders / "class00" / "0.png"
    given = (f"images={query}", f"gallery={class_folders}", "num_workers=0", "k=3")
    assert cli("search", *given, "checkpoint=run/checkpoints/best.ckpt", "hydra.run.dir=s") == 1
    rows = list(csv.DictReader(Path("s", "matches.csv").read_text().splitlines()))
    assert {row["searched_in"] for row in rows} == {"the whole gallery"}
    assert str(query) not in {row["match"] for row in rows}


def test_a_pretrained_backbone_searches_without_training(
    cli: Cli, class_folders: Path, tmp_path: Path
) -> None:
    """Its answers are those of its pooled features."""
    size = {"channels": [4], "hidden": [8], "image_size": 20, "mean": [0.5] * 3, "std": [0.5] * 3}
    backbone = siamese_backbone(**size)
    torch.save(backbone.network.state_dict(), tmp_path / "weights.pth")
    query = class_folders / "class03" / "2.png"
    given = [
        f"images={query}", f"gallery={class_folders}", "backbone=siamese", "num_workers=0",
        f"backbone.weights={tmp_path / 'weights.pth'}", "backbone.image_size=20",
        "backbone.channels=[4]", "backbone.hidden=[8]", "k=3", "hydra.run.dir=s",
    ]  # fmt: skip
    assert cli("search", *given) == 1
    whole, view = pretrained_embedder(backbone, AveragePooling())
    embedder = whole.for_measuring()
    paths = sorted(class_folders.glob("*/*.png"))
    with torch.inference_mode():
        vectors = embedder(view([decode(path) for path in paths])).numpy()
    similar = vectors @ vectors[paths.index(query)]
    order = [str(paths[row]) for row in np.argsort(-similar) if paths[row] != query]
    found = sorted(
        (row for row in answers("s") if row["cosine_rank"]), key=lambda row: int(row["cosine_rank"])
    )
    assert [row["match"] for row in found[:3]] == order[:3]


@pytest.mark.real
@pytest.mark.slow
def test_a_model_of_imagenet_finds_furniture_of_the_class(
    cli: Cli, real_data: Path, real_weights: Path, capsys: Any
) -> None:
    gallery = real_data / "furniture" / "val"
    query = sorted((gallery / "bed").iterdir())[0]
    given = [f"images={query}", f"gallery={gallery}", "model=mobilenet_v2", "k=5",
             f"model.mobilenet_v2.weights={real_weights}", "hydra.run.dir=s"]  # fmt: skip
    assert cli("search", *given) == 1
    assert [row["class_name"] for row in answers("s")].count("bed") >= 4
    assert "Ordered by cosine; #1 is a rank" in " ".join(capsys.readouterr().out.split())
