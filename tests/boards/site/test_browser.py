"""The site in a real browser: what a reader clicks, types and hears."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

AXE = Path(__file__).resolve().parents[2] / "support" / "vendored" / "axe.min.js"
WAIT = 60_000  # a busy machine


class Visit:
    """A page that keeps what it said and asked for."""

    def __init__(self, context: Any, root: Path) -> None:
        self.page = context.new_page()
        self.page.set_default_timeout(WAIT)
        self.root = root
        self.said: list[str] = []
        self.asked: list[str] = []
        self.page.on("console", lambda message: self.said.append(message.text))
        self.page.on("pageerror", lambda error: self.said.append(str(error)))
        self.page.on("request", lambda request: self.asked.append(request.url))

    def go(self, name: str, fragment: str = "") -> Any:
        self.page.goto(f"{(self.root / 'site' / name).as_uri()}{fragment}")
        self.ready()
        return self.page

    def ready(self) -> None:
        self.page.wait_for_selector("html[data-ready=yes]", state="attached")

    def names(self, family: str = "faithful", part: str = "tbody") -> list[str]:
        """Return the names in the first visible table of a family."""
        block = self.page.locator(f".block:visible section[data-family={family}]").first
        return [text.strip() for text in block.locator(f"{part} tr[data-name]:visible th[scope=row]").all_inner_texts()]

    def shown_tables(self) -> list[str]:
        return self.page.locator(".block:visible > h2").all_inner_texts()


@pytest.fixture
def visit(browser: Any, made: Path) -> Iterator[Visit]:
    context = browser.new_context(viewport={"width": 1280, "height": 900})
    one = Visit(context, made)
    yield one
    context.close()
    assert one.said == [], "the pages said something on the console"
    outside = [address for address in one.asked if not address.startswith((made.as_uri(), "data:,"))]
    assert outside == [], "the pages asked for something from elsewhere"


def test_sorting_by_a_column_orders_the_methods_and_leaves_the_controls_at_the_foot(visit: Visit) -> None:
    page = visit.go("index.html")
    assert visit.names() == ["alpha", "beta", "gamma", "delta"]
    controls = visit.names(part="tfoot")
    head = page.locator("section[data-family=faithful]").first.locator("thead th button").nth(1)
    head.click()
    assert visit.names() == ["delta", "gamma", "beta", "alpha"]
    head.click()
    assert visit.names() == ["alpha", "beta", "gamma", "delta"]
    assert page.locator("section[data-family=faithful]").first.locator("th[aria-sort=descending]").count() == 1
    assert visit.names(part="tfoot") == controls == ["oracle", "random", "inverted:oracle"]
    # What a row says moves with it.
    row = page.locator("section[data-family=faithful]").first.locator("tbody tr").first
    assert row.locator("th a").get_attribute("href") == "cells/net-a/faces-pad/alpha.html"
    assert row.locator("svg path").count() >= 2


def test_sorting_by_keyboard(visit: Visit) -> None:
    page = visit.go("index.html")
    button = page.locator("section[data-family=faithful]").first.locator("thead th button").nth(0)
    button.focus()
    page.keyboard.press("Enter")
    page.keyboard.press("Enter")
    assert visit.names() == ["gamma", "delta", "beta", "alpha"]


def test_filters_choose_rows_and_tables_and_change_no_rank(visit: Visit) -> None:
    page = visit.go("index.html")
    table = page.locator("section[data-family=faithful]").first
    ranks = dict(zip(visit.names(), table.locator("tbody td:nth-child(2) .rank").all_inner_texts(), strict=True))
    page.select_option("select[name=uses]", "gradients")
    assert visit.names() == ["beta", "gamma"]
    assert visit.names(part="tfoot") == ["oracle", "random", "inverted:oracle"]
    left = table.locator("tbody tr:visible td:nth-child(2) .rank")
    assert left.all_inner_texts() == [ranks["beta"], ranks["gamma"]]
    page.select_option("select[name=uses]", "")
    page.select_option("select[name=task]", "synthetic-detection")
    assert visit.shown_tables() == ["net-b on faces-synthetic-detection"]
    page.select_option("select[name=family]", "truth")
    assert page.locator("section[data-family]:visible").count() == 1
    page.select_option("select[name=cost]", "0.01")
    assert visit.names("truth") == ["alpha", "beta"]
    page.fill("input[name=name]", "ALP")
    assert visit.names("truth") == ["alpha"]
    page.click("button[type=reset]")
    assert len(visit.shown_tables()) == 2


def test_a_filter_stands_in_the_address_and_back_undoes_it(visit: Visit) -> None:
    page = visit.go("index.html")
    page.select_option("select[name=task]", "pad")
    page.select_option("select[name=uses]", "scores")
    assert page.evaluate("location.hash") == "#task=pad&uses=scores"
    page.go_back()
    assert page.evaluate("location.hash") == "#task=pad"
    assert visit.names() == ["alpha", "beta", "gamma", "delta"]
    page.go_back()
    assert len(visit.shown_tables()) == 2
    page.go_forward()
    assert visit.shown_tables() == ["net-a on faces-pad"]


def test_a_link_with_filters_and_an_order_opens_as_it_was_sent(visit: Visit) -> None:
    page = visit.go("index.html")
    page.select_option("select[name=task]", "pad")
    page.locator("section[data-family=faithful]").first.locator("thead th button").nth(1).click()
    sent = page.evaluate("location.hash")
    page.goto("about:blank")
    visit.go("index.html", sent)
    assert visit.shown_tables() == ["net-a on faces-pad"]
    assert visit.names() == ["delta", "gamma", "beta", "alpha"]
    assert page.input_value("select[name=task]") == "pad"
    page.click("button[type=reset]")
    assert visit.names() == ["alpha", "beta", "gamma", "delta"]


@pytest.mark.parametrize(
    "fragment", ["#task=nowhere&sort=x.y.z", "#sort=theme.0.asc", "#name=%3Cb%3E", "#%%%", "#cost=-1", "#main"]
)
def test_an_address_with_nonsense_does_no_harm(visit: Visit, fragment: str) -> None:
    visit.go("index.html", fragment)
    assert visit.page.locator("h1").inner_text().startswith("made")


def test_board_to_sample_in_three_clicks_and_back(visit: Visit) -> None:
    page = visit.go("index.html")
    page.click("h2 a >> text=net-a")
    visit.ready()
    page.click("tbody th a >> text=beta")
    visit.ready()
    page.click("tbody th a >> text=sample-001")
    visit.ready()
    assert page.locator("h1").inner_text() == "sample-001"
    assert page.locator("section.card:target h2").inner_text() == "beta"
    assert page.evaluate("[...document.images].every(i => i.loading === 'lazy' || i.naturalWidth > 0)")
    page.go_back()
    page.go_back()
    page.go_back()
    visit.ready()
    assert page.locator("h1").inner_text().startswith("made")


def test_the_other_table_is_opened_with_the_same_filters(visit: Visit) -> None:
    page = visit.go("tables/net-a--faces-pad.html", "#uses=gradients")
    page.select_option("select[name=table]", label="net-b on faces-synthetic-detection")
    page.wait_for_url("**/net-b--*")
    visit.ready()
    assert page.evaluate("location.hash") == "#uses=gradients"
    assert visit.names() == ["beta", "gamma"]


def test_a_column_tells_its_protocol_on_hover_and_on_focus(visit: Visit) -> None:
    page = visit.go("index.html")
    head = page.locator("section[data-family=faithful] th.tipped").first
    tip = head.locator(".tip")
    assert not tip.is_visible()
    head.hover()
    assert "higher is better" in tip.inner_text()
    assert "Question 0?" in tip.inner_text()
    page.keyboard.press("Escape")
    assert not tip.is_visible()
    head.locator("button").focus()
    assert tip.is_visible()
    assert "audit: judges" in tip.inner_text()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_light_and_dark_follow_the_system_until_somebody_chooses(browser: Any, made: Path, scheme: str) -> None:
    context = browser.new_context(color_scheme=scheme)
    one = Visit(context, made)
    page = one.go("index.html")

    def ground() -> int:
        return int(page.evaluate("getComputedStyle(document.body).backgroundColor").split("(")[1].split(",")[0])

    assert (ground() > 128) == (scheme == "light")
    page.click("#theme")
    assert (ground() > 128) == (scheme == "dark")
    one.go("cells/net-a/faces-pad/alpha.html")
    assert (ground() > 128) == (scheme == "dark"), "the choice holds on the next page"
    context.close()


PAGES = [
    "index.html",
    "tables/net-a--faces-pad.html",
    "explainers/alpha.html",
    "cells/net-a/faces-pad/alpha.html",
    "samples/net-a/faces-pad/sample-001.html",
]


@pytest.mark.parametrize("name", PAGES)
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing_serious(browser: Any, made: Path, name: str, scheme: str) -> None:
    context = browser.new_context(color_scheme=scheme, viewport={"width": 1280, "height": 900})
    page = Visit(context, made).go(name)
    page.add_script_tag(content=AXE.read_text(encoding="utf-8"))
    found = page.evaluate("axe.run(document, {resultTypes: ['violations']})")
    serious = [
        (one["id"], one["help"], [node["html"][:200] for node in one["nodes"][:3]])
        for one in found["violations"]
        if one["impact"] in ("serious", "critical")
    ]
    context.close()
    assert serious == [], json.dumps(serious, indent=1)


@pytest.mark.parametrize("name", PAGES)
def test_a_phone_scrolls_no_page_sideways(browser: Any, made: Path, name: str) -> None:
    context = browser.new_context(viewport={"width": 390, "height": 800})
    page = Visit(context, made).go(name)
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    context.close()


def test_without_scripts_the_tables_are_there(browser: Any, made: Path) -> None:
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto((made / "site" / "index.html").as_uri())
    assert page.locator("section[data-family=faithful]").first.locator("tbody tr").count() == 4
    assert not page.locator("#filters").is_visible()
    context.close()


def test_on_paper_the_filters_are_gone_and_the_numbers_stay(visit: Visit) -> None:
    page = visit.go("index.html")
    page.emulate_media(media="print")
    assert not page.locator("#filters").is_visible()
    assert page.locator("tbody .n").first.is_visible()
