"""Node 0: it has the pipeline, and asks the other nodes to compute each training stage with it."""

import json
import pickle
import socket
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import replace
from functools import partial

from posttrain import errors
from posttrain.errors import ContractError, PosttrainError, RequestError
from posttrain.settings.launch import LaunchSettings
from tasks.launch import Launch, Place, UnexplainedError, call_on_processes
from tasks.nodes.alike import difference
from tasks.nodes.board import ANSWER, FAREWELL, LOOK, Board, split_endpoint
from tasks.nodes.parcel import Seen, packed
from tasks.workspace.artifacts import Outcome
from tasks.workspace.paths import Paths
from tasks.workspace.shared_stages import SharedStages, TroubleError

Say = Callable[[str], None]


class FirstNode:
    """Node 0: asks the others to compute a stage with it.

    Args:
        paths: of the repository.
        settings: of the launch.
        own: `identity` here.
        shared: storage that the others can take stages from.
        say: prints a line for the user.

    Raises:
        RequestError: the endpoint cannot be used.
    """

    def __init__(
        self, paths: Paths, settings: LaunchSettings, own: Mapping[str, str], *, shared: SharedStages | None, say: Say
    ) -> None:
        self._paths, self._settings, self._own, self._shared, self._say = paths, settings, own, shared, say
        self._others = range(1, settings.nnodes)
        self._launches, self._have_met = 0, False
        self._failed_at: float | None = None
        self._board = Board(settings.rdzv_endpoint, is_first=True, seconds=ANSWER)
        self._board.put("first", json.dumps(dict(own)))

    def launch(self, launch: Launch) -> Outcome:
        """Compute a stage on the processes of all nodes, as `call_on_processes` does on those of one.

        Args:
            launch: the stage here, where node 0 has no place yet; every node gives it as many processes.

        Raises:
            PosttrainError, OSError: another node did not come, or cannot compute it; or as the first process that failed has it.
        """
        self._meet()
        number, self._launches = self._launches, self._launches + 1
        # what the stage reads: put where the others can take it, or found by them in a folder that all share
        parcel, seen = packed(launch.arguments, self._paths)
        self._offer(seen)
        host, _ = split_endpoint(self._settings.rdzv_endpoint)
        place = Place(0, self._settings.nnodes, host, _free_port(), self._settings.join_seconds)
        asked = {
            "compute": launch.compute,
            "stage": launch.stage,
            "processes": launch.processes,
            "port": place.port,
            "seen": seen,
            "arguments": parcel,
        }
        self._board.put(f"launch/{number}", pickle.dumps({**asked, "logs": launch.logs.name}))
        self._await_ready(number, launch.stage)
        try:
            return call_on_processes(replace(launch, place=place, look=partial(self._look, number)))
        except UnexplainedError as error:
            # most often ours lost their connection to another node's, which then knows why
            until = time.monotonic() + FAREWELL
            while not (told := self._failures(number)) and time.monotonic() < until:
                time.sleep(LOOK)
            self._look(number)
            raise ContractError("; ".join([str(error), *told.values()])) from None
        finally:
            self._failed_at = None

    def _meet(self) -> None:
        """Wait until all nodes have come, once.

        Raises:
            RequestError: one did not, or has other code or settings.
        """
        if self._have_met:
            return
        names = [f"hello/{node}" for node in self._others]
        if len(missing := self._board.wait(names, 0.0)):
            self._say(f"waiting for {len(missing)} of {len(names)} other nodes at {self._board.endpoint}")
        if missing := self._board.wait(names, self._settings.join_seconds):
            raise RequestError(
                f"launch.nnodes={self._settings.nnodes}: {1 + len(names) - len(missing)} of {1 + len(names)} nodes came to "
                f"{self._board.endpoint} within launch.join_seconds ({self._settings.join_seconds:g}); missing: "
                f"{', '.join(name.replace('hello/', 'node ') for name in missing)}. Start the same command there, each with its "
                "launch.node_rank"
            )
        for node in self._others:
            if unlike := difference(self._own, json.loads(self._board.get(f"hello/{node}")), node=node):
                raise RequestError(unlike)
        self._have_met = True

    def _offer(self, seen: Seen) -> None:
        """Put the stages that are read on the shared storage, where one is set and has them not."""
        for stage, key in seen.stages if self._shared else ():
            assert self._shared is not None
            with suppress(TroubleError):  # a node that cannot take it says so
                if not self._shared.holds(stage, key):
                    self._shared.offer(stage, key, self._paths.stages / stage / key)

    def _await_ready(self, number: int, stage: str) -> None:
        names = [f"ready/{number}/{node}" for node in self._others]
        missing = self._board.wait(names, self._settings.join_seconds)
        for name in (name for name in names if name not in missing):
            if refusal := self._board.get(name).decode():
                raise RequestError(f"stage {stage}: {refusal}")
        if missing:
            nodes = ", ".join(f"node {name.rpartition('/')[2]}" for name in missing)
            raise RequestError(
                f"stage {stage}: {nodes} had not taken what it reads within launch.join_seconds "
                f"({self._settings.join_seconds:g}), or is gone. Look there; more time: launch.join_seconds"
            )

    def _failures(self, number: int) -> dict[int, str]:
        """Return what processes of other nodes failed of, by node."""
        names = {node: f"failed/{number}/{node}" for node in self._others}
        return {
            node: f"node {node}: {json.loads(self._board.get(name))['text']}"
            for node, name in names.items()
            if self._board.has(name)
        }

    def _look(self, number: int) -> None:
        """Look whether another node's processes have failed of an error that explains itself, or ours wait for them in vain.

        Raises:
            PosttrainError: theirs.
        """
        for node, text in self._failures(number).items():
            name = json.loads(self._board.get(f"failed/{number}/{node}"))["kind"]
            kind = getattr(errors, name, ContractError)
            # one that does not may come from an error of ours, which is then told within a moment
            self._failed_at = self._failed_at or time.monotonic()
            if name != UnexplainedError.__name__ or time.monotonic() - self._failed_at > FAREWELL:
                raise (kind if issubclass(kind, PosttrainError) else ContractError)(text)

    def close(self, why: str) -> None:
        """Tell the others that the pipeline has ended, and give them a moment to read it; `why` is "" where it is done."""
        with suppress(ContractError):
            self._board.put("end", why)
            came = [node for node in self._others if self._board.has(f"hello/{node}")]
            self._board.wait([f"bye/{node}" for node in came], FAREWELL)


def _free_port() -> int:
    with socket.socket() as one:
        one.bind(("", 0))
        return int(one.getsockname()[1])
