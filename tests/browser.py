"""A headless browser without a network, and what it can tell of a page."""

import contextlib
import os
import shutil
from pathlib import Path

import pytest
from playwright.sync_api import sync_playwright

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
# What a browser asks the network for by itself is switched off, so that a request is the page's.
FLAGS = (
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
    "--host-resolver-rules=MAP * ~NOTFOUND",
)  # fmt: skip
REQUIRED = "TUTORIAL_REQUIRES_BROWSER"  # set where these tests must not be skipped


@contextlib.contextmanager
def chromium():
    """A browser; skips the test where there is none."""
    path = next(filter(None, map(shutil.which, NAMES)), None)
    if path is None:
        if os.environ.get(REQUIRED):
            pytest.fail(f"none of {', '.join(NAMES)} is installed")
        pytest.skip(f"none of {', '.join(NAMES)} is installed, so no page can be opened")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=FLAGS)
        yield browser
        browser.close()


@contextlib.contextmanager
def opened(browser, path, *sections, width=1280, language="en-US", scheme="light"):
    """A page from the disk, with these sections drawn or all; fails if it asks for more.

    Or if there is any complaint.
    """
    context = browser.new_context(
        viewport={"width": width, "height": 900},
        locale=language,
        color_scheme=scheme,
        offline=True,
    )
    page = context.new_page()
    complaints, requests = [], []
    page.on("console", lambda m: complaints.append(m.text) if m.type != "log" else None)
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("dialog", lambda dialog: (complaints.append(dialog.message), dialog.dismiss()))
    page.on("request", lambda request: requests.append(request.url))
    page.goto(path.as_uri())
    draw(page, *sections)
    yield page
    assert complaints == []
    assert [url for url in requests if not url.startswith("data:")] == [path.as_uri()]
    context.close()


def draw(page, *sections):
    """Draw sections, or all, in view or not, and wait for the charts."""
    names = ", ".join(map(repr, sections))
    page.evaluate(f"[{names}].forEach(drawSection)" if sections else "drawEverything()")
    page.wait_for_timeout(300)


def draw_stale(page):
    """Draw anew what was drawn and waits to come into view."""
    page.evaluate(
        "[...stale].filter((name) => document.querySelector(`#${name} .content`).hasChildNodes())"
        ".forEach(drawSection)"
    )
    page.wait_for_timeout(100)


def choose(page, section, what, place):
    """Choose an entry of a list by its place."""
    page.locator(f"#{section} [data-choose={what}]").select_option(index=place)
    draw_stale(page)


def slide(page, name, place):
    """Move a slider."""
    page.locator(f"#{name}").evaluate(
        "(range, place) => { range.value = place; range.dispatchEvent(new Event('input')); }",
        place,
    )
    page.wait_for_timeout(150)


def chart(page, name, key="z"):
    """What the first trace of a chart holds."""
    return page.evaluate(f"document.getElementById('{name}').data[0].{key}")


def texts(page):
    """All texts that can be read, charts too, without those that are tokens or data."""
    return page.evaluate(
        """() => {
          const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
          const found = [];
          while (walker.nextNode()) {
            const text = walker.currentNode.data.trim();
            const parent = walker.currentNode.parentElement;
            if (text && !parent.closest("script, style, noscript, option, [translate=no]")) {
              found.push(text);
            }
          }
          return found;
        }"""
    )


def faults(page):
    """What is wrong with the layout, in words; nothing if all is well."""
    return page.evaluate((Path(__file__).parent / "page_faults.js").read_text("utf-8"))
