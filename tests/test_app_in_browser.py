"""The page of `serve` in a real Chromium, which must be there: apt-get install chromium."""

import asyncio
import csv
import json
import re
import shutil
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import uvicorn
from playwright.sync_api import Browser, Page, expect, sync_playwright

from lookalike.app.limits import Limits
from lookalike.app.running import listener
from lookalike.app.served import named
from lookalike.app.server import create_app
from served import PER_CLASS, build_index, draw

pytestmark = pytest.mark.browser
DIGEST = re.compile("positive=image:[0-9a-f]{64}")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("page")


@pytest.fixture(scope="module")
def address(folder: Path) -> Iterator[str]:
    """A server on a free port, with two indexes of the same images by two networks."""
    indexes = named([build_index(folder), build_index(folder, "second", 5)])
    app = create_app(indexes, limits=Limits(max_pixels=1_000_000))
    with listener("127.0.0.1", 0) as opened:
        server = uvicorn.Server(uvicorn.Config(app, log_config=None))
        thread = threading.Thread(target=lambda: asyncio.run(server.serve([opened])), daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{opened.getsockname()[1]}"
        server.should_exit = True
        thread.join(10)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    path = shutil.which("chromium")
    assert path, "no Chromium: apt-get install -y chromium"
    with sync_playwright() as playwright:
        launched = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield launched
        launched.close()


@pytest.fixture
def page(browser: Browser, address: str) -> Iterator[Page]:
    """The page at 1280 px; at the end nothing was asked of other hosts and no script failed."""
    context = browser.new_context(viewport={"width": 1280, "height": 900}, base_url=address)
    opened = context.new_page()
    opened.set_default_timeout(8000)
    asked, failed = watched(opened)
    opened.goto("/")
    expect(opened.locator(".card").first).to_be_visible()
    yield opened
    context.close()
    assert all(url.startswith((address, "data:", f"blob:{address}")) for url in asked)
    assert failed == []


def watched(page: Page) -> tuple[list[str], list[str]]:
    asked: list[str] = []
    failed: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.on("pageerror", lambda error: failed.append(str(error)))
    return asked, failed


def upload(page: Page, file: Path) -> None:
    page.set_input_files("#file", file)
    page.wait_for_url(DIGEST)
    expect(page.locator(".rank").first).to_be_visible()


def until(page: Page, condition: str) -> None:
    """Wait for a condition; Playwright's own way needs eval, which the page forbids."""
    for _ in range(100):
        if page.evaluate(condition):
            return
        time.sleep(0.05)
    raise AssertionError(condition)


def first(page: Page) -> dict[str, Any]:
    return page.evaluate("document.querySelector('.card').hit")


def total(page: Page) -> str:
    return page.inner_text(".list h2")


def test_upload_click_onward_back_forward_and_reload(page: Page, folder: Path) -> None:
    assert total(page) == f"{4 * PER_CLASS} images"
    upload(page, folder / "images" / "royalblue" / "4.png")
    assert first(page)["id"] == 44
    assert first(page)["score"] > 0.999
    for step in ("decoding", "embedding", "searching"):
        assert step in page.inner_text(".times")
    page.locator(".card .open").nth(2).click()
    page.wait_for_url(re.compile("positive=shapes/"))
    expect(page.locator(".stage img")).to_have_attribute("alt", re.compile("item"))
    page.go_back()
    page.wait_for_url(DIGEST)
    expect(page.locator(".card").first).to_have_attribute("data-reference", "shapes/44")
    page.go_forward()
    page.wait_for_url(re.compile("positive=shapes/"))
    page.go_back()
    page.reload()
    expect(page.locator(".card").first).to_have_attribute("data-reference", "shapes/44")
    assert page.locator(".stage img").evaluate("image => image.complete && image.naturalWidth") > 0


def test_paste_and_drop(page: Page, folder: Path) -> None:
    data = list((folder / "images" / "goldenrod" / "3.png").read_bytes())
    give = """([kind, name, bytes]) => {
        const moved = new DataTransfer();
        moved.items.add(new File([new Uint8Array(bytes)], name, {type: "image/png"}));
        const event = kind === "paste" ? new ClipboardEvent("paste", {clipboardData: moved})
            : new DragEvent("drop", {dataTransfer: moved, bubbles: true});
        dispatchEvent(event);
    }"""
    page.evaluate(give, ["paste", "a.png", data])
    expect(page.locator(".card").first).to_have_attribute("data-reference", "shapes/63")
    data = list((folder / "images" / "crimson" / "9.png").read_bytes())
    page.evaluate(give, ["drop", "b.png", data])
    expect(page.locator(".card").first).to_have_attribute("data-reference", "shapes/9")


def test_crop_with_the_mouse_and_the_keyboard(page: Page) -> None:
    page.goto("/?positive=shapes/25")
    surface = page.locator(".surface")
    expect(page.locator(".rank").first).to_be_visible()
    area = surface.bounding_box()
    assert area
    page.mouse.move(area["x"] + area["width"] * 0.2, area["y"] + area["height"] * 0.3)
    page.mouse.down()
    page.mouse.move(area["x"] + area["width"] * 0.7, area["y"] + area["height"] * 0.8, steps=4)
    page.mouse.up()
    page.wait_for_url(re.compile("shapes/25@"))
    box = [float(edge) for edge in page.url.split("@")[1].split(",")]
    assert box == pytest.approx([0.2, 0.3, 0.7, 0.8], abs=0.02)
    expect(page.locator(".hint")).to_have_text("Searching this part.")
    page.locator(".frame").press("ArrowRight")
    page.wait_for_url(re.compile(r"@0\.2[12]"))
    page.get_by_role("button", name="Whole image").click()
    page.wait_for_url(re.compile("shapes/25$"))


def test_facets_threshold_condition_and_folding(page: Page) -> None:
    page.goto("/?positive=shapes/30")
    expect(page.locator(".rank").first).to_be_visible()
    page.get_by_role("checkbox", name="crimson").check()
    page.wait_for_url(re.compile("only=class%3Dcrimson|only=class=crimson"))
    classes = "[...document.querySelectorAll('.card')].map(card => card.hit.class_name)"
    until(page, f"new Set({classes}).size === 1")
    assert page.evaluate(f"{classes}[0]") == "crimson"
    expect(page.get_by_role("checkbox", name="seagreen")).to_be_visible()
    page.get_by_role("button", name="Clear all filters").click()
    until(page, f"new Set({classes}).size > 1")
    page.locator("#threshold").evaluate(
        "slider => { slider.value = 0.9; slider.dispatchEvent(new Event('input')); }"
    )
    page.wait_for_url(re.compile("threshold=0.9"))
    until(page, "[...document.querySelectorAll('.card')].every(c => c.hit.score >= 0.9)")
    page.get_by_role("button", name="Clear all filters").click()
    page.keyboard.press("/")
    page.keyboard.type("price < 5")
    page.keyboard.press("Enter")
    until(page, "[...document.querySelectorAll('.card')].every(c => c.hit.columns.price < 5)")
    page.locator("#where").fill("klass = 1")
    page.keyboard.press("Enter")
    expect(page.locator("#problem")).to_contain_text("Did you mean class?")
    page.goto("/?positive=shapes/30")
    more = page.locator(".copies").first
    number = int((more.text_content() or "")[1:])  # waits for it
    before = page.locator(".card").count()
    more.click()
    expect(page.locator(".card")).to_have_count(before + number)


def test_marks_by_keyboard_and_their_table(page: Page, folder: Path) -> None:
    page.goto("/?positive=shapes/25")
    expect(page.locator(".rank").first).to_be_visible()
    page.locator(".card .open").first.focus()
    page.keyboard.press("r")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("w")
    ids = page.evaluate("[...document.querySelectorAll('.card')].slice(0, 2).map(c => c.hit.id)")
    expect(page.locator(".card").nth(1)).to_have_class(re.compile("is-wrong"))
    page.locator("#open-marks").click()
    with page.expect_download() as found:
        page.get_by_role("button", name="Download as CSV").click()
    file = folder / "marks.csv"
    found.value.save_as(file)
    with open(file, newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert [(int(row["id"]), row["mark"]) for row in rows] == [(ids[0], "right"), (ids[1], "wrong")]


def test_positives_and_negatives(page: Page) -> None:
    page.goto("/?positive=shapes/25")
    expect(page.locator(".rank").first).to_be_visible()
    page.locator(".card .open").nth(1).focus()
    page.keyboard.press("+")
    page.wait_for_url(re.compile("positive=shapes/25&positive=shapes/"))
    expect(page.locator(".strip .positive")).to_have_count(2)
    page.locator(".card").nth(3).hover()
    page.locator(".card").nth(3).locator(".minus").click()
    page.wait_for_url(re.compile("negative=shapes/"))
    page.get_by_role("button", name="Remove negative example 1").click()
    expect(page.locator(".strip .negative")).to_have_count(0)


def test_two_indexes_beside_each_other(page: Page, folder: Path) -> None:
    upload(page, folder / "images" / "seagreen" / "6.png")
    page.get_by_role("button", name="Side by side").click()
    expect(page.locator(".list")).to_have_count(2)
    for name in ("shapes", "second"):
        own = page.get_by_role("region", name=name, exact=True)
        expect(own.locator(".card").first).to_have_attribute("data-reference", f"{name}/26")
    expect(page.locator(".elsewhere").first).to_have_text("#1 there")


def test_why_shows_regions(page: Page) -> None:
    page.goto("/?positive=shapes/25")
    expect(page.locator(".rank").first).to_be_visible()
    page.locator(".card .open").first.focus()
    page.keyboard.press("y")
    expect(page.locator(".seen img")).to_have_count(2)
    page.locator(".seen svg").first.hover()
    assert page.locator(".seen .hot").count() == 49
    page.keyboard.press("Escape")
    expect(page.locator("#dialog")).to_be_hidden()


def test_what_can_be_taken_away(page: Page, folder: Path) -> None:
    upload(page, folder / "images" / "seagreen" / "6.png")
    for name in ("JSON", "CSV"):
        with page.expect_download() as found:
            page.get_by_role("button", name=f"Download all hits as {name}").click()
        text = Path(found.value.path()).read_text()
        assert "seagreen/6.png" in text
        if name == "JSON":
            assert json.loads(text)["hits"][0]["id"] == 26
    page.get_by_role("button", name="Show the command").click()
    command = page.locator("dialog textarea").input_value()
    assert command.startswith("curl -F 'file=@6.png' 'http://127.0.0.1")


def test_files_that_are_no_images_or_too_large_are_explained(page: Page, folder: Path) -> None:
    text = folder / "a.png"
    text.write_text("no image")
    page.set_input_files("#file", text)
    expect(page.locator("#problem")).to_contain_text("is no image")
    large = folder / "large.png"
    draw("crimson", 2).resize((2000, 1000)).save(large)
    page.set_input_files("#file", large)
    expect(page.locator("#problem")).to_contain_text("2000 x 1000 pixels")
    upload(page, folder / "images" / "seagreen" / "6.png")
    expect(page.locator("#problem")).to_be_hidden()


def test_the_list_is_endless_and_lazy(page: Page) -> None:
    assert page.locator(".card").count() < 4 * PER_CLASS
    page.mouse.wheel(0, 20000)
    expect(page.locator(".card")).to_have_count(4 * PER_CLASS)
    assert page.locator(".card img[loading=lazy]").count() == 4 * PER_CLASS


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_on_a_phone(browser: Browser, address: str, folder: Path, theme: Any) -> None:
    phone = browser.new_context(
        viewport={"width": 420, "height": 860}, color_scheme=theme, has_touch=True, is_mobile=True,
        base_url=address,
    )  # fmt: skip
    page = phone.new_page()
    page.goto("/")
    upload(page, folder / "images" / "seagreen" / "6.png")
    page.get_by_role("button", name="Side by side").click()
    expect(page.locator(".list")).to_have_count(2)
    assert page.evaluate("document.documentElement.scrollWidth") <= 420
    ground = page.evaluate("getComputedStyle(document.body).backgroundColor")
    brightness = sum(map(int, re.findall(r"\d+", ground)[:3])) / 3
    assert (brightness > 128) == (theme == "light")
    assert page.locator("img:not([alt])").count() == 0
    phone.close()


def test_a_token_is_asked_for_once(browser: Browser, folder: Path) -> None:
    from lookalike.app.access import Door
    from lookalike.inference.index import Index

    app = create_app(named([Index.load(folder / "shapes", device="cpu")]), Door(token="secret"))
    with listener("127.0.0.1", 0) as opened:
        server = uvicorn.Server(uvicorn.Config(app, log_config=None))
        thread = threading.Thread(target=lambda: asyncio.run(server.serve([opened])), daemon=True)
        thread.start()
        page = browser.new_page()
        page.goto(f"http://127.0.0.1:{opened.getsockname()[1]}/")
        page.get_by_role("textbox", name="Token").fill("wrong")
        page.get_by_role("button", name="Open").click()
        expect(page.locator("dialog .problem")).to_contain_text("not the token")
        page.get_by_role("textbox", name="Token").fill("secret")
        page.get_by_role("button", name="Open").click()
        expect(page.locator(".card").first).to_be_visible()
        until(page, "document.querySelector('.card img').naturalWidth > 0")
        page.close()
        server.should_exit = True
        thread.join(10)


def test_cards_of_the_indexes(page: Page) -> None:
    page.get_by_role("button", name="About").click()
    expect(page.locator("dialog dd").first).to_have_text("backbone (pretrained)")
    assert "object" not in page.locator("dialog").inner_text()
