"""The page in a real browser: no request, no complaint, nothing wider than the screen, and nothing that axe-core objects to."""

import pytest

from posttrain.comparison.markdown import printable_all
from tasks.comparison.drawing import draw_figures
from tasks.comparison.page import render_page
from tests.fabricated_comparison import SIX, comparison, hostile
from tests.tasks.comparison.browser import axe_source, browser, chromium

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(chromium() is None, reason="no Chromium here: install the package chromium, or name one in CHROMIUM"),
]


@pytest.fixture(scope="module")
def pages(tmp_path_factory):
    """A page with every section, and one of hostile texts."""
    folder = tmp_path_factory.mktemp("pages")
    made = {"whole": comparison({name: SIX[name] for name in ("sft", "rlhf", "reft")}, seeds=2), "hostile": hostile()}
    for one in made["whole"]["methods"]:
        for curve in one["learning"]:
            curve["points"] = curve["points"][::10]
    figures = draw_figures(printable_all(made["whole"]))
    for name, one in made.items():
        shown = printable_all(one)
        (folder / f"{name}.html").write_text(render_page(shown, figures), encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def tab():
    with browser() as opened:
        yield opened


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 768, 1440])
@pytest.mark.parametrize("name", ["whole", "hostile"])
def test_nothing_is_asked_for_nothing_complains_nothing_overflows(pages, tab, name, width, scheme):
    page = pages / f"{name}.html"
    tab.open(page, width=width, scheme=scheme)
    assert tab.run("document.documentElement.scrollWidth") <= width
    assert tab.requests == [page.resolve().as_uri()] and tab.complaints == []
    source = axe_source()
    if source is None:
        pytest.skip("axe-core is not installed here: install axe-core-python, or name its JavaScript in AXE")
    tab.run(f"{source};0")
    told = "[told.passes.length, told.violations.map(one => `${one.id}: ${one.nodes.map(node => node.html).join()}`)]"
    passes, found = tab.run(f"axe.run().then(told => {told})")
    assert passes > 20 and found == []


def test_it_reads_well_without_javascript(pages, tab):
    tab.open(pages / "whole.html", width=1440, scripts=False)
    size = tab.call("Page.getLayoutMetrics")["cssContentSize"]
    assert size["width"] <= 1440 and size["height"] > 4_000 and tab.complaints == []


def test_the_answers_are_searched_and_the_tables_sorted(pages, tab):
    tab.open(pages / "whole.html", width=1440)
    search = "document.getElementById('search')"
    tab.run(f"{search}.value = 'HAS 3 APPLES'; {search}.dispatchEvent(new Event('input'))")
    assert tab.run("document.querySelectorAll('article:not([hidden])').length") == 1
    assert tab.run("document.querySelector('output').textContent") == "1 of 8 questions"
    column = "[...document.querySelectorAll('#table-results tbody tr')].map(row => Number(row.cells[2].dataset.order))"
    head = "document.querySelector('#table-results thead').rows[0].cells[2]"
    tab.run(f"{head}.querySelector('button').click()")
    assert tab.run(column) == sorted(tab.run(column)) and tab.run(f"{head}.getAttribute('aria-sort')") == "ascending"
    tab.run(f"{head}.querySelector('button').click()")
    assert tab.run(column) == sorted(tab.run(column), reverse=True)


def test_a_phone_has_its_own_figures(pages, tab):
    seen = "[...document.querySelectorAll('.chart')].filter(one => one.offsetParent).map(one => one.className)"
    for width, kind in ((390, "chart narrow"), (1440, "chart wide")):
        tab.open(pages / "whole.html", width=width)
        assert set(tab.run(seen)) == {kind}


def test_it_prints(pages, tab, tmp_path):
    tab.open(pages / "whole.html", width=1440, scheme="dark")
    tab.pdf(tmp_path / "page.pdf")
    assert (tmp_path / "page.pdf").read_bytes().startswith(b"%PDF")
