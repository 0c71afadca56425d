"""Which held-out questions choose settings, and which are reported: so that no setting is chosen on what is reported.

Questions are parted by a hash of their family. Nearly equal ones stay together, the order of the file decides nothing, and a
question stays where it is when others are added.
"""

from collections.abc import Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from posttrain.data.near_duplicates import normalised, prompt_text
from posttrain.data.split import split
from posttrain.digests import text_number
from posttrain.errors import DataError
from posttrain.records import Question
from posttrain.settings.data import SplitSettings

Part = Literal["all", "development", "reported"]
_NUMBERS = 2**64


def part_of(questions: Sequence[Question], part: Part, *, share: float) -> list[Question]:
    """Return the questions of a part, in their order.

    Args:
        questions: held out.
        part: `all`; `development`, on which settings are chosen; or `reported`, the others.
        share: of the families that are for development, about: each is drawn by itself.

    Raises:
        DataError: the questions cannot be parted, or the part has fewer than two.
    """
    if part == "all":
        return list(questions)
    is_chosen = is_development(questions, share=share) == (part == "development")
    found = [question for question, is_in in zip(questions, is_chosen, strict=True) if is_in]
    if len(found) < 2:
        raise DataError(
            f"evaluate.part={part} has {len(found)} of the {len(questions)} held-out questions, and fewer than two have no "
            f"interval. Change evaluate.development_share ({share:g}), or hold more questions out"
        )
    return found


def is_development(questions: Sequence[Question], *, share: float) -> NDArray[np.bool_]:
    """Return whether each question is for development: the hash of its family is below `share` of all hashes.

    A family is what `posttrain.data.split` keeps together: one family name, one prompt, or nearly equal prompts at the default of
    `split.near_duplicate`. It is called by the smallest hash of its members' family names, or of their prompts where they have
    none.

    Raises:
        DataError: all questions are one family.
    """
    try:
        family = split(questions, settings=SplitSettings()).family
    except DataError:
        raise DataError(
            f"the {len(questions)} held-out questions are one family (equal or nearly equal prompts, or one family name), so "
            "they cannot be parted into those that choose settings and those that are reported. Run with evaluate.part=all and "
            "without TUNE, or hold other questions out as well"
        ) from None
    name = np.full(int(family.max()) + 1, _NUMBERS - 1, dtype=np.uint64)
    own = [text_number("family", one.family) if one.family is not None else _prompt_number(one) for one in questions]
    np.minimum.at(name, family, np.array(own, dtype=np.uint64))
    is_drawn = np.array([text_number("development", str(each)) < share * _NUMBERS for each in name.tolist()])
    return np.asarray(is_drawn[family], dtype=np.bool_)


def _prompt_number(question: Question) -> int:
    return text_number("prompt", normalised(prompt_text(question)))
