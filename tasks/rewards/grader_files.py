"""A grader's settings from a JSON file."""

import json
from pathlib import Path
from typing import Any

from posttrain.errors import RequestError


def read_grader(path: str, *, setting: str) -> dict[str, Any]:
    """Return what a JSON file says of a grader; whether that is one is found out where it is built.

    Args:
        path: of the file.
        setting: what names it, for messages: `GRADER`, `ppo.reward`.

    Raises:
        RequestError: there is no such file, or it holds no JSON object.
    """
    try:
        spec = json.loads(Path(path).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise RequestError(f"{setting}={path}: there is no such file. It holds a grader's settings (docs/graders.md)") from None
    except (OSError, ValueError, RecursionError) as error:
        raise RequestError(f"{setting}={path}: the file is no JSON: {' '.join(str(error).split())}. Correct it") from None
    if not isinstance(spec, dict):
        raise RequestError(f"{setting}={path}: a grader is a JSON object with a type, got {type(spec).__name__}: docs/graders.md")
    return spec
