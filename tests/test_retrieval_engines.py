"""Which engine is chosen, what is said of it, and engines on other devices."""

import gc
import logging
import os
import subprocess
import sys
import weakref
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import faiss
import numpy as np
import pytest
import torch

from lookalike.errors import InputError
from lookalike.evaluation.metrics import values_of
from lookalike.evaluation.plan import Evaluation
from lookalike.retrieval import engines, faiss_flat, products
from lookalike.retrieval.bounded import Bounded
from lookalike.retrieval.embeddings import Embeddings
from lookalike.retrieval.engines import Engines
from lookalike.retrieval.faiss_flat import FaissFlat

CUDA = torch.device("cuda")


def clusters(n: int = 600, size: int = 24) -> Embeddings:
    rng = np.random.default_rng(0)
    labels = rng.permutation(n) // 6
    vectors = rng.normal(size=(labels.max() + 1, size))[labels] + rng.normal(size=(n, size))
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    return Embeddings(vectors.astype(np.float32), labels, np.arange(n))


def test_auto_takes_faiss_for_small_galleries_and_says_so(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engines, "cpu_multiplies_bfloat16", lambda: True)
    engines._say.cache_clear()
    gallery = clusters().vectors
    with caplog.at_level(logging.INFO):
        assert isinstance(Engines().of(gallery), FaissFlat)
        assert isinstance(Engines().of(gallery), FaissFlat)
        monkeypatch.setattr(engines, "WORTH_ROUNDING", gallery.size)
        assert isinstance(Engines().of(gallery), Bounded)
    assert [record.getMessage() for record in caplog.records] == [
        "Nearest images: evaluation.engine=faiss on cpu (a small gallery)",
        "Nearest images: evaluation.engine=bounded on cpu (a large gallery)",
    ]


def test_without_bfloat16_auto_takes_faiss(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engines, "cpu_multiplies_bfloat16", lambda: False)
    monkeypatch.setattr(engines, "WORTH_ROUNDING", 0)
    assert isinstance(Engines().of(clusters().vectors), FaissFlat)
    assert isinstance(Engines("bounded").of(clusters().vectors), Bounded)


def test_a_misspelt_engine_is_refused_before_any_work() -> None:
    with pytest.raises(InputError, match=r"evaluation.engine=fais .* Did you mean faiss\?"):
        Evaluation(engine="fais")  # type: ignore[arg-type]


