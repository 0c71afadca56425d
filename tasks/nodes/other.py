"""A node that computes what node 0 asks for, and has no pipeline of its own: no runs, no models, no report."""

import json
import pickle
import shutil
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

from posttrain.errors import ContractError, RequestError
from posttrain.settings.launch import LaunchSettings
from tasks.launch import Launch, Place, UnexplainedError, call_on_processes, get_ready
from tasks.nodes.alike import difference
from tasks.nodes.board import ANSWER, FAREWELL, LOOK, Board, split_endpoint
from tasks.nodes.parcel import Seen, sizes, unpacked
from tasks.workspace.artifacts import take
from tasks.workspace.paths import Paths
from tasks.workspace.shared_stages import SharedStages

Say = Callable[[str], None]


class OtherNode:
    """A node that computes what node 0 asks for, until its pipeline ends.

    Args:
        paths: of the repository here.
        settings: of the launch.
        own: `identity` here.
        shared: storage to take stages from.
        say: prints a line for the user.

    Raises:
        RequestError: node 0 did not come, or has other code or settings.
    """

    def __init__(
        self, paths: Paths, settings: LaunchSettings, own: Mapping[str, str], *, shared: SharedStages | None, say: Say
    ) -> None:
        self._paths, self._settings, self._shared, self._say = Paths(paths.root.resolve()), settings, shared, say
        self._node, self._is_done = settings.node_rank, False
        self._board = Board(settings.rdzv_endpoint, is_first=False, seconds=settings.join_seconds)
        if self._board.wait(["first"], settings.join_seconds):
            raise RequestError(f"launch.rdzv_endpoint={settings.rdzv_endpoint}: what answers there is no node 0")
        first = json.loads(self._board.get("first"))
        self._board.put(f"hello/{self._node}", json.dumps(dict(own)))
        if unlike := difference(first, own, node=self._node):
            raise RequestError(unlike)

    def serve(self) -> int:
        """Compute with node 0 until its pipeline ends; return how many stages that were.

        Raises:
            ContractError: node 0 ended early, or is gone.
            PosttrainError: a stage cannot be computed here.
        """
        number = 0
        while not self._is_over():
            if not self._board.has(f"launch/{number}"):
                time.sleep(LOOK)
                continue
            self._compute(number, pickle.loads(self._board.get(f"launch/{number}")))
            number += 1
        return number

    def _is_over(self) -> bool:
        """Tell whether the pipeline is done. Node 0 is gone soon after that, and is not asked again.

        Raises:
            ContractError: it ended early.
        """
        if self._is_done or not self._board.has("end"):
            return self._is_done
        why = self._board.get("end").decode()
        with suppress(ContractError):
            self._board.put(f"bye/{self._node}", "")
        if why:
            raise ContractError(f"the pipeline on node 0 ended: {why}")
        self._is_done = True
        return True

    def _compute(self, number: int, asked: Mapping[str, Any]) -> None:
        """Take part in one stage.

        Raises:
            PosttrainError: it cannot be computed here, or node 0 ended early.
        """
        stage = asked["stage"]
        refusal = self._why_not(asked["seen"])
        self._board.put(f"ready/{number}/{self._node}", refusal)
        if refusal:
            raise RequestError(f"stage {stage}: {refusal}")
        self._say(f"{stage}: node {self._node} of {self._settings.nnodes} computes with node 0")
        host, _ = split_endpoint(self._settings.rdzv_endpoint)
        place = Place(self._node, self._settings.nnodes, host, asked["port"], self._settings.join_seconds)
        self._paths.store.mkdir(exist_ok=True)
        out = Path(mkdtemp(prefix="node-", dir=self._paths.store))
        try:
            launch = Launch(
                asked["compute"],
                out,
                lambda step, figures: None,
                unpacked(asked["arguments"], self._paths.root),
                stage=stage,
                processes=asked["processes"],
                logs=self._paths.logs / f"{asked['logs']}-node-{self._node}",  # the folder may be that of node 0 as well
                place=place,
                look=self._look,
            )
            call_on_processes(launch)
        except BaseException as error:
            self._tell(number, error)
            raise
        finally:
            shutil.rmtree(out, ignore_errors=True)

    def _look(self) -> None:
        """End the processes when node 0 has ended."""
        self._is_over()

    def _tell(self, number: int, error: BaseException) -> None:
        """Tell node 0 why; where our processes only lost the connection to its own, its error is the one to raise.

        Raises:
            ContractError: node 0's.
        """
        text = str(error) if isinstance(error, Exception) else "it was interrupted"
        with suppress(ContractError):
            self._board.put(f"failed/{number}/{self._node}", json.dumps({"kind": type(error).__name__, "text": text}))
        if isinstance(error, UnexplainedError) and not self._is_done:
            self._board.wait(["end"], FAREWELL + ANSWER)
            self._is_over()

    def _why_not(self, seen: Seen) -> str:
        """Take what a stage reads; return a sentence where it cannot be had, else ""."""
        paths, here = self._paths, f"node {self._node}"
        said: list[str] = []
        for stage, key in seen.stages:
            if not take(paths, stage, key, self._shared, said.append):
                how = f" ({said[-1]})" if said else ""
                return (
                    f"{here} has no stage {stage}/{key[:12]}{how}: set store.uri on all nodes, or let all have one folder "
                    ".posttrain/stages"
                )
        for place, files in seen.checkpoints.items():
            if sizes(paths.root / place) != files:
                return (
                    f"{here} does not see the checkpoints that node 0 goes on from ({place}): let all have one folder "
                    ".posttrain/checkpoints, or remove it on all, and the stage begins anew"
                )
        for place in seen.others:
            if not (paths.root / place).exists():
                return f"{here} has no {place}, which the stage reads: put it there"
        return ""


def serve_launches(
    paths: Paths, settings: LaunchSettings, own: Mapping[str, str], *, shared: SharedStages | None, say: Say
) -> int:
    """Be one of the other nodes, from the first word to the last; return how many stages it computed.

    Raises:
        PosttrainError: node 0 did not come, is unlike, or ended early; or a stage cannot be computed here.
    """
    get_ready()
    say(f"node {settings.node_rank} of {settings.nnodes}: computes for node 0 at {settings.rdzv_endpoint}")
    return OtherNode(paths, settings, own, shared=shared, say=say).serve()
