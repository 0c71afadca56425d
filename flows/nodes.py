"""One pipeline on several machines: which part this one has, and what is refused before anything is loaded."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from posttrain.errors import RequestError
from posttrain.settings.config import Config
from tasks.launch import Launch, call_on_processes
from tasks.nodes.alike import identity
from tasks.nodes.board import split_endpoint
from tasks.workspace.artifacts import Outcome
from tasks.workspace.paths import Paths
from tasks.workspace.shared_stages import open_shared

Say = Callable[[str], None]
Launcher = Callable[[Launch], Outcome]
"""Computes a stage by several processes: `call_on_processes`, or `FirstNode.launch`."""
OWN = {"tracking", "servers"}
"""Sections that nodes may have different: only node 0 talks to servers."""


def check_nodes(config: Config) -> None:
    """Refuse a place among nodes that there is not, or an endpoint of no use.

    Raises:
        RequestError: naming the setting.
    """
    nodes, node = config.launch.nnodes, config.launch.node_rank
    if node >= nodes:
        raise RequestError(f"launch.node_rank must be less than launch.nnodes ({nodes}), got {node}: nodes are counted from 0")
    if nodes > 1:
        split_endpoint(config.launch.rdzv_endpoint)


def refuse_nodes(config: Config, what: str) -> None:
    """Refuse several machines where only a pipeline of its own can have them.

    Raises:
        RequestError: they are set.
    """
    if config.launch.nnodes > 1:
        raise RequestError(
            f"launch.nnodes must be 1 for {what}, got {config.launch.nnodes}: several machines compute a make pipeline. Give it "
            "there behind SET, and not in params.yaml"
        )


@contextmanager
def launching(paths: Paths, config: Config, say: Say) -> Iterator[Launcher]:
    """Have what computes a stage by several processes: those of this machine, or with the other nodes, as node 0.

    Raises:
        RequestError: the nodes' settings are wrong, or the endpoint cannot be used.
    """
    check_nodes(config)
    if config.launch.nnodes == 1:
        yield call_on_processes
        return
    from tasks.nodes.first import FirstNode

    node = FirstNode(paths, config.launch, _own(config), shared=open_shared(config.store), say=say)
    why = "it was interrupted"
    try:
        yield node.launch
        why = ""
    except Exception as error:
        why = str(error) or type(error).__name__
        raise
    finally:
        node.close(why)


def join(paths: Paths, config: Config, say: Say) -> dict[str, Any]:
    """Compute for node 0 until its pipeline ends. What it made is there; nothing is registered or reported here.

    Raises:
        PosttrainError: node 0 did not come, is unlike, or ended early; or a stage cannot be computed here.
    """
    from flows.processes import check_processes
    from tasks.nodes.other import serve_launches

    check_nodes(config)
    check_processes(config)
    number = serve_launches(paths, config.launch, _own(config), shared=open_shared(config.store), say=say)
    say(f"node {config.launch.node_rank}: the pipeline on node 0 is done; {number} stages were computed with this node")
    return {"pipeline_id": "", "stages": number}


def _own(config: Config) -> dict[str, str]:
    """Return what must be the same on all nodes."""
    told = config.model_dump(mode="json", exclude=OWN)
    told["launch"] = {name: value for name, value in told["launch"].items() if name != "node_rank"}
    return identity(told)
