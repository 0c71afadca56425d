"""A chart as SVG: the same bytes each time, a tooltip where the chart has a description, nothing that a strict policy refuses."""

import re
from collections.abc import Callable
from typing import Any
from xml.etree import ElementTree

SVG = "http://www.w3.org/2000/svg"
MARK = "§"
"""Begins a description that one of our charts gave; vega writes descriptions of its own for all the rest."""
_CURVE = 300
"""Characters of a path beyond which it is a curve, and no mark."""
_LONG_FRACTION = re.compile(r"-?\d+\.\d{2,}")
_REFERENCE = re.compile(r"url\(#([^)]+)\)")
_SPOKEN = ("role", "aria-label", "aria-roledescription", "aria-hidden")
_NOT_XML = re.compile("[^\t\n\r -\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def as_svg(make: Callable[[], Any], *, name: str, says: str) -> str:
    """Return an altair chart as SVG whose alternative text is `says` and whose ids begin with `name`.

    Args:
        make: returns a chart of altair.
        name: unique among the figures of a page; identifiers within the picture begin with it.
        says: what the figure shows, in words with numbers.
    """
    # these two take a second to import, and only a comparison draws
    import vl_convert
    from altair.utils.schemapi import debug_mode

    # altair checks each step of a chart against vega-lite's schema, which takes most of the time; a test draws with the checks on
    with debug_mode(False):
        specification = _clean(make().to_dict(validate=False))
    return tidied(vl_convert.vegalite_to_svg(specification), name=name, says=says)


def tidied(text: str, *, name: str, says: str) -> str:
    """Return what vega drew with fixed ids, short numbers, tooltips as `<title>` and one alternative text for the whole."""
    ElementTree.register_namespace("", SVG)
    root = ElementTree.fromstring(text)
    for parent in root.iter():
        # an empty path draws nothing, and vega leaves several behind for each group
        for child in [child for child in parent if child.tag == f"{{{SVG}}}path" and not child.get("d")]:
            parent.remove(child)
    _rename_ids(root, name)
    for element in root.iter():
        _tidy(element)
    root.set("role", "img")
    # a <title> of the whole would pop up wherever the pointer rests
    root.set("aria-labelledby", f"{name}-says")
    description = ElementTree.Element(f"{{{SVG}}}desc", {"id": f"{name}-says"})
    description.text = _NOT_XML.sub("", says)
    root.insert(0, description)
    return ElementTree.tostring(root, encoding="unicode")


def _tidy(element: ElementTree.Element) -> None:
    label = element.get("aria-label", "")
    for attribute in (*_SPOKEN, "class", "pointer-events"):
        element.attrib.pop(attribute, None)
    if label.startswith(MARK):
        tooltip = ElementTree.SubElement(element, f"{{{SVG}}}title")
        tooltip.text = label.removeprefix(MARK)
    for key, value in element.attrib.items():
        if key in ("d", "transform", "x", "y", "x2", "y2", "width", "height", "opacity"):
            # a tenth of a pixel is fine enough for a curve, and a page holds many of them
            digits = 1 if len(value) > _CURVE else 2
            element.set(key, _shortened(value, digits))


def _shortened(text: str, digits: int) -> str:
    return _LONG_FRACTION.sub(lambda found: f"{float(found[0]):.{digits}f}".rstrip("0").rstrip("."), text)


def _rename_ids(root: ElementTree.Element, name: str) -> None:
    """Number the ids from 1 in each picture: vega counts on from the picture before."""
    ids = {element.attrib["id"]: f"{name}-{place}" for place, element in enumerate(root.iterfind(".//*[@id]"), start=1)}
    for element in root.iter():
        if "id" in element.attrib:
            element.set("id", ids[element.attrib["id"]])
        for key, value in element.attrib.items():
            if "url(#" in value:
                element.set(key, _REFERENCE.sub(lambda found: f"url(#{ids.get(found[1], found[1])})", value))


def _clean(value: Any) -> Any:
    """Return a specification without characters that XML cannot hold."""
    if isinstance(value, str):
        return _NOT_XML.sub("", value)
    if isinstance(value, dict):
        return {key: _clean(one) for key, one in value.items()}
    return [_clean(one) for one in value] if isinstance(value, list) else value
