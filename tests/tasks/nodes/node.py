"""A node in a process of its own, as `make pipeline` has one: `python -m tests.tasks.nodes.node NODE FOLDER ENDPOINT …`.

It prints what came of it as JSON: the stage's metrics, or the kind and the text of the error.
"""

import json
import sys
from pathlib import Path

from posttrain.errors import PosttrainError
from posttrain.settings.launch import LaunchSettings
from posttrain.settings.store import StoreSettings
from tasks.launch import Launch
from tasks.nodes.first import FirstNode
from tasks.nodes.other import serve_launches
from tasks.workspace.paths import Paths
from tasks.workspace.shared_stages import open_shared

OWN = {"code": "a" * 64, "libraries": "b" * 64, "settings": "c" * 64}


def be_first(paths, settings, arguments, *, compute, shared):
    node = FirstNode(paths, settings, OWN, shared=shared, say=lambda line: print(line, file=sys.stderr, flush=True))
    out = paths.stages / "x" / "made"
    out.mkdir(parents=True)
    why = "it was killed"
    try:
        told = node.launch(Launch(compute, out, lambda *_: None, arguments, stage="x", processes=1, logs=paths.logs / "x"))
        why = ""
        return dict(told.metrics)
    except Exception as error:
        why = str(error)
        raise
    finally:
        node.close(why)


def main(node, folder, endpoint, request):
    asked = json.loads(request)
    root = Path(folder)
    paths, shared = Paths(root), open_shared(StoreSettings(uri=asked.get("uri", "")))
    settings = LaunchSettings(nnodes=2, node_rank=int(node), rdzv_endpoint=endpoint, join_seconds=asked.get("seconds", 120.0))
    arguments = {name: root / value if name.endswith("path") else value for name, value in asked["arguments"].items()}
    try:
        if int(node):
            told = serve_launches(paths, settings, OWN | asked.get("own", {}), shared=shared, say=lambda line: None)
        else:
            told = be_first(paths, settings, arguments, compute=asked["compute"], shared=shared)
        print(json.dumps({"told": told}))
    except (PosttrainError, OSError) as error:
        print(json.dumps({"kind": type(error).__name__, "error": str(error)}))


if __name__ == "__main__":
    main(*sys.argv[1:])