def test_a_gallery_that_keys_have_no_room_for_goes_to_faiss(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(engines, "LARGEST", 500)
    assert isinstance(Engines("bounded").of(clusters().vectors), FaissFlat)


@pytest.mark.parametrize("precision", ["highest", "high", "medium"])
def test_products_keep_their_precision(precision: str) -> None:
    """At "medium", torch multiplies float32 in bfloat16 where the processor can."""
    vectors = torch.from_numpy(clusters(200, 300).vectors)
    exact = vectors.double() @ vectors.double().T
    torch.set_float32_matmul_precision(precision)
    try:
        found = products.products_of(vectors, vectors)
        assert torch.get_float32_matmul_precision() == precision
    finally:
        torch.set_float32_matmul_precision("highest")
    assert (found - exact).abs().max() < 308 * 2.0**-23


def test_a_gallery_that_is_mapped_for_reading(tmp_path: Any) -> None:
    everything = clusters()
    np.save(tmp_path / "gallery.npy", everything.vectors)
    mapped = np.load(tmp_path / "gallery.npy", mmap_mode="r")
    gallery = Embeddings(mapped, everything.labels, everything.ids)
    queries = everything[:50]
    for whole in (False, True):
        expected = values_of(queries, everything, (1, 4), whole)
        for name in ("faiss", "bounded"):
            found = values_of(queries, gallery, (1, 4), whole, engines=Engines(name))
            assert {key: value.tolist() for key, value in found.items()} == {
                key: value.tolist() for key, value in expected.items()
            }


class Resources:
    """What FAISS holds on a GPU."""


class PretendedGpus:
    """FAISS as it is built for GPUs; its indices stay on the CPU."""

    def __init__(self, count: int) -> None:
        self.count = count
        self.resources: list[weakref.ref] = []
        self.calls: list[tuple[int, ...]] = []
        self.METRIC_INNER_PRODUCT, self.METRIC_L2 = faiss.METRIC_INNER_PRODUCT, faiss.METRIC_L2
        self.IndexFlat = faiss.IndexFlat
        self.GpuMultipleClonerOptions = SimpleNamespace

    def StandardGpuResources(self) -> object:  # noqa: N802  # FAISS's name
        made = Resources()
        self.resources.append(weakref.ref(made))
        return made

    def get_num_gpus(self) -> int:
        return self.count

    def index_cpu_to_gpu(self, resources: object, gpu: int, index: Any, options: Any) -> Any:
        assert options.shard
        assert options.use_cuvs is False
        assert isinstance(resources, Resources)
        self.calls.append((gpu,))
        return index

    def index_cpu_to_gpu_multiple_py(
        self, resources: list[object], index: Any, options: Any, gpus: list[int]
    ) -> Any:
        assert options.shard
        assert options.use_cuvs is False
        assert len(resources) == len(gpus) > 1
        self.calls.append(tuple(gpus))
        return index


@pytest.mark.parametrize(
    ("device", "count", "used"),
    [
        ("cuda", 1, (0,)),
        ("cuda", 2, (0, 1)),
        ("cuda", 3, (0, 1, 2)),
        ("cuda:1", 3, (1,)),
        ("cuda:0", 3, (0,)),
    ],
)
def test_faiss_on_gpus_lists_the_same_and_frees_them(
    device: str, count: int, used: tuple[int, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    vectors = clusters().vectors
    depth = np.full(len(vectors), 6)
    on_cpu = FaissFlat(vectors).candidates(vectors, depth)
    pretended = PretendedGpus(count)
    monkeypatch.setattr(faiss_flat, "import_faiss", lambda: pretended)
    engine = Engines("auto", torch.device(device)).of(vectors)
    found = engine.candidates(vectors, depth)
    assert (found.row == on_cpu.row).all()
    assert (found.bound == on_cpu.bound).all()
    del engine
    gc.collect()
    assert pretended.calls == [used]
    assert len(pretended.resources) == len(used)
    assert all(made() is None for made in pretended.resources)


@pytest.mark.parametrize("measure", ["cosine", "euclidean"])
def test_faiss_on_gpus_has_the_measure_that_was_asked_for(
    measure: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    vectors = clusters().vectors * np.linspace(1, 3, 600, dtype=np.float32)[:, None]
    depth = np.full(9, 6)
    on_cpu = FaissFlat(vectors, measure).candidates(vectors[:9], depth)
    monkeypatch.setattr(faiss_flat, "import_faiss", lambda: PretendedGpus(1))
    found = FaissFlat(vectors, measure, gpus=[0]).candidates(vectors[:9], depth)
    assert found.row.tolist() == on_cpu.row.tolist()


def test_what_a_gpu_cannot_select_is_left_to_counting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(faiss_flat, "import_faiss", lambda: PretendedGpus(1))
    monkeypatch.setattr(faiss_flat, "DEEPEST_ON_GPU", 7)
    vectors = clusters().vectors
    found = FaissFlat(vectors, gpus=[0]).candidates(vectors[:4], np.array([3, 4, 3, 3]))
    assert np.isinf(found.bound).tolist() == [False, True, False, False]
    assert np.bincount(found.query).tolist() == [7, 0, 7, 7]


def test_without_faiss_for_gpus_the_bounded_pass_runs_there(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    seen = []
    monkeypatch.setattr(engines, "Bounded", lambda gallery, device: seen.append(device))
    Engines("auto", CUDA).of(clusters().vectors)
    assert seen == [CUDA]


def test_other_devices_leave_it_to_the_cpu() -> None:
    assert Engines("auto", torch.device("mps")).device == torch.device("cpu")


@pytest.mark.gpu
@pytest.mark.parametrize("name", ["faiss", "bounded"])
@pytest.mark.parametrize("whole", [False, True])
def test_a_gpu_gives_the_scores_of_the_cpu(name: Any, whole: bool) -> None:
    everything = clusters(8000, 128)
    expected = values_of(everything, everything, (1, 4), whole)
    found = values_of(everything, everything, (1, 4), whole, engines=Engines(name, CUDA))
    for key, value in expected.items():
        assert value.tolist() == found[key].tolist()


def test_nothing_is_known_of_vectors_too_long_for_float32_products() -> None:
    everything = clusters()
    long = Embeddings(everything.vectors * np.float32(1e20), everything.labels, everything.ids)
    listed = FaissFlat(long.vectors).candidates(long.vectors[:9], np.full(9, 3))
    assert np.isinf(listed.bound).all()
    assert len(listed.only(listed.bound[listed.query] < np.inf).query) == 0


def test_the_log_tells_how_whole_rankings_are_made(caplog: pytest.LogCaptureFixture) -> None:
    engines._say.cache_clear()
    with caplog.at_level(logging.INFO):
        values_of(clusters(), clusters(), (1,), True)
    assert [each.getMessage() for each in caplog.records] == [
        "Scores of whole rankings: counted from float32 products on cpu"
    ]


@pytest.mark.slow
@pytest.mark.parametrize("chosen", [None, "Haswell"])
def test_faiss_gets_the_kernels_of_the_processor(chosen: str | None, tmp_path: Path) -> None:
    code = (
        "import os\nfrom threadpoolctl import threadpool_info\n"
        "from lookalike.retrieval.faiss_flat import import_faiss\n"
        "import_faiss()\n"
        "found = [each for each in threadpool_info() if 'faiss' in each['filepath']]\n"
        "print('TOLD', *(each['architecture'] for each in found if 'architecture' in each))\n"
        "print(os.environ.get('OPENBLAS_CORETYPE'))"
    )
    environment = {key: value for key, value in os.environ.items() if key != "OPENBLAS_CORETYPE"}
    environment |= {"OPENBLAS_CORETYPE": chosen} if chosen else {}
    shown = subprocess.run(
        [sys.executable, "-c", code], env=environment, cwd=tmp_path, capture_output=True, text=True
    )
    kernels, kept = shown.stdout.partition("TOLD")[2].split()
    assert kept == str(chosen)
    assert chosen in (None, kernels)
    assert kernels != "Prescott"  # of 2004


def test_an_unknown_engine_is_told_in_full() -> None:
    with pytest.raises(InputError) as caught:
        Engines("boundet")  # type: ignore[arg-type]
    assert str(caught.value) == (
        "evaluation.engine=boundet is unknown; there are auto, faiss, bounded. "
        "Did you mean bounded?"
    )


@pytest.mark.parametrize(
    ("engine", "device", "gpus", "where", "said"),
    [
        ("auto", "cpu", 0, "faiss on cpu", "a small gallery"),
        ("faiss", "cpu", 2, "faiss on cpu", "asked for"),
        ("bounded", "cpu", 0, "bounded on cpu", "asked for"),
        ("auto", "cuda", 0, "bounded on cuda", "FAISS was installed without GPU support"),
        ("auto", "cuda:1", 2, "faiss on cuda:1", "FAISS sees the GPU"),
        ("faiss", "cuda", 0, "faiss on cpu", "asked for"),
        ("faiss", "cuda", 1, "faiss on cuda", "asked for"),
    ],
)
def test_the_log_tells_which_engine_runs_where_and_why(
    engine: Any, device: str, gpus: int, where: str, said: str,
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setattr(engines, "cpu_multiplies_bfloat16", lambda: True)
    monkeypatch.setattr(engines, "gpus_of_faiss", lambda: gpus)
    made: list[Any] = []
    monkeypatch.setattr(engines, "FaissFlat", lambda *given, **more: made.append((given, more)))
    monkeypatch.setattr(engines, "Bounded", lambda *given: made.append((given, "bounded")))
    engines._say.cache_clear()
    gallery = clusters(60).vectors
    with caplog.at_level(logging.INFO):
        Engines(engine, torch.device(device)).of(gallery)
    assert caplog.messages == [f"Nearest images: evaluation.engine={where} ({said})"]
    used = "bounded" if where.startswith("bounded") else {"gpus": []}
    if used != "bounded" and "cuda" in where:
        used = {"gpus": [1] if device == "cuda:1" else list(range(gpus))}
    given = (gallery, torch.device(device)) if used == "bounded" else (gallery,)
    assert made == [(given, used)]


@pytest.mark.parametrize(
    ("size", "multiplies", "expected"),
    [(600, True, "bounded"), (599, True, "faiss"), (600, False, "faiss")],
)
def test_a_large_gallery_is_worth_rounding_where_it_is_multiplied(
    size: int, multiplies: bool, expected: str, caplog: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engines, "cpu_multiplies_bfloat16", lambda: multiplies)
    monkeypatch.setattr(engines, "WORTH_ROUNDING", 600 * 24)
    engines._say.cache_clear()
    with caplog.at_level(logging.INFO):
        Engines().of(clusters(600).vectors[:size])
    reason = {
        (600, True): "a large gallery", (599, True): "a small gallery",
        (600, False): "the processor does not multiply bfloat16",
    }[size, multiplies]  # fmt: skip
    assert caplog.messages == [f"Nearest images: evaluation.engine={expected} on cpu ({reason})"]


def test_the_largest_gallery_of_the_bounded_engine(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    engines._say.cache_clear()
    with caplog.at_level(logging.INFO):
        for largest in (600, 599):
            monkeypatch.setattr(engines, "LARGEST", largest)
            Engines("bounded").of(clusters(600).vectors)
    assert caplog.messages == [
        "Nearest images: evaluation.engine=bounded on cpu (asked for)",
        "Nearest images: evaluation.engine=faiss on cpu (more than 599 images)",
    ]


def test_a_process_of_several_uses_its_own_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engines, "gpus_of_faiss", lambda: 4)
    assert Engines("faiss", CUDA)._gpus() == [0, 1, 2, 3]
    monkeypatch.setattr(engines, "world_size", lambda: 2)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 3)
    assert Engines("faiss", CUDA)._gpus() == [3]
    assert Engines("faiss", torch.device("cuda:1"))._gpus() == [1]
    assert Engines("faiss")._gpus() == []


def test_whole_rankings_name_their_device(
    caplog: pytest.LogCaptureFixture,
) -> None:
    engines._say.cache_clear()
    with caplog.at_level(logging.INFO):
        Engines("faiss", torch.device("cuda:1")).say_whole()
    assert caplog.messages == ["Scores of whole rankings: counted from float32 products on cuda:1"]


def test_gpus_are_counted_where_faiss_has_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(faiss_flat, "import_faiss", lambda: PretendedGpus(3))
    assert faiss_flat.gpus_of_faiss() == 3
    without = SimpleNamespace(get_num_gpus=lambda: 3)  # as FAISS is built for the CPU
    monkeypatch.setattr(faiss_flat, "import_faiss", lambda: without)
    assert faiss_flat.gpus_of_faiss() == 0


@pytest.mark.parametrize("measure", ["inner_product", "cosine", "euclidean"])
def test_the_error_of_faiss_by_its_formula(measure: Any) -> None:
    rng = np.random.default_rng(0)
    gallery, queries = (rng.normal(0, s, (n, 30)).astype(np.float32) for s, n in ((2, 50), (3, 4)))
    flat = FaissFlat(gallery, measure)
    roundoff = 2.0**-24
    gamma = 1.001 * 32 * roundoff / (1 - 32 * roundoff)
    longest = np.linalg.norm(gallery.astype(np.float64), axis=1).max()
    mine = np.linalg.norm(queries.astype(np.float64), axis=1)
    lost = 30 * 2.0**-126
    expected = {
        "inner_product": gamma * mine * longest + lost,
        "cosine": np.full(4, gamma + lost + 4.1 * roundoff),
        "euclidean": gamma * (mine + longest) ** 2 + lost,
    }[measure]
    found = flat.candidates(queries, np.full(4, 3))
    worst = np.array([flat._search(flat._comparable(queries), 7)[0][:, -1]]).ravel().astype(float)
    bound = (
        -np.sqrt(np.maximum(worst - expected, 0)) if measure == "euclidean" else worst + expected
    )
    np.testing.assert_allclose(found.bound, bound, rtol=1e-12)
    if measure == "inner_product":
        np.testing.assert_allclose(found.error, expected, rtol=1e-12)
    else:
        assert found.score is None
        assert found.error is None
    known = FaissFlat(gallery, measure, longest=2 * longest)
    assert known.longest == 2 * longest
    whole = flat.candidates(queries, np.array([46, 20, 46, 50]))
    assert np.isneginf(whole.bound).tolist() == [True, False, True, True]


@pytest.mark.parametrize(("factor", "known"), [(0.99, True), (1.01, False)])
def test_sums_that_may_overflow_are_not_known(factor: float, known: bool) -> None:
    vectors = np.array([[1e19, 0], [0, 1e10]], np.float32)
    vectors *= np.float32(np.sqrt(factor))  # the largest product is `factor` times 1e38
    found = FaissFlat(vectors).candidates(vectors, np.array([2, 2]))
    assert np.isfinite(found.error).tolist() == [known, True]
    assert np.isneginf(found.bound).tolist() == [known, True]


def test_queries_of_very_different_depth_are_asked_apart() -> None:
    depth = np.array([1, 900, 3, 2, 511, 512, 1023, 8, 7])
    parts = [(rows.tolist(), most) for rows, most in faiss_flat._of_similar_depth(depth)]
    assert parts == [([0], 1), ([2, 3], 3), ([8], 7), ([7], 8), ([4], 511), ([1, 5, 6], 1023)]


def test_candidates_of_different_depths_are_in_order_of_the_query() -> None:
    vectors = clusters().vectors
    depth = np.array([100, 1, 30, 1, 100])
    found = FaissFlat(vectors).candidates(vectors[:5], depth)
    assert found.query.dtype == found.row.dtype == np.int64
    assert np.bincount(found.query).tolist() == [104, 5, 34, 5, 104]
    assert np.all(np.diff(found.query) >= 0)
    assert found.score is not None
    for query in range(5):
        scores = found.score[found.query == query]
        assert np.all(np.diff(scores) <= 0)
        exact = vectors[found.row[found.query == query]] @ vectors[query]
        np.testing.assert_allclose(scores, exact, atol=1e-5)


def test_vectors_at_length_1() -> None:
    vectors = np.array([[3, 4], [0, 0], [1e-20, 0]], np.float32)
    assert faiss_flat.unit(vectors).tolist() == [
        [pytest.approx(0.6), pytest.approx(0.8)], [0, 0], [pytest.approx(1e-8), 0],
    ]  # fmt: skip
    assert faiss_flat.unit(vectors).dtype == np.float32
    assert faiss_flat.lengths_of(vectors[:1] * np.float32(1e25)).tolist() == [pytest.approx(5e25)]
    assert faiss_flat.lengths_of(vectors).dtype == np.float64


def test_faiss_tells_less(monkeypatch: pytest.MonkeyPatch) -> None:
    logging.getLogger("faiss.loader").setLevel(logging.INFO)
    faiss_flat.import_faiss.cache_clear()
    faiss_flat.import_faiss()
    assert logging.getLogger("faiss.loader").level == logging.WARNING
    faiss_flat.import_faiss.cache_clear()

    def lacking() -> None:
        raise ImportError

    monkeypatch.setattr(faiss_flat, "faiss_module", lacking)
    with pytest.raises(InputError) as caught:
        faiss_flat.import_faiss()
    assert str(caught.value) == (
        'searching needs FAISS: pip install "lookalike[cpu]", or "lookalike[gpu]" for an NVIDIA '
        "GPU (never both)"
    )
