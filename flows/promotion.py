"""`make promote`, `make rollback` and `make history`: which version serves, who decided that, and why.

A promotion takes seconds and is no Prefect flow: a server would take longer to start than all of it.
"""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from typing import Any, Protocol

from posttrain.errors import ContractError, DataError, RequestError
from posttrain.printable import printable
from posttrain.promotion.evaluated import Evaluated
from posttrain.promotion.gate import Decision
from posttrain.promotion.gate import decide as gate
from posttrain.promotion.guards import Guard
from posttrain.promotion.moves import CHALLENGER, CHAMPION, Aliases, Move, promotion, rollback
from posttrain.settings.config import Config
from posttrain.settings.promotion import PromotionSettings
from tasks.promotion.evaluated import evaluated
from tasks.promotion.evaluations import Evaluation, base_of, evaluation_of
from tasks.promotion.history import history_lines, history_of
from tasks.promotion.loading import check_loads
from tasks.promotion.moves import Reason, alone, carry_out, read_aliases, record_refusal, this_actor
from tasks.tracking.ledger import Ledger
from tasks.tracking.registry import name_and_version
from tasks.workspace.disk import storage_errors
from tasks.workspace.paths import Paths
from tasks.workspace.presence import present

LONGEST_WHY = 1_000
"""Characters of a reason: it is a sentence in a table."""
BY_HAND = "by hand"
FIGURES = ("accuracy", "accuracy_low", "accuracy_high", "accuracy_sampled", "reference_loss", "finished", "response_tokens")
"""Of an evaluation's metrics, those that the history keeps; the evaluation itself has all."""
Say = Callable[[str], None]


class Decide(Protocol):
    """The gate."""

    def __call__(
        self, champion: Evaluated | None, challenger: Evaluated, base: Evaluated | None, settings: PromotionSettings
    ) -> Decision:
        """Return whether the challenger is promoted, and every figure behind that."""


def promote(paths: Paths, config: Config, say: Say, *, version: str, why: str, is_forced: bool = False) -> str:
    """Make a version champion where the gate lets it pass, or by hand, say so, and return its number.

    Args:
        paths: of the repository.
        config: its dataset names the model; `promotion` is the gate's.
        say: prints one line for the user.
        version: its number, or `challenger`.
        why: for the history.
        is_forced: promote although the gate says no, or cannot compare; the history says so.

    Raises:
        RequestError, DataError, StorageError, ContractError: as `promote_version`.
    """
    _check_why(why)
    with registry(paths, config, f'make promote VERSION={version} WHY="{why}"') as (ledger, name):
        number = _version(ledger, name, version)
        return promote_version(ledger, name, number, config.promotion, say, why=why, is_forced=is_forced)


def promote_version(
    ledger: Ledger,
    name: str,
    version: str,
    settings: PromotionSettings,
    say: Say,
    *,
    why: str,
    is_forced: bool = False,
    decide: Decide = gate,
) -> str:
    """Ask the gate, and move the aliases of a registered model where it lets the version pass; return the version.

    The caller keeps a note of its process (tasks/workspace/presence.py), so that the next command settles what a kill leaves.

    Raises:
        RequestError: it is the champion, or another move is under way.
        DataError: it was not measured, or on other questions than the champion.
        StorageError: its files are gone or damaged.
        ContractError: the gate says no, which the history then has with all figures.
    """
    with alone(ledger, name, say=say) as now:
        move = promotion(now, version)
        reason = _judge(ledger, name, move, settings, why=why, is_forced=is_forced, decide=decide)
        folder = check_loads(ledger, name, version, say=say)
        carry_out(ledger, name, move, reason)
    print(f"{name}: version {version} is champion now, {_before(move)} ({reason.decision})")
    print(f"loads from {folder}, and as models:/{name}@{CHAMPION}. To go back: make rollback WHY=…")
    return version


def roll_back(paths: Paths, config: Config, say: Say, *, why: str) -> str:
    """Make the previous champion champion again, once it is known to load, and return its number.

    Raises:
        RequestError: there is none, or another move is under way.
        StorageError: its files are gone or damaged; nothing was moved.
    """
    _check_why(why)
    with registry(paths, config, f'make rollback WHY="{why}"') as (ledger, name), alone(ledger, name, say=say) as now:
        move = rollback(now)
        folder = check_loads(ledger, name, move.version, say=say)
        known = {}
        for version in filter(None, (move.version, move.leaves)):
            with suppress(DataError):  # what nobody measured may be gone back to all the same
                known[f"version {version}"] = _figures(evaluation_of(ledger, name, version))
        reason = Reason(why=why, decision=BY_HAND, record={"evaluations": known}, actor=this_actor())
        carry_out(ledger, name, move, reason)
    print(f"{name}: version {move.version} is champion again, {_before(move)}")
    print(f"loads from {folder}, and as models:/{name}@{CHAMPION}")
    return move.version


def tell_history(paths: Paths, config: Config) -> None:
    """Print every move of the model's aliases, the newest first."""
    with registry(paths, config) as (ledger, name):
        print("\n".join(history_lines(name, read_aliases(ledger, name), history_of(ledger, name))))


# --- what the gate says -----------------------------------------------------------------------------------------------


