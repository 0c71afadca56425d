"""Style, policy and template of a page of ours: one file that needs no network, and no JavaScript but its own."""

import base64
import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from tasks.pages.svg import as_svg
from tasks.pages.theme import NARROW, WIDE, css_of_figures, css_variables

HERE = Path(__file__).parent


@dataclass(frozen=True)
class Figure:
    """A figure as SVG for a desk and for a phone, and what its marks mean."""

    wide: str
    narrow: str
    key: str


def drawn(make: Callable[[int], Any], *, name: str, says: str, key: str) -> Figure:
    """Return a figure for both widths.

    Args:
        make: returns a chart of altair of a width in pixels.
        name: unique on the page.
        says: what the figure shows, in words with numbers.
        key: what its marks mean.
    """
    wide, narrow = (as_svg(partial(make, width), name=f"{name}-{width}", says=says) for width in (WIDE, NARROW))
    return Figure(wide, narrow, key)


def rendered(folder: Path, template: str, *, script: str = "", **given: Any) -> str:
    """Return a page: a template of `folder` with style, script and the policy that admits these two and nothing else.

    Args:
        folder: of the template; `sections.html.j2` of this folder may be imported in it.
        template: name of its file.
        script: JavaScript of the page; "" for none, which the policy then refuses altogether.
        given: what else the template reads.
    """
    # jinja2 is not needed by any other verb's start
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader([folder, HERE]), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    look = style()
    policy = f"default-src 'none'; style-src {_digest(look)}; "
    policy += f"script-src {_digest(script)}; " if script else ""
    policy += "img-src data:; base-uri 'none'; form-action 'none'"
    text: str = environment.get_template(template).render(policy=policy, style=look, script=script, **given)
    return text


def style() -> str:
    """Return the CSS of every page, with the colours of a light and of a dark one."""
    light, dark = css_variables()
    text = (HERE / "page.css").read_text(encoding="utf-8")
    return (
        f":root{{color-scheme:light;{light}}}\n"
        # paper is white whatever the reader's screen is
        f"@media screen and (prefers-color-scheme:dark){{:root{{color-scheme:dark;{dark}}}}}\n{text}\n{css_of_figures()}\n"
    )


def _digest(text: str) -> str:
    """Return the digest by which a content security policy admits an inline style or script."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"
