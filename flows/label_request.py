"""What the words behind `make label` ask for; whatever is wrong with them is told before any library is loaded."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from posttrain.errors import RequestError

OWN = ("batch", "per_item", "people", "port", "new", "links", "revoke")
"""Words that are no settings, though some of them say what a setting says."""
AS_SETTINGS = {"batch": "labelling.batch", "per_item": "labelling.per_item", "port": "labelling.port"}
OF_NEW = ("BATCH", "PER_ITEM")
"""Words that say what a new batch is like."""
YES = {
    "new": "make another batch although one is not finished",
    "links": "only make links for PEOPLE",
}
LONGEST_NAME = 60
NAME = re.compile(r"\w[\w.@+-]*", re.UNICODE)


@dataclass(frozen=True)
class LabelRequest:
    """What is asked for.

    Attributes:
        people: names of those who get a link.
        revoke: names of those whose link ends.
        is_new: a new batch is wanted although one is not finished.
        is_links_only: links are made, and no page is served.
        of_new: words that only a new batch takes, as they were given; told where a batch goes on.
        port: that was asked for; None for that of the batch, or of the settings.
    """

    people: tuple[str, ...] = ()
    revoke: tuple[str, ...] = ()
    is_new: bool = False
    is_links_only: bool = False
    of_new: tuple[str, ...] = ()
    port: int | None = None


def given_words(words: Sequence[str]) -> tuple[dict[str, str], list[str]]:
    """Return the verb's own words by name, and the settings, those among them that its words stand for."""
    given = {name: value for name, _, value in (word.partition("=") for word in words) if name in OWN}
    settings = [word for word in words if word.partition("=")[0] not in OWN]
    return given, settings + [f"{setting}={given[name]}" for name, setting in AS_SETTINGS.items() if given.get(name)]


def label_request(given: Mapping[str, str], *, port: int) -> LabelRequest:
    """Return what the words ask for.

    Args:
        given: the verb's own words, by name.
        port: `labelling.port`, which PORT sets.

    Raises:
        RequestError: a word is none of its values, or two contradict each other.
    """
    for name, says in YES.items():
        if given.get(name, "") not in ("", "0", "1"):
            raise RequestError(f"{name.upper()} must be 1 ({says}) or 0, got {given[name]}")
    request = LabelRequest(
        people=_names(given, "people"),
        revoke=_names(given, "revoke"),
        is_new=given.get("new") == "1",
        is_links_only=given.get("links") == "1",
        of_new=tuple(f"{name}={given[name.lower()]}" for name in OF_NEW if given.get(name.lower())),
        port=port if given.get("port") else None,
    )
    asked = [name for name in ("new", "links") if given.get(name) == "1"] + ["revoke"] * bool(request.revoke)
    if len(asked) > 1:
        raise RequestError(f"{' and '.join(name.upper() for name in asked)} are asked for, and each is a command of its own")
    if request.is_links_only and not request.people:
        raise RequestError('LINKS=1 needs PEOPLE, who get the links: make label PEOPLE="ada ben" LINKS=1')
    if request.people and request.revoke:
        raise RequestError("PEOPLE get links, and REVOKE ends some: give one of the two")
    return request


def _names(given: Mapping[str, str], word: str) -> tuple[str, ...]:
    """Return the names in a word, each once; they stand in labels and in addresses, so they are plain."""
    names = tuple(dict.fromkeys(given.get(word, "").replace(",", " ").split()))
    for name in names:
        if not NAME.fullmatch(name) or len(name) > LONGEST_NAME:
            raise RequestError(
                f"{word.upper()} must be names of letters, digits and ._@+-, {LONGEST_NAME} at most of each, got {name!r}"
            )
    if word in given and given[word] and not names:
        raise RequestError(f"{word.upper()} must hold a name, got {given[word]!r}")
    return names
