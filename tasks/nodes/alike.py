"""What nodes must have alike to compute one stage: code, libraries, settings."""

import sys
from collections.abc import Mapping
from hashlib import sha256
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from tasks.workspace.keys import ROOMS, digest_of, installed_versions

REMEDIES = {
    "code": "bring both to one commit",
    "libraries": "install both with constraints.txt",
    "settings": "give all nodes the same params.yaml, profile and words, but for launch.node_rank",
}
"""What all nodes must have alike, and what to do where they do not."""


def identity(settings: Mapping[str, Any]) -> dict[str, str]:
    """Return what must be the same on all nodes, as digests: code, libraries, and the settings that are given."""
    digest = sha256()
    for room in ROOMS:
        spec = find_spec(room)
        folder = Path(spec.origin or "").parent if spec else Path()
        for file in sorted(folder.rglob("*.py")):
            digest.update(f"{room}/{file.relative_to(folder)}\0".encode())
            digest.update(file.read_bytes())
    libraries = {**installed_versions(), "python": "{}.{}".format(*sys.version_info)}
    return {"code": digest.hexdigest(), "libraries": digest_of(libraries), "settings": digest_of(settings)}


def difference(first: Mapping[str, str], other: Mapping[str, str], *, node: int) -> str:
    """Return what another node has unlike node 0, as a sentence with both digests; "" for nothing."""
    for name, remedy in REMEDIES.items():
        if first[name] != other.get(name):
            both = f"{other.get(name, '')[:12]} there, {first[name][:12]} on node 0"
            return f"node {node} has other {name} than node 0 ({both}): {remedy}"
    return ""