def _judge(
    ledger: Ledger, name: str, move: Move, settings: PromotionSettings, *, why: str, is_forced: bool, decide: Decide
) -> Reason:
    """Return why a version may become champion; where it may not, that is written into the history and raised."""
    ours, theirs, trouble = _measured(ledger, name, move.before, move.version)
    known = {one.name: _figures(one) for one in (ours, theirs) if one}
    actor = this_actor()

    def by_hand(trouble: str) -> Reason:
        record = {"evaluations": known, "gate": None}
        return Reason(why=why, decision=f"{BY_HAND}, without a comparison", record=record, gate=trouble, actor=actor)

    if theirs is None or trouble:
        if not is_forced:
            raise DataError(_forced(trouble, move.version))
        return by_hand(trouble)
    is_first = move.leaves is None
    sides = evaluated(ledger, theirs), evaluated(ledger, ours)
    try:
        decision = decide(None if is_first else sides[0], sides[1], sides[0] if is_first else None, settings)
    except ContractError as error:
        if not is_forced:
            raise ContractError(_forced(str(error), move.version)) from None
        return by_hand(str(error))
    record = {"evaluations": known, "gate": decision.as_record()}
    reason = Reason(why=why, decision=str(decision.rule), record=record, gate=decision.why, actor=actor)
    for line in decision_lines(decision):
        print(printable(line))
    if decision.promoted:
        return reason
    if is_forced:
        return Reason(why=why, decision=f"{BY_HAND}, against the gate", record=record, gate=decision.why, actor=actor)
    record_refusal(ledger, name, move, reason, why="the gate said no")
    raise ContractError(
        f"{decision.why}. Nothing was moved. To promote it all the same, by hand, which the history keeps: "
        f'make promote VERSION={move.version} WHY="…" FORCE=1'
    )


def _measured(ledger: Ledger, name: str, now: Aliases, version: str) -> tuple[Evaluation, Evaluation | None, str]:
    """Return the evaluation of a version, that of what it is compared with, and why the two do not compare ("" where they do).

    Raises:
        DataError: the version itself was never measured.
    """
    ours = evaluation_of(ledger, name, version)
    try:
        if now[CHAMPION] is None:
            return ours, base_of(ledger, ours), ""
        theirs = evaluation_of(ledger, name, str(now[CHAMPION]), like=ours)
    except DataError as error:
        return ours, None, str(error)
    if ours.unlike(theirs):  # an earlier evaluation of the version may compare with the champion's newest
        ours = evaluation_of(ledger, name, version, like=theirs)
    if different := ours.unlike(theirs):
        told = (
            f"{different}: they do not compare. Let both be measured on one version of the data, with equal settings of evaluate"
        )
        return ours, theirs, told
    return ours, theirs, ""


def _forced(trouble: str, version: str) -> str:
    return f'{trouble}; or promote it by hand, without a comparison: make promote VERSION={version} WHY="…" FORCE=1'


def decision_lines(decision: Decision) -> list[str]:
    """Return the gate's decision and every guard's figures as lines, broken guards first."""
    guards = sorted(decision.guards, key=lambda guard: not guard.is_broken)
    return [f"gate: {decision.why}", *(f"  {_mark(one):<7}{one.name}: {one.says}" for one in guards)]


def _mark(guard: Guard) -> str:
    """Return whether a guard is broken, ok, or only shown: it could not have been broken."""
    if guard.is_broken:
        return "BROKEN"
    return "ok" if guard.is_decided else "shown"


def _figures(evaluation: Evaluation) -> dict[str, Any]:
    """Return what the history keeps of an evaluation."""
    return {
        "pipeline_id": evaluation.pipeline_id,
        "run_id": evaluation.parent,
        "method": evaluation.method,
        "data_md5": evaluation.data_md5,
        "held_out": evaluation.held_out,
        "questions": len(evaluation.rows),
        "metrics": {metric: evaluation.metrics[metric] for metric in FIGURES if metric in evaluation.metrics},
    }


# --- what was asked for -----------------------------------------------------------------------------------------------


@contextmanager
def registry(paths: Paths, config: Config, command: str = "") -> Iterator[tuple[Ledger, str]]:
    """Open the ledger for a model that is in it; a `command` that moves something leaves a note for whoever comes after a kill.

    Raises:
        RequestError: there is no such model.
        StorageError: the disk refuses.
    """
    name = f"posttrain-{config.data.name}"
    if not config.tracking.uri and not (paths.ledger / "mlflow.db").exists():
        raise RequestError(f"there is no model {name}: no pipeline has run here. Make one: make pipeline DATA={config.data.name}")
    with storage_errors("the registry", paths.root), ExitStack() as noted:
        if command:
            noted.enter_context(present(paths, command=command, tracking=config.tracking.model_dump(), in_prefect=False))
        ledger = Ledger.open(paths, config.tracking)
        known = [model.name for model in ledger.client.search_registered_models()]
        if name not in known:
            held = f"; there are {', '.join(known)}" if known else ""
            raise RequestError(f"there is no model {name}{held}. Make one: make pipeline DATA={config.data.name}")
        yield ledger, name


def _version(ledger: Ledger, name: str, asked: str) -> str:
    """Return the number of the version that was asked for."""
    if asked.isdecimal() and len(asked) < 10:  # more is no version, and no number that a database holds
        return name_and_version(ledger, f"models:/{name}/{int(asked)}")[1]
    if asked == CHALLENGER:
        return name_and_version(ledger, f"models:/{name}@{CHALLENGER}")[1]
    raise RequestError(f"VERSION must be the number of a version of {name}, or challenger, got {asked or 'nothing'}")


def _check_why(why: str) -> None:
    if len(why) > LONGEST_WHY:
        raise RequestError(f"WHY must have at most {LONGEST_WHY:,} characters, got {len(why):,}: it is a line of the history")


def _before(move: Move) -> str:
    return f"version {move.leaves} before, which is previous" if move.leaves else "the first one"
