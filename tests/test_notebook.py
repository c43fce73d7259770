"""What objects show in a notebook: numbers and thumbnails, with every text escaped."""

import json
from base64 import b64decode
from html.parser import HTMLParser
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from lookalike.data.records import Records
from lookalike.inference.hits import Hit, Hits
from lookalike.notebook import beside, captioned, paragraph, table, thumbnail
from lookalike.reports.saved import read_run
from lookalike.reports.tables import Table
from lookalike.retrieval.embeddings import Embeddings
from lookalike.retrieval.neighbours import Gallery, Neighbours
from lookalike.retrieval.ranks import Ranks, rank_relevant

EVIL = '"><script>alert(1)</script>'
VOID = ("img", "br")


class Read(HTMLParser):
    """Texts, tags and pictures of HTML; every tag is closed in its turn."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.texts: list[str] = []
        self.tags: list[str] = []
        self.sources: list[str] = []
        self.open: list[str] = []
        self.feed(html)
        assert not self.open
        assert "script" not in self.tags

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.sources += [value or "" for name, value in attrs if name == "src"]
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.texts.append(data)

    def sizes(self) -> list[tuple[int, int]]:
        heads, data = zip(*(source.split(",") for source in self.sources), strict=True)
        assert set(heads) == {"data:image/jpeg;base64"}
        return [Image.open(BytesIO(b64decode(each))).size for each in data]


@pytest.fixture(scope="module")
def embeddings() -> Embeddings:
    vectors = np.random.default_rng(0).normal(size=(12, 3)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    return Embeddings(vectors, np.arange(12) // 3, np.arange(100, 112), fingerprint="0f" * 8)


def test_parts_are_escaped_and_small() -> None:
    picture = Image.new("RGBA", (400, 200), "red")
    shown = captioned(thumbnail(picture, EVIL), [EVIL, "second"])
    read = Read(beside([shown, paragraph(EVIL), table([EVIL], [[EVIL]])]))
    assert read.sizes() == [(112, 56)]
    assert picture.size == (400, 200)
    assert read.texts.count(EVIL) == 4
    assert len(shown) < 4000


def test_embeddings(embeddings: Embeddings) -> None:
    read = Read(embeddings._repr_html_())
    assert read.texts[0] == (
        "12 embeddings of 3 dimensions, 4 classes, by the network 0f0f0f0f0f0f0f0f"
    )
    assert "104" in read.texts
    assert "105" not in read.texts  # the first five
    assert f"{embeddings.vectors[0, 0]:.3f}, " in read.texts[6]
    assert "0 embeddings" in embeddings[:0]._repr_html_()


def test_neighbours(embeddings: Embeddings) -> None:
    (found,) = Gallery(embeddings).search(embeddings, k=20)
    read = Read(found._repr_html_())
    cells = [text for text in read.texts if ": " in text and "nearest" not in text]
    assert len(cells) == 25
    similarity = embeddings.vectors @ embeddings.vectors.T
    for cell, (query, place) in zip(cells, np.ndindex(5, 5), strict=True):
        found_id, score = cell.removesuffix(" ✓").split(": ")
        row = int(found_id) - 100
        assert float(score) == pytest.approx(similarity[query, row], abs=6e-4)
        assert cell.endswith("✓") == (query // 3 == row // 3)
        others = np.delete(similarity[query], query)
        assert float(score) == pytest.approx(np.sort(others)[::-1][place], abs=6e-4)
    short = Gallery(embeddings[:2]).search(embeddings[:2], k=3)
    assert "<td>-</td>" in next(iter(short))._repr_html_()


def test_ranks(embeddings: Embeddings) -> None:
    blocks = list(rank_relevant(embeddings, embeddings))
    ranks = blocks[0][1]
    read = Read(ranks._repr_html_())
    assert read.texts[0] == f"ranks of the relevant items of {len(ranks.n_relevant)} queries"
    first = ranks.rank[ranks.query == 0].tolist()
    assert ", ".join(map(str, first)) in read.texts
    empty = np.zeros(0, np.int64)
    assert "0 queries" in Ranks(empty, empty, empty)._repr_html_()


def test_records_show_an_image_of_each_class(tmp_path: Path) -> None:
    files = [tmp_path / f"{name}.png" for name in "abc"]
    for file in files[:2]:
        Image.new("RGB", (300, 100)).save(file)
    records = Records.create(files, ["bed", EVIL, "sofa"])
    read = Read(records._repr_html_())
    assert read.texts[0] == "3 images of 3 classes"
    assert read.sizes() == [(112, 37), (112, 37)]
    assert {"bed", EVIL, "sofa", "missing"} <= set(read.texts)


def test_hits_without_pictures_and_with_odd_names() -> None:
    hits = Hits([[Hit(1, f"a/{EVIL}", EVIL, 0.5, 1)], []], [EVIL, "q"])
    read = Read(hits._repr_html_())
    assert EVIL in read.texts
    assert "no match" in read.texts
    assert not read.sources


def test_a_table_with_its_notes() -> None:
    read = Read(Table(["loss", "recall@1"], [["a | b", "0.5"]], notes=["± & <b>"])._repr_html_())
    assert read.texts == ["loss", "recall@1", "a | b", "0.5", "± & <b>"]


def test_a_run_shows_scores_and_pictures(tmp_path: Path) -> None:
    scores = {"test/recall_at_1": 0.75, "epoch_0/test/recall_at_1": 0.5, "test/queries": 40}
    (tmp_path / "metrics.json").write_text(json.dumps({**scores, "epoch": 3}))
    Image.new("RGB", (1000, 500)).save(tmp_path / "curves.png")
    read = Read(read_run(tmp_path)._repr_html_())
    assert read.texts[0] == tmp_path.name
    shown = [text for text in read.texts[1:] if text != "curves.png"]
    assert shown == [
        "test", "before training", "epoch 3", "recall@1", "0.5000", "0.7500", "queries", "40",
    ]  # fmt: skip
    assert read.sizes() == [(320, 160)]


def cells(kind: str, *texts: str) -> str:
    return "<tr>" + "".join(f"<{kind}>{text}</{kind}>" for text in texts) + "</tr>"


def test_what_is_shown_of_embeddings_word_by_word() -> None:
    vectors = np.full((6, 5), 0.25, np.float32)
    vectors[:, 1] = -0.5
    some = Embeddings(vectors, np.arange(6) // 3, np.arange(6) + 10)
    lines = [cells("td", str(n + 10), str(n // 3), "0.250, -0.500, 0.250, 0.250, ...")
             for n in range(5)]  # fmt: skip
    assert some._repr_html_() == (
        "<p>6 embeddings of 5 dimensions, 2 classes</p><table>"
        + cells("th", "id", "label", "vector") + "".join(lines) + "</table>"
    )  # fmt: skip


def test_what_is_shown_of_neighbours_word_by_word() -> None:
    for queries, k in ((2, 3), (7, 8)):
        ids = np.arange(queries * k).reshape(queries, k)
        scores = np.full((queries, k), 0.5, np.float32)
        relevant = ids % 2 == 0
        ids[0, 2], scores[0, 2] = -1, -np.inf
        found = Neighbours(ids, scores, relevant, np.ones(queries, np.int64))
        lines = [
            cells(
                "td", str(query),
                *(
                    "-" if ids[query, place] < 0
                    else f"{ids[query, place]}: 0.500{' ✓' if relevant[query, place] else ''}"
                    for place in range(min(k, 5))
                ),
            )
            for query in range(min(queries, 5))
        ]  # fmt: skip
        head = cells("th", "query", *(str(place + 1) for place in range(min(k, 5))))
        assert found._repr_html_() == (
            f"<p>the {k} nearest of {queries} queries: id, cosine similarity, ✓ where it is "
            f"relevant</p><table>{head}{''.join(lines)}</table>"
        )


def test_what_is_shown_of_ranks_word_by_word() -> None:
    query = np.repeat(np.arange(7), [1, 0, 2, 12, 1, 1, 1])
    rank = np.concatenate([[4], [1, 3], np.arange(12) + 1, [2], [2], [2]])
    ranks = Ranks(query, rank, np.array([1, 3, 2, 12, 1, 1, 1]))
    lines = [
        cells("td", "0", "1", "4"), cells("td", "1", "3", ""), cells("td", "2", "2", "1, 3"),
        cells("td", "3", "12", "1, 2, 3, 4, 5, 6, 7, 8, 9, 10"), cells("td", "4", "1", "2"),
    ]  # fmt: skip
    assert ranks._repr_html_() == (
        "<p>ranks of the relevant items of 7 queries</p><table>"
        + cells("th", "query", "relevant items", "at the ranks") + "".join(lines) + "</table>"
    )  # fmt: skip
