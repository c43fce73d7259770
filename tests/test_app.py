"""The API of `serve`: answers computed another way, limits, access, the queue."""

import csv
import json
import threading
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from io import BytesIO, StringIO
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from fastapi.testclient import TestClient
from PIL import Image

from lookalike.app.access import Door
from lookalike.app.facets import filter_of
from lookalike.app.limits import Limits
from lookalike.app.queue import BatchQueue, QueueFullError
from lookalike.app.running import listener
from lookalike.app.served import named
from lookalike.app.server import create_app
from lookalike.app.vectors import reduced
from lookalike.errors import InputError
from lookalike.inference.index import Index
from served import COLOURS, PER_CLASS, build_index, draw

BASE = "http://127.0.0.1:8000"
LIMITS = Limits(max_bytes=100_000, max_pixels=40_000, max_files=3, seconds=5)


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory) -> Index:
    return build_index(tmp_path_factory.mktemp("served"))


@pytest.fixture(scope="module")
def client(index: Index) -> Iterator[TestClient]:
    other = build_index(Path(index.store.folder).parent / "second", "second", 5)
    app = create_app(named([index, other]), limits=LIMITS)
    with TestClient(app, base_url=BASE) as opened:
        yield opened


def png(image: Image.Image) -> bytes:
    stream = BytesIO()
    image.save(stream, "PNG")
    return stream.getvalue()


def sent(*files: bytes) -> list[Any]:
    return [("file", (f"{number}.png", file)) for number, file in enumerate(files)]


def cosines(index: Index, query: np.ndarray) -> dict[int, float]:
    """id -> similarity, one by one."""
    ids = index.items["id"].to_pylist()
    return {each: float(np.dot(index.vector(each).astype(float), query)) for each in ids}


def test_a_search_by_an_item_ranks_all_others_by_cosine(client: TestClient, index: Index) -> None:
    found = client.get("/search", params={"positive": "shapes/25", "k": 10}).json()
    expected = cosines(index, index.vector(25).astype(float))
    del expected[25]
    scores = [hit["score"] for hit in found["hits"]]
    assert scores == pytest.approx(sorted(expected.values(), reverse=True)[:10], abs=1e-5)
    assert [hit["rank"] for hit in found["hits"]] == list(range(1, 11))
    assert found["total"] == 4 * PER_CLASS - 1
    rest = client.get("/search", params={"positive": "shapes/25", "k": 100, "offset": 10}).json()
    assert len(rest["hits"]) == 4 * PER_CLASS - 11
    assert rest["hits"][0]["rank"] == 11


def test_a_search_by_an_image_equals_that_by_its_file(client: TestClient, index: Index) -> None:
    file = index.path(7).read_bytes()
    found = client.post("/search?k=3", files=sent(file)).json()
    assert found["hits"][0]["id"] == 7
    assert found["hits"][0]["score"] == pytest.approx(1, abs=1e-5)
    assert set(found["seconds"]) == {"waiting", "decoding", "embedding", "searching"}
    again = client.get("/search", params={"positive": found["positive"], "k": 3}).json()
    assert again["hits"] == found["hits"]
    unknown = client.get("/search", params={"positive": "image:" + 64 * "0"})
    assert unknown.status_code == 410
    assert "send the image again" in unknown.json()["error"]


def test_a_box_searches_the_part_that_was_cut(client: TestClient, index: Index) -> None:
    image = Image.new("RGB", (80, 48), "white")
    image.paste(draw("crimson", 5).crop((0, 0, 40, 48)), (40, 0))
    cut = image.crop((40, 0, 80, 48))
    found = client.post("/search?positive=file:0@0.5,0,1,1&k=4", files=sent(png(image))).json()
    expected = sorted(cosines(index, index.embed([cut])[0].astype(float)).values())[::-1][:4]
    assert [hit["score"] for hit in found["hits"]] == pytest.approx(expected, abs=1e-4)


