"""Which format a row is of, by the names of its fields."""

from collections.abc import Mapping
from typing import Any

from posttrain.data.formats.pairs import ASSISTANT


def guess(row: Mapping[str, Any]) -> str | None:
    """Return the format whose fields a row has, the most specific first; None where no format fits."""
    fields = row.keys()
    if {"kind", "prompt"} <= fields or {"kind", "text"} <= fields:
        return "records"
    if {"Body", "Question"} <= fields:
        return "svamp"
    if "conversations" in fields:
        return "sharegpt"
    if {"chosen", "rejected"} <= fields:
        if "instruction" in fields:
            return "alpaca"
        return "hh" if "prompt" not in fields and ASSISTANT in str(row["chosen"]) else "trl"
    if {"question", "answer_value"} <= fields:
        return "reft"
    if {"question", "answer"} <= fields:
        return "gsm8k" if "####" in str(row["answer"]) else "qa"
    if "instruction" in fields and fields & {"output", "response"}:
        return "alpaca"
    if {"input", "preferred_output"} <= fields:
        return "openai"
    if fields & {"prompt", "messages", "text"}:
        return "trl"
    return "qa" if fields & {"question", "problem", "query"} else None
