"""The page of a check in a real browser: no request, no complaint, no overflow, and nothing that axe-core objects to."""

import pytest

from posttrain.comparison.markdown import printable_all
from tasks.monitoring.page import draw_figures, render_page
from tests.tasks.comparison.browser import axe_source, browser, chromium
from tests.tasks.monitoring.checks import fallen, hostile

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(chromium() is None, reason="no Chromium here: install the package chromium, or name one in CHROMIUM"),
]
CHECKS = {"whole": fallen, "hostile": hostile}


@pytest.fixture(scope="module")
def pages(tmp_path_factory):
    """A page with every section, and one of hostile texts."""
    folder = tmp_path_factory.mktemp("pages")
    for name, made in CHECKS.items():
        shown = printable_all(made())
        (folder / f"{name}.html").write_text(render_page(shown, draw_figures(shown)), encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def tab():
    with browser() as opened:
        yield opened


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 1440])
@pytest.mark.parametrize("name", CHECKS)
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
    assert passes > 10 and found == []