def test_several_positives_and_negatives(client: TestClient, index: Index) -> None:
    asked = {"positive": ["shapes/1", "shapes/21"], "negative": ["shapes/41"], "k": 5}
    found = client.get("/search", params=asked).json()
    one, two, no = (index.vector(each).astype(float) for each in (1, 21, 41))
    query = (one + two) / 2 - 0.25 * no
    expected = cosines(index, query / np.linalg.norm(query))
    best = sorted(set(expected) - {1, 21, 41}, key=lambda each: -expected[each])[:5]
    assert [hit["score"] for hit in found["hits"]] == pytest.approx(
        [expected[each] for each in best], abs=1e-5
    )


def test_an_item_of_another_index_is_embedded_by_this_one(client: TestClient, index: Index) -> None:
    found = client.get("/search", params={"positive": "second/7", "index": "shapes"}).json()
    assert found["hits"][0]["path"] == index.items["path"][7].as_py()
    assert found["hits"][0]["score"] == pytest.approx(1, abs=1e-5)


def test_threshold_filters_and_facets(client: TestClient, index: Index) -> None:
    asked = {
        "positive": "shapes/0", "k": 100, "threshold": 0.2, "where": "price < 30",
        "only": ["class=crimson", "class=seagreen", "kind=even"],
    }  # fmt: skip
    found = client.get("/search", params=asked).json()
    every = cosines(index, index.vector(0).astype(float))
    rows = [row for row in index.items.to_pylist() if row["id"] != 0 and every[row["id"]] >= 0.2]
    cheap = [row for row in rows if row["price"] < 30]
    kept = [row for row in cheap if row["class"] in COLOURS[:2] and row["kind"] == "even"]
    assert sorted(hit["id"] for hit in found["hits"]) == sorted(row["id"] for row in kept)
    assert found["total"] == len(kept)
    facets = {facet["column"]: facet for facet in found["facets"]}
    assert set(facets) == {"class", "price", "kind"}
    counted = {each["value"]: each["count"] for each in facets["class"]["values"]}
    assert counted == Counter(row["class"] for row in cheap if row["kind"] == "even")
    assert sum(facets["price"]["counts"]) == len(kept)


def test_near_duplicates_are_folded(client: TestClient) -> None:
    flat = client.get("/search?positive=shapes/30&k=100").json()["hits"]
    hits = client.get("/search?positive=shapes/30&k=100&fold=true").json()["hits"]
    leaders = [hit["id"] for hit in hits]
    copies = [copy for hit in hits for copy in hit["copies"]]
    assert copies
    assert sorted(leaders + copies) == sorted(hit["id"] for hit in flat)


def test_the_gallery_in_pages(client: TestClient) -> None:
    pages = [client.get(f"/items?order=mixed&k=30&offset={at}").json() for at in (0, 30, 60, 90)]
    ids = [item["id"] for page in pages for item in page["items"]]
    assert sorted(ids) == list(range(4 * PER_CLASS))
    assert len({item["class_name"] for item in pages[0]["items"]}) == 4
    only = client.get("/items?only=price=5..7&only=class=crimson").json()
    assert [item["columns"]["price"] for item in only["items"]] == [5, 6, 7]
    assert client.get("/items/shapes/5").json() == only["items"][0]


def test_hits_as_csv(client: TestClient) -> None:
    response = client.get("/search?positive=shapes/3&k=4&format=csv")
    rows = list(csv.DictReader(StringIO(response.text)))
    hits = client.get("/search?positive=shapes/3&k=4").json()["hits"]
    assert [int(row["id"]) for row in rows] == [hit["id"] for hit in hits]
    assert rows[0]["kind"] in ("even", "odd")


def test_thumbnails_are_of_the_items_only(client: TestClient) -> None:
    response = client.get("/thumbnails/shapes/3?size=32")
    image = Image.open(BytesIO(response.content))
    assert image.format == "JPEG"
    assert max(image.size) == 32
    tag = {"If-None-Match": response.headers["ETag"]}
    assert client.get("/thumbnails/shapes/3?size=32", headers=tag).status_code == 304
    for path in ("shapes/999", "nothing/3", "shapes/..%2f..%2fetc%2fpasswd"):
        assert client.get(f"/thumbnails/{path}").status_code in (404, 422)
    assert client.get("/thumbnails/shapes/3?size=100000").status_code == 422


