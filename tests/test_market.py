"""The layout of Market-1501, and scores with cameras against the official rules in plain loops."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from omegaconf import DictConfig
from PIL import Image

from lookalike.data.records import Records
from lookalike.data.sources.market import Market
from lookalike.data.splits import assign_splits
from lookalike.errors import InputError
from lookalike.evaluation.gathering import gather_embeddings
from lookalike.evaluation.plan import Evaluation
from lookalike.evaluation.scoring import measure
from lookalike.retrieval.embeddings import Embeddings
from lookalike.training.experiment import Experiment

MARKET = "{identity}_c{camera}s1_{number:06d}_03.jpg"
DUKE = "{identity}_c{camera}_f{number:07d}.jpg"
ORIGIN = "Ask its authors."


def picture(file: Path) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (16, 32), (sum(file.name[:4].encode()) % 64 * 4, 90, 30)).save(file)


def build(root: Path, style: str = MARKET, seed: int = 0) -> Market:
    """12 training and 8 test identities, 5 of them queried, with junk and distractors."""
    rng = np.random.default_rng(seed)
    number = 0

    def add(folder: str, identity: str) -> None:
        nonlocal number
        number += 1
        camera = rng.integers(1, 5)
        picture(root / folder / style.format(identity=identity, camera=camera, number=number))

    for identity in range(1, 13):
        for _ in range(4):
            add("bounding_box_train", f"{identity:04d}")
    for identity in range(21, 29):
        for _ in range(6):
            add("bounding_box_test", f"{identity:04d}")
    for _ in range(9):
        add("bounding_box_test", "-1")
        add("bounding_box_test", "0000")
    for identity in range(21, 26):
        for _ in range(3):
            add("query", f"{identity:04d}")
    return Market(str(root), ORIGIN)


def test_market_layout(tmp_path: Path) -> None:
    market = build(tmp_path)
    (tmp_path / "query" / "Thumbs.db").write_text("left by Windows")
    records = market.records()
    names = [Path(path).name for path in records.paths]
    assert not [name for name in names if name.startswith("-1")]
    assert records.class_names[-1] == "0000"
    assert records.class_names[:2] == ("0001", "0002")
    for name, label, group in zip(names, records.labels, records.groups, strict=True):
        assert name.startswith(f"{records.class_names[label]}_{group}s1_")
    found = list(zip(records.splits.tolist(), records.roles.tolist(), strict=True))
    assert {pair: found.count(pair) for pair in found} == {
        ("train", "both"): 48, ("test", "query"): 15, ("test", "gallery"): 48 + 9,
    }  # fmt: skip
    distractors = records.labels == len(records.class_names) - 1
    assert set(records.roles[distractors]) == {"gallery"}
    split = assign_splits(records, "query_gallery")
    assert set(split.labels[split.ids("train", "val")]) == set(range(12))
    np.testing.assert_array_equal(split.ids("test"), records.ids("test"))


def test_duke_layout(tmp_path: Path) -> None:
    records = build(tmp_path, DUKE).records()
    assert len(records) == 48 + 15 + 57
    assert set(records.groups) == {"c1", "c2", "c3", "c4"}


@pytest.mark.parametrize("name", ["0002.jpg", "2_c1s1_000451_03.jpg", "0002_s1_000451_03.jpg"])
def test_a_name_that_does_not_parse(tmp_path: Path, name: str) -> None:
    market = build(tmp_path)
    picture(tmp_path / "query" / name)
    with pytest.raises(InputError, match=rf"{name} .* right are 0002_c1s1_000451_03\.jpg"):
        market.records()


def test_missing_and_empty_folders(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=rf"bounding_box_train\. {ORIGIN} .*set data\.root"):
        Market(str(tmp_path), ORIGIN).records()
    market = build(tmp_path)
    for image in (tmp_path / "query").iterdir():
        image.unlink()
    with pytest.raises(InputError, match=r"no images in .*query"):
        market.records()


def test_exclusion_ids_are_identity_and_camera() -> None:
    records = Records.create(
        list("abcdef"), ["1", "1", "2", "1", "2", "2"], groups=["x", "x", "x", "y", "", ""]
    )
    assert records.exclusion_ids.tolist() == [0, 0, 2, 3, 4, 5]


def official(names: dict[str, list[str]], vectors: dict[str, NDArray]) -> dict[str, float]:
    """Of file names alone: junk and one's own identity in one's own camera are taken out of the
    ranking, distractors stay; first hits, mean precision at hits, hits by the rank of the last."""
    found: dict[str, list[float]] = {"recall_at_1": [], "recall_at_5": [], "recall_at_10": []}
    found |= {"map": [], "minp": []}
    skipped = 0
    for query in names["query"]:
        identity, camera = query.split("_")[0], query.split("_")[1][:2]
        ranking = []
        for item in names["gallery"]:
            same = item.split("_")[0] == identity
            if item.startswith("-1") or (same and item.split("_")[1][:2] == camera):
                continue
            ranking.append((-np.float32(float(vectors[query] @ vectors[item])), same))
        hits = [same for _, same in sorted(ranking)]
        if not any(hits):
            skipped += 1
            continue
        for k in (1, 5, 10):
            found[f"recall_at_{k}"].append(float(any(hits[:k])))
        ranks = [rank for rank, hit in enumerate(hits, start=1) if hit]
        found["map"].append(np.mean([n / rank for n, rank in enumerate(ranks, start=1)]))
        found["minp"].append(len(ranks) / ranks[-1])
    means = {name: float(np.mean(values)) for name, values in found.items()}
    return means | {"queries_without_positive": float(skipped)}


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("ties", [False, True])
def test_scores_equal_the_official_rules(tmp_path: Path, seed: int, ties: bool) -> None:
    records = build(tmp_path, seed=seed).records()
    rng = np.random.default_rng(seed)
    names = {
        "query": sorted(file.name for file in (tmp_path / "query").iterdir()),
        "gallery": sorted(file.name for file in (tmp_path / "bounding_box_test").iterdir()),
    }
    vectors = {}
    for name in names["query"] + names["gallery"]:
        identity = np.random.default_rng(abs(int(name.split("_")[0]))).normal(size=6)
        vector = identity + rng.normal(size=6)
        vector = np.sign(vector[:3]) if ties else vector
        vectors[name] = (vector / np.linalg.norm(vector)).astype(np.float32).astype(float)
    rows = records.ids("test")
    seen = np.array([vectors[Path(path).name] for path in records.paths[rows]], np.float32)
    plan = Evaluation(k=(1, 5, 10), minp=True, monitor="map")
    own = Embeddings(seen, records.labels[rows], rows)
    scores = measure(plan, own, gather_embeddings(own, records), records).scores
    expected = official(names, vectors)
    assert {name: scores[name] for name in expected} == pytest.approx(expected, abs=1e-12)
    assert scores["queries"] == 15
    assert 0 < scores["minp"] < 1


def test_a_query_seen_by_one_camera_only_is_left_out() -> None:
    records = Records.create(
        list("abcd"), ["1", "1", "2", "2"], groups=["x", "x", "x", "y"], splits=["test"] * 4
    )
    vectors = np.eye(4, dtype=np.float32)
    own = Embeddings(vectors, records.labels, np.arange(4))
    scores = measure(Evaluation(), own, gather_embeddings(own, records), records).scores
    assert scores["queries_without_positive"] == 2


def test_minp_needs_the_whole_ranking() -> None:
    with pytest.raises(InputError, match=r"evaluation\.whole_ranking=true"):
        Evaluation(minp=True, whole_ranking=False)


@pytest.mark.parametrize("choice", ["market", pytest.param("duke", marks=pytest.mark.slow)])
@pytest.mark.parametrize(
    "miner", ["batch_hard", pytest.param("triplet_margin", marks=pytest.mark.slow)]
)
def test_the_recipe_runs_on_the_layout(
    choice: str, miner: str, compose: Callable[..., DictConfig], tmp_path: Path
) -> None:
    build(tmp_path / "pedestrians", {"market": MARKET, "duke": DUKE}[choice])
    config = compose(
        "train", "experiment=reid_softmax_triplet", f"data={choice}", f"miner={miner}",
        f"data.root={tmp_path / 'pedestrians'}", "data.batch_size=8", "data.num_workers=0",
        "backbone.weights=null", "backbone.image_size=32", "trainer=cpu", "trainer.max_epochs=1",
        "callbacks=none", "rerank=k_reciprocal",
    )  # fmt: skip
    assert config.loss.losses.softmax.label_smoothing > 0
    experiment = Experiment(config, tmp_path)
    checkpoint = experiment.fit()
    scores = experiment.test(checkpoint)
    for name in ("recall_at_1", "recall_at_5", "recall_at_10", "map", "minp"):
        assert 0 <= scores[f"test/{name}"] <= 1
    assert scores["test/queries"] == 15
    assert scores["test/ranking_seconds"] > 0
