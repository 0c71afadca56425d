"""What a comparison needs to spread over a cluster, checked before Prefect is imported: on import it reads its server."""

import importlib.util
import sys
from pathlib import Path

from posttrain.errors import RequestError
from posttrain.settings.compare import CompareSettings

EXTRAS = {"dask": "prefect_dask", "ray": "prefect_ray"}
"""Runners that need an extra of the same name, and the package that it brings."""


def check_runner(settings: CompareSettings) -> None:
    """Refuse before anything runs a runner that is not installed, or an address that it does not take.

    Raises:
        RequestError: one of the two.
    """
    package = EXTRAS.get(settings.runner)
    if package and importlib.util.find_spec(package) is None:
        raise RequestError(
            f"compare.runner={settings.runner} needs the extra of that name, which is not installed: "
            f"{Path(sys.executable).parent.name}/python -m pip install -c constraints.txt -e '.[{settings.runner}]'"
        )
    if settings.address and not package:
        raise RequestError(
            f"compare.address={settings.address} is the address of a cluster, and compare.runner={settings.runner} has none. "
            "Add compare.runner=dask or compare.runner=ray, or leave the address out"
        )