def test_regions_compare_every_position(client: TestClient) -> None:
    found = client.get("/regions?query=shapes/3&id=3").json()
    rows, columns = found["shape"]
    similarity = np.array(found["similarity"])
    assert similarity.shape == (rows * columns, rows * columns)
    np.testing.assert_allclose(np.diag(similarity), 1, atol=2e-3)
    assert all(view.startswith("data:image/jpeg;base64,") for view in found["views"])


@pytest.mark.parametrize(
    ("method", "path", "files", "status", "words"),
    [
        ("GET", "/search", [], 422, "give an example"),
        ("GET", "/search?positive=/etc/passwd", [], 400, "no example"),
        ("GET", "/search?positive=http://example.org/a.png", [], 400, "no example"),
        ("GET", "/search?positive=shapes/1@0.5,0,0.2,1", [], 400, "is empty"),
        ("GET", "/search?positive=shapes/1@0,0,2,1", [], 400, "outside"),
        ("GET", "/search?positive=other/1", [], 404, "no index"),
        ("GET", "/search?positive=shapes/100", [], 400, "no item has the id 100"),
        ("GET", "/search?positive=shapes/1&k=-1", [], 422, "k:"),
        ("GET", "/search?positive=shapes/1&threshold=7", [], 422, "threshold:"),
        ("GET", "/search?positive=shapes/1&klass=1", [], 422, "klass"),
        ("GET", "/search?positive=shapes/1&where=klass=='a'", [], 400, "Did you mean class?"),
        ("GET", "/search?positive=shapes/1&where=price <", [], 400, "does not parse"),
        ("GET", "/search?positive=shapes/1&only=colour=red", [], 400, "only=COLUMN=VALUE"),
        ("POST", "/search", [b"a text"], 415, "is no image"),
        ("POST", "/search", [b"\x89PNG\r\n\x1a\n" + b"x" * 99], 415, "is no image"),
        ("POST", "/search", [b"x" * 200_000], 413, "200000 bytes"),
        ("POST", "/search", [png(Image.new("L", (300, 200)))], 413, "300 x 200 pixels"),
        ("POST", "/search", [png(Image.new("1", (20000, 20000)))], 413, "pixels"),
        ("POST", "/search", 4 * [png(Image.new("L", (9, 9)))], 413, "4 files"),
        ("POST", "/search?positive=file:1", [png(Image.new("L", (9, 9)))], 400, "file"),
    ],
)  # fmt: skip
@pytest.mark.filterwarnings("error")
def test_what_does_not_fit_is_said_in_a_sentence(
    client: TestClient, method: str, path: str, files: list[bytes], status: int, words: str
) -> None:
    response = client.request(method, path, files=sent(*files) if files else None)
    assert (response.status_code, set(response.json())) == (status, {"error"})
    assert words in response.json()["error"]


