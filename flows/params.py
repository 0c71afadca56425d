"""`params.yaml`, as the verbs read it."""

from typing import Any

import yaml

from posttrain.errors import RequestError
from tasks.workspace.paths import Paths


def params_of(paths: Paths) -> dict[str, Any]:
    """Return what params.yaml holds.

    Raises:
        RequestError: there is none, or it cannot be read.
    """
    try:
        with (paths.root / "params.yaml").open(encoding="utf-8") as file:
            params = yaml.safe_load(file) or {}
    except FileNotFoundError:
        raise no_repository(paths) from None
    except (yaml.YAMLError, UnicodeDecodeError, OSError) as error:
        told = " ".join(str(error).split())
        raise RequestError(f"params.yaml cannot be read: {told}. Mend it, or: git checkout params.yaml") from None
    if not isinstance(params, dict):
        raise RequestError(f"params.yaml must hold sections of settings, got {params!r}")
    return params


def no_repository(paths: Paths) -> RequestError:
    """Return what to say where there is no params.yaml."""
    return RequestError(f"params.yaml is not in {paths.root}: start from the repository's root")
