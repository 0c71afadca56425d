"""The front door: README is short and true, and every page is found from the index."""

import re
import tomllib
from pathlib import Path
from urllib.parse import unquote

import pytest
import yaml

from flows.verbs import VERBS

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
README = (ROOT / "README.md").read_text(encoding="utf-8")
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
LONGEST = 120
"""Lines of README.md: an engineer in a hurry reads no more."""
LINK = re.compile(r"\]\(([^)#\s]+)")


def linked(page):
    """Return the files that a page links to."""
    targets = LINK.findall(page.read_text(encoding="utf-8"))
    return {(page.parent / target).resolve() for target in targets if "://" not in target}


def test_readme_is_short():
    assert len(README.splitlines()) <= LONGEST, f"README.md has at most {LONGEST} lines; what is more goes to docs/"


@pytest.mark.parametrize("page", sorted(DOCS.rglob("*.md")), ids=lambda page: str(page.relative_to(DOCS)))
def test_the_index_links_every_page(page):
    assert page == DOCS / "README.md" or page in linked(DOCS / "README.md"), (
        f"docs/README.md does not link {page.relative_to(ROOT)}"
    )


@pytest.mark.parametrize("picture", sorted(DOCS.rglob("*.png")) + sorted(DOCS.rglob("*.svg")), ids=lambda picture: picture.name)
def test_every_picture_is_shown(picture):
    pages = [ROOT / "README.md", *DOCS.rglob("*.md")]
    assert any(picture in linked(page) for page in pages), f"no page shows {picture.relative_to(ROOT)}: take it away"


def test_every_command_that_a_page_tells_to_type_is_a_verb():
    pages = [ROOT / "README.md", *DOCS.glob("*.md")]
    told = {
        (page.name, verb) for page in pages for verb in re.findall(r"(?:`|^)make ([a-z][a-z-]*)", page.read_text("utf-8"), re.M)
    }
    wrong = sorted(f"{name}: make {verb}" for name, verb in told if verb not in VERBS)
    assert not wrong, f"flows/verbs.py has no such verb: {wrong}"


def test_readme_links_the_index():
    assert DOCS / "README.md" in linked(ROOT / "README.md")


def anchors(page):
    """Return the anchors of a page's headings, as GitHub makes them."""
    heads = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", head.lower()).replace(" ", "-") for head in heads}


def test_links_to_headings_find_them():
    pages = [ROOT / "README.md", *DOCS.rglob("*.md")]
    links = [
        (page, *found) for page in pages for found in re.findall(r"\]\(([^)#:]*)#([^)]+)\)", page.read_text(encoding="utf-8"))
    ]
    wrong = [
        f"{page.relative_to(ROOT)} links to {target}#{anchor}"
        for page, target, anchor in links
        if anchor not in anchors(page.parent / target if target else page)
    ]
    assert not wrong, "\n".join(wrong)
    assert anchors(DOCS / "formats.md") >= {"what-a-method-needs"}


def test_the_badges_are_true():
    badges = [unquote(badge) for badge in re.findall(r"img\.shields\.io/badge/([^)\s]+)", README)]
    low, high = re.fullmatch(r">=3\.(\d+),<3\.(\d+)", PROJECT["requires-python"]).groups()
    assert badges == [f"python-3.{low} to 3.{int(high) - 1}-blue", f"licence-{PROJECT['license'].replace('-', '--')}-blue"]


def test_the_licence_is_one_everywhere():
    text = (ROOT / "LICENSE").read_text(encoding="utf-8")
    assert PROJECT["license"] == "Apache-2.0" and PROJECT["license-files"] == ["LICENSE"]
    assert text.lstrip().startswith("Apache License\n") and "END OF TERMS AND CONDITIONS" in text


def test_the_citation_agrees_with_the_package():
    cited = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert (cited["title"], cited["version"], cited["license"]) == (PROJECT["name"], PROJECT["version"], PROJECT["license"])
    assert cited["authors"] == PROJECT["authors"]
    assert "doi" not in cited, "a DOI is given by an archive, never invented"