def test_a_truncated_image_fails_alone(client: TestClient, index: Index) -> None:
    whole = png(Image.fromarray(np.random.default_rng(0).integers(0, 255, (90, 90, 3), np.uint8)))
    response = client.post("/search", files=sent(whole[: len(whole) // 2]))
    assert response.status_code == 400
    assert "can't read the image" in response.json()["error"]
    assert client.post("/search", files=sent(whole)).status_code == 200


def test_only_its_own_names_and_pages_may_ask(client: TestClient) -> None:
    assert client.get("/health", headers={"Host": "evil.example"}).status_code == 421
    assert client.get("/health", headers={"Host": "localhost:8000"}).status_code == 200
    origin = {"Origin": "http://evil.example"}
    assert client.post("/search", headers=origin, files=sent(b"x")).status_code == 403
    own = {"Origin": BASE}
    assert client.get("/health", headers=own).status_code == 200
    lan = Door(any_address=True)
    assert lan.knows("192.168.1.7:8000")
    assert not lan.knows("evil.example:8000")
    assert not lan.knows("[broken")


def test_every_answer_has_the_headers_that_bind_browsers(client: TestClient) -> None:
    for path in ("/", "/health", "/nothing", "/page/main.js", "/search"):
        headers = client.get(path).headers
        policy = headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "unsafe" not in policy
        assert headers["x-content-type-options"] == "nosniff"
        assert "access-control-allow-origin" not in headers


def test_a_token_opens_everything_and_nothing_else_does(index: Index) -> None:
    app = create_app(named([index]), Door(token="secret-é"))
    with TestClient(app, base_url=BASE) as client:
        assert client.get("/health").status_code == 200
        assert client.get("/").status_code == 200
        for headers in ({}, {"Authorization": "Bearer wrong"}, {"Cookie": "lookalike_session=x"}):
            for path in ("/indexes", "/items", "/thumbnails/shapes/1", "/metrics", "/openapi.json"):
                assert client.get(path, headers=headers).status_code == 401, path
        bearer = {"Authorization": "Bearer secret-é".encode()}
        assert client.get("/items", headers=bearer).status_code in (200, 401)
        assert client.post("/session", json={"token": "wrong"}).status_code == 401
        opened = client.post("/session", json={"token": "secret-é"})
        assert opened.status_code == 204
        assert "HttpOnly" in opened.headers["set-cookie"]
        assert "secret" not in opened.headers["set-cookie"]
        assert client.get("/thumbnails/shapes/1").status_code == 200


def test_a_changed_index_is_served_as_it_is_now(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = build_index(tmp_path)
    monkeypatch.setattr("lookalike.app.served.LOOK_AGAIN", 0)
    with TestClient(create_app(named([own])), base_url=BASE) as client:
        assert client.get("/items").json()["total"] == 4 * PER_CLASS
        assert client.get("/thumbnails/shapes/3").status_code == 200
        Index.load(own.store.folder, device="cpu").remove(ids=[3])
        assert client.get("/items").json()["total"] == 4 * PER_CLASS - 1
        assert client.get("/thumbnails/shapes/3").status_code == 404
        hits = client.get("/search?positive=shapes/2&k=100").json()["hits"]
        assert 3 not in [hit["id"] for hit in hits]


def test_cards_health_metrics_and_openapi(client: TestClient) -> None:
    cards = client.get("/indexes").json()
    assert [card["name"] for card in cards] == ["shapes", "second"]
    assert cards[0]["fingerprint"] != cards[1]["fingerprint"]
    assert client.get("/health").json()["status"] == "ok"
    text = client.get("/metrics").text
    assert f'lookalike_items{{index="shapes"}} {4.0 * PER_CLASS}' in text
    assert 'lookalike_requests_total{route="/health",status="200"}' in text
    assert {"/search", "/items", "/regions"} <= set(client.get("/openapi.json").json()["paths"])


def test_a_wrong_method_is_told_the_right_ones(client: TestClient) -> None:
    response = client.request("OPTIONS", "/search")
    assert response.status_code == 405
    assert response.headers["allow"] == "GET, POST"


def test_the_page_names_no_other_host() -> None:
    from lookalike.app.server import PAGE

    files = sorted(PAGE.iterdir())
    assert len(files) > 20
    for file in files:
        text = file.read_text().replace("http://www.w3.org/", "").replace("http://.../", "")
        assert "http://" not in text, file
        assert "https://" not in text, file
        assert "innerHTML" not in text, file


def test_the_queue_batches_what_arrives_meanwhile() -> None:
    sizes, gate, begun = [], threading.Event(), threading.Event()

    def work(tasks: Any) -> list[int | Exception]:
        sizes.append(len(tasks))
        begun.set()
        gate.wait(5)
        return [ValueError("seven") if task == 7 else 2 * task for task in tasks]

    with BatchQueue(work, most_waiting=8, batch_size=5) as queue:
        first = queue.submit(1)
        assert begun.wait(5)
        others = [queue.submit(task) for task in range(2, 10)]
        with pytest.raises(QueueFullError) as full:
            queue.submit(10)
        assert full.value.retry_after >= 1
        others[0].cancel()
        gate.set()
        assert first.result(5) == 2
        assert [each.result(5) for each in others[1:5]] == [6, 8, 10, 12]
        with pytest.raises(ValueError, match="seven"):
            others[5].result(5)
        assert others[7].result(5) == 18
    assert sizes == [1, 4, 3]


def test_the_queue_outlives_an_error() -> None:
    def work(tasks: Any) -> list[int | Exception]:
        return [1 // task for task in tasks]

    with BatchQueue(work) as queue:
        with pytest.raises(ZeroDivisionError):
            queue.submit(0).result(5)
        assert queue.submit(1).result(5) == 1


def test_a_full_queue_is_a_503_with_a_time(index: Index, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(queue: object, task: object) -> None:
        raise QueueFullError(3)

    monkeypatch.setattr(BatchQueue, "submit", full)
    with TestClient(create_app(named([index])), base_url=BASE) as client:
        response = client.get("/search?positive=shapes/1")
    assert (response.status_code, response.headers["Retry-After"]) == (503, "3")
    assert "try again in 3 s" in response.json()["error"]


def test_names_of_indexes_are_plain_and_unique(index: Index, tmp_path: Path) -> None:
    assert list(named([index, index])) == ["shapes", "shapes_2"]
    odd = build_index(tmp_path, "my photos (2026)é")
    assert list(named([odd])) == ["my-photos-2026"]


def test_chosen_values_become_filters_that_cannot_break_out(index: Index) -> None:
    items = index.items
    text = filter_of(["class=x') or ('1'='1"], items)["class"]
    assert text == "\"class\" in ('x'') or (''1''=''1')"
    with pytest.raises(InputError, match="write a number"):
        filter_of(["price=1 or 1"], items)
    boolean = pa.table({"new": [True, False]})
    assert filter_of(["new=true", "new=false"], boolean) == {"new": '"new" in (true, false)'}
    with pytest.raises(InputError, match="only=new=1: write true or false"):
        filter_of(["new=1"], boolean)


def test_a_taken_port_is_explained() -> None:
    with listener("127.0.0.1", 0) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(InputError, match=f"port={port + 1}"):
            listener("127.0.0.1", port)


def test_limits_hold_without_an_announced_length(index: Index) -> None:
    small = replace(LIMITS, max_files=1, max_bytes=1000)
    with TestClient(create_app(named([index]), limits=small), base_url=BASE) as client:
        head = b'--b\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\n'
        chunks = (head if not number else b"x" * 50_000 for number in range(5))
        headers = {"Content-Type": "multipart/form-data; boundary=b"}
        response = client.post("/search", content=chunks, headers=headers)
    assert response.status_code == 413
    assert json.loads(response.text)["error"].startswith("the request has more than")


def test_bytes_of_all_requests_are_bounded(index: Index) -> None:
    tight = replace(LIMITS, max_held=3000)
    with TestClient(create_app(named([index]), limits=tight), base_url=BASE) as client:
        for _ in range(3):  # what was held is given back
            assert (
                client.post("/search?k=1", files=sent(png(draw("crimson", 3)))).status_code == 200
            )
        response = client.post("/search", files=sent(b"x" * 5000))
    assert (response.status_code, response.headers["Retry-After"]) == (503, "1")


def test_large_images_are_reduced_by_whole_factors() -> None:
    pixels = torch.randint(0, 256, (3, 900, 700), dtype=torch.uint8)
    small = reduced(pixels, 50)
    assert small.shape == (3, 300, 234)
    mean = pixels[:, :3, :3].float().mean((1, 2))
    np.testing.assert_allclose(small[:, 0, 0].float(), mean, atol=0.51)
    assert reduced(pixels, 100) is pixels
    assert reduced(pixels, None) is pixels


def test_an_index_that_is_empty_by_now(tmp_path: Path) -> None:
    own = build_index(tmp_path)
    file = own.path(3).read_bytes()
    own.remove(where="price >= 0")
    with TestClient(create_app(named([own])), base_url=BASE) as client:
        assert client.get("/items").json()["items"] == []
        found = client.post("/search?fold=true", files=sent(file))
        assert (found.status_code, found.json()["hits"]) == (200, [])
