"""Revisited Oxford and Paris on tiny folders, and their scores against the official rules."""

import pickle
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from omegaconf import DictConfig
from PIL import Image

from lookalike.config import build
from lookalike.data.images import files_of
from lookalike.data.sources.revisited import Revisited
from lookalike.errors import InputError
from lookalike.evaluation.plan import Evaluation
from lookalike.evaluation.scoring import measure
from lookalike.retrieval.embeddings import Embeddings

LANDMARKS = ("all_souls", "radcliffe_camera", "christ_church")
GALLERY, QUERIES = 40, 6


def ground_truth(seed: int = 0) -> dict[str, Any]:
    """Names, and for each query a box and three lists; the last query has no easy answer, and one
    image is hard for a query and junk for another."""
    rng = np.random.default_rng(seed)
    said = []
    for query in range(QUERIES):
        drawn = rng.permutation(GALLERY)
        easy, hard, junk = drawn[:5], drawn[5:11], drawn[11:17]
        empty = query == QUERIES - 1
        said.append({
            "bbx": [2.4, 3.5, 21.6, 30.0], "easy": [] if empty else easy.tolist(),
            "hard": hard, "junk": junk,
        })  # fmt: skip
    return {
        "imlist": [f"{LANDMARKS[n % 3]}_{n:06d}" for n in range(GALLERY)],
        "qimlist": [f"{LANDMARKS[n % 3]}_{n + 100:06d}" for n in range(QUERIES)],
        "gnd": said,
    }


def draw(root: Path, name: str = "roxford5k", **changes: Any) -> Path:
    content = ground_truth() | changes
    (root / "jpg").mkdir(parents=True)
    for number, image in enumerate([*content["imlist"], *content["qimlist"]]):
        pixels = np.random.default_rng(number).integers(0, 256, (36, 30, 3), np.uint8)
        Image.fromarray(pixels).save(root / "jpg" / f"{image}.jpg")
    (root / f"gnd_{name}.pkl").write_bytes(pickle.dumps(content))
    return root


def test_records(tmp_path: Path) -> None:
    root = draw(tmp_path / "oxford")
    records = Revisited(str(root), "roxford5k").records()
    content = ground_truth()
    names = [Path(path).stem for path in records.paths]
    assert names == content["imlist"] + content["qimlist"]
    assert records.roles.tolist() == ["gallery"] * GALLERY + ["query"] * QUERIES
    assert set(records.splits) == {"test"}
    assert [records.class_names[label] for label in records.labels[GALLERY:]] == [
        *LANDMARKS, *LANDMARKS,
    ]  # fmt: skip
    assert records.box(0) == [0, 0, 0, 0]
    assert records.box(GALLERY) == [2, 4, 22, 30]
    assert files_of(records)[GALLERY].shape == (3, 26, 20)  # a query is cropped


def test_the_box_is_that_of_pillow(tmp_path: Path) -> None:
    root = draw(tmp_path)
    records = Revisited(str(root), "roxford5k").records()
    file, box = str(records.paths[GALLERY]), ground_truth()["gnd"][0]["bbx"]
    with Image.open(file) as image:
        cropped = np.asarray(image.crop(box))
    np.testing.assert_array_equal(files_of(records)[GALLERY].numpy(), cropped.transpose(2, 0, 1))


