"""Draws the picture of docs/serve.md: the page on drawn flowers, after a click on one of them.

lookalike index build images=drawn out=flowers.index model=mobilenet_v2
lookalike serve index=flowers.index
python docs/serve_screenshot.py http://127.0.0.1:8000 docs/serve.jpg
"""

import shutil
import sys

from playwright.sync_api import sync_playwright


def main(address: str, picture: str) -> None:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=shutil.which("chromium"), args=["--no-sandbox"]
        )
        size = {"width": 1280, "height": 860}
        page = browser.new_page(viewport=size, device_scale_factor=1.5)  # type: ignore[arg-type]
        page.goto(address)
        page.locator(".card .open").nth(1).click()
        page.wait_for_selector(".rank")
        page.wait_for_load_state("networkidle")
        page.screenshot(path=picture, type="jpeg", quality=82)


if __name__ == "__main__":
    main(*sys.argv[1:])