def official(
    vectors: dict[str, NDArray], content: dict[str, Any], kappas: tuple[int, ...] = (1, 5, 10)
) -> dict[str, float]:
    """The rules of the paper, from file names alone, by lists: junk is taken out of the ranking;
    the precision before and at each hit is averaged; precision at k ends at the last hit."""
    setups = {
        "easy": (["easy"], ["junk", "hard"]),
        "medium": (["easy", "hard"], ["junk"]),
        "hard": (["hard"], ["junk", "easy"]),
    }
    found: dict[str, float] = {}
    for setup, (right, wrong) in setups.items():
        areas: list[float] = []
        precisions: dict[int, list[float]] = {k: [] for k in kappas}
        for query, said in zip(content["qimlist"], content["gnd"], strict=True):
            answers = {int(n) for key in right for n in said[key]}
            junk = {int(n) for key in wrong for n in said[key]}
            if not answers:
                continue
            scores = [
                np.float32(vectors[query].astype(float) @ vectors[name].astype(float))
                for name in content["imlist"]
            ]
            order = sorted(range(len(scores)), key=lambda n: (-scores[n], n in answers))
            hits = [n in answers for n in order if n not in junk]
            area, count = 0.0, 0
            for position, hit in enumerate(hits):
                if hit:
                    before = 1.0 if position == 0 else count / position
                    count += 1
                    area += (before + count / (position + 1)) / 2 / len(answers)
            areas.append(area)
            last = max(position for position, hit in enumerate(hits, 1) if hit)
            for k in kappas:
                depth = min(last, k)
                precisions[k].append(sum(hits[:depth]) / depth)
        found[f"map_trapezoid_{setup}"] = float(np.mean(areas))
        for k in kappas:
            found[f"mean_precision_at_{k}_{setup}"] = float(np.mean(precisions[k]))
    return found


@pytest.mark.parametrize("engine", ["faiss", "bounded"])
@pytest.mark.parametrize("seed", range(4))
def test_scores_equal_the_official_rules(tmp_path: Path, seed: int, engine: Any) -> None:
    content = ground_truth(seed)
    root = draw(tmp_path, gnd=content["gnd"])
    records = Revisited(str(root), "roxford5k").records()
    rng = np.random.default_rng(seed)
    found = rng.normal(size=(len(records), 4))
    found = np.sign(found) if seed % 2 else found  # ties
    found = (found / np.linalg.norm(found, axis=1, keepdims=True)).astype(np.float32)
    own = Embeddings(found, records.labels, np.arange(len(records)))
    plan = Evaluation(k=(1, 5, 10), trapezoid=True, monitor="map_trapezoid", engine=engine)
    scores = measure(plan, own, own, records).scores
    vectors = {Path(path).stem: found[row] for row, path in enumerate(records.paths)}
    expected = official(vectors, content)
    assert {name: scores[name] for name in expected} == pytest.approx(expected, abs=1e-12)
    assert scores["queries"] == QUERIES
    assert scores["queries_without_positive_easy"] == 1
    assert scores["queries_without_positive_hard"] == 0


def test_the_rules_by_hand() -> None:
    """The first and the fourth of a ranking are right, the second is junk, and does not count."""
    cosines = np.array([1, 0.9, 0.8, 0.7], np.float32)
    vectors = np.stack([cosines, np.sqrt(1 - cosines**2)], axis=1)
    names = ["a_1", "a_2", "a_3", "a_4"]
    said = {"bbx": [0, 0, 9, 9], "easy": [0], "hard": [3], "junk": [1]}
    content = {"imlist": names, "qimlist": ["a_5"], "gnd": [said]}
    named = dict(zip([*names, "a_5"], [*vectors, np.array([1, 0], np.float32)], strict=True))
    found = official(named, content)
    first, second = (1 + 1) / 2, (1 / 2 + 2 / 3) / 2  # of ranks 1 and 3
    assert found["map_trapezoid_medium"] == pytest.approx((first + second) / 2)
    assert found["mean_precision_at_10_medium"] == pytest.approx(2 / 3)


def test_distractors_are_never_right(tmp_path: Path) -> None:
    root = draw(tmp_path / "oxford")
    more = draw(tmp_path / "million")
    whole = Revisited(str(root), "roxford5k", str(more / "jpg")).records()
    alone = Revisited(str(root), "roxford5k").records()
    assert len(whole) == len(alone) + GALLERY + QUERIES
    assert set(whole.roles[len(alone) :]) == {"gallery"}
    vectors = np.random.default_rng(0).normal(size=(len(whole), 4))
    vectors = (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)
    own = Embeddings(vectors, whole.labels, np.arange(len(whole)))
    plan = Evaluation(k=(1, 5, 10), trapezoid=True, monitor="map_trapezoid")
    fewer = own[: len(alone)]
    without = measure(plan, fewer, fewer, alone).scores["map_trapezoid_hard"]
    assert measure(plan, own, own, whole).scores["map_trapezoid_hard"] < without
    with pytest.raises(InputError, match=r"distractors=.*nowhere is no folder"):
        Revisited(str(root), "roxford5k", str(tmp_path / "nowhere")).records()


def change(root: Path, **changes: Any) -> None:
    (root / "gnd_roxford5k.pkl").write_bytes(pickle.dumps(ground_truth() | changes))


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda root: (root / "gnd_roxford5k.pkl").unlink(), "gnd_roxford5k.pkl is missing"),
        (lambda root: (root / "jpg" / "all_souls_000003.jpg").unlink(), "1 of 46 images are miss"),
        (lambda root: change(root, gnd=ground_truth()["gnd"][1:]), "6 queries and judges 5"),
        (lambda root: change(root, gnd=[{"easy": [1]}] * 6), "is not the revisited ground truth"),
        (lambda root: change(root, imlist=ground_truth()["imlist"][:20]), "ValueError"),
        (lambda root: change(root, imlist=3), "TypeError"),
    ],
)
def test_what_is_missing_or_wrong(
    tmp_path: Path, spoil: Callable[[Path], object], message: str
) -> None:
    root = draw(tmp_path)
    spoil(root)
    with pytest.raises(InputError, match=message) as caught:
        Revisited(str(root), "roxford5k").records()
    assert "http://cmp.felk.cvut.cz/revisitop/data/datasets/roxford5k/" in str(caught.value)
    assert (
        f"oxbuild_images.tgz of https://www.robots.ox.ac.uk/~vgg/data/oxbuildings into {root}"
        in (str(caught.value))
    )


@pytest.mark.parametrize("box", [[1, 2, 3], [5, 5, 5, 9], ["a", 0, 1, 1]])
def test_a_box_that_is_none(tmp_path: Path, box: list[Any]) -> None:
    said = [query | {"bbx": box} for query in ground_truth()["gnd"]]
    with pytest.raises(InputError, match=r"query 0 in .* box"):
        Revisited(str(draw(tmp_path, gnd=said)), "roxford5k").records()


def test_prepare_compares_with_the_published_counts(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    Revisited(str(draw(tmp_path, "rparis6k")), "rparis6k").prepare()
    assert "6 query images, not 70; 40 gallery images, not 6322" in caplog.text


def test_clusters_need_classes(tmp_path: Path) -> None:
    records = Revisited(str(draw(tmp_path)), "roxford5k").records()
    own = Embeddings(np.eye(len(records), dtype=np.float32), records.labels, records.every_id)
    with pytest.raises(InputError, match="which images answer a query, not of which class"):
        measure(Evaluation(clustering=True), own, own, records)


def test_a_query_is_never_its_own_answer(tmp_path: Path) -> None:
    """An image that is in the gallery and asks, too."""
    records = Revisited(str(draw(tmp_path)), "roxford5k").records()
    both = replace(records, roles=np.full(len(records), "both"))
    own = Embeddings(np.eye(len(records), dtype=np.float32), records.labels, records.every_id)
    assert measure(Evaluation(), own, own, both).scores["recall_at_1_medium"] < 1


@pytest.mark.parametrize("choice", ["roxford", "rparis"])
def test_the_authors_measures_are_chosen(choice: str, compose: Callable[..., DictConfig]) -> None:
    for verb in ("evaluate", "train"):
        plan = build(compose(verb, f"data={choice}").evaluation)
        assert (plan.monitor, tuple(plan.k)) == ("map_trapezoid", (1, 5, 10))
    plan = build(compose("evaluate", f"data={choice}", "evaluation=reid").evaluation)
    assert (plan.monitor, plan.trapezoid) == ("map", False)
