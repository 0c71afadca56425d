"""One try of a retraining: look for what has changed, run the pipeline, measure the champion alike, ask the gate."""

from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from flows.pipeline import check, pipeline
from flows.probe import Probed, Prober
from flows.promotion import promote_version
from flows.retrain_champion import measure_alike
from flows.retrain_job import Job, Retrained, record_of_job
from posttrain.errors import ContractError, DataError
from posttrain.promotion.evaluated import Evaluated
from posttrain.promotion.gate import Decision
from posttrain.promotion.gate import decide as gate
from posttrain.promotion.moves import CHAMPION
from posttrain.retraining import outcome as sentences
from posttrain.retraining.changes import Made, Stage, changes, fingerprint
from posttrain.settings.config import flat
from posttrain.settings.promotion import PromotionSettings
from tasks.data.dvc import DatasetVersion, bring_up_to_date
from tasks.promotion.evaluations import evaluation_of
from tasks.promotion.moves import ROLLED_BACK_TAG, read_aliases, settle_moves
from tasks.report.terminal import print_report
from tasks.retraining.made import made_of, recoded, when_made
from tasks.retraining.records import record_of
from tasks.retraining.runs import open_run
from tasks.tracking.ledger import Ledger
from tasks.workspace.keys import installed_versions


def once(job: Job) -> Retrained:
    """Try a retraining from its beginning; what an earlier try finished is found and not done again.

    Raises:
        PosttrainError: a stage refuses or breaks its contract; aliases are as they were.
    """
    # the data as they are now: DVC fetches what its files name and is not here, and makes anew what depends on it
    job.name = f"posttrain-{job.config.data.name}"
    job.data = bring_up_to_date(job.paths, job.config.data.name)
    for note in job.data.notes:
        job.say(note)
    ledger = job.ledger = Ledger.open(job.paths, job.config.tracking)
    settle_moves(ledger, job.say)
    if job.report is None:  # later it may be the version that this very retraining has promoted, whose answer was lost
        job.champion = champion_of(ledger, job.name)

    # what the pipeline would make it of, found without running a stage
    if ended := look(job, ledger, job.data):
        return ended
    for note in check(job.config, job.paths):
        job.say(note)
    job.say(f"retraining {job.name}, since {job.why}")
    try:
        job.report = train(job, ledger)
    except ContractError:
        with suppress(Exception):  # the first error is the one to tell
            remember(job, made_now(prober_of(job, ledger, job.data).probe(job.config), job, job.data))
        raise
    remember(job, _made_of_report(job))
    return decide(job, ledger, str(job.report["model"]["version"]))


def champion_of(ledger: Ledger, name: str) -> str | None:
    """Return the version that serves; None where there is none, or no model of that name."""
    is_there = ledger.client.search_registered_models(f"name = '{name}'")
    return read_aliases(ledger, name)[CHAMPION] if is_there else None


# --- what has changed -------------------------------------------------------------------------------------------------


def prober_of(job: Job, ledger: Ledger, data: DatasetVersion) -> Prober:
    """Return what walks through the stages of the pipeline; it reads no weights, so that a large model is told in seconds too."""
    return Prober(job.paths, data, ledger=lambda: ledger, is_glance=True)


def look(job: Job, ledger: Ledger, data: DatasetVersion) -> Retrained | None:
    """Return how it ends where nothing that matters has changed; else note in the job what has, and return None.

    Raises:
        PosttrainError: the pipeline would refuse before it trains.
        ContractError: the same broke a contract before.
    """
    probed = prober_of(job, ledger, data).probe(job.config)
    job.now = made_now(probed, job, data)
    remember(job, job.now if probed.is_whole else None)
    made_on = when_made(ledger, job.name, job.champion) if job.champion else ""
    if job.champion:
        is_made_of_it = compare_with_champion(job, ledger, job.champion, probed)
        if is_made_of_it and probed.is_whole and not job.is_forced and has_evaluation(ledger, job.name, job.champion):
            return Retrained("unchanged", sentences.unchanged(job.champion, made_on), champion=job.champion)
    job.why = sentences.why_retrained(job.changed, champion=job.champion, made_on=made_on, is_forced=job.is_forced)

    # the same was tried before, and would end as it ended
    before = record_of(job.paths, dataset=data.name, fingerprint=job.fingerprint)
    if before is None or job.is_forced or job.run_id:
        return None
    if before["outcome"] == "kept":
        return Retrained("unchanged", sentences.unchanged_since(before), champion=job.champion or "")
    if before["outcome"] == "failed" and before["error"]["kind"] == ContractError.__name__:
        raise ContractError(sentences.failed_before(before))
    return None


def compare_with_champion(job: Job, ledger: Ledger, champion: str, probed: Probed) -> bool:
    """Return whether one of the pipelines that arrived at the champion had every stage of this one; note what is another."""
    assert job.now is not None
    newest: Made | None = None
    for then in made_of(ledger, job.name, champion):
        newest = newest or then
        if job.now.keys <= then.keys:
            job.changed = changes(then, job.now)
            return True
    computes = {stage.name: stage.compute for stage in probed.stages}
    newest = newest or Made(method="", data_md5="")
    job.changed = changes(newest, job.now, recoded=recoded(newest, computes))
    return False


def made_now(probed: Probed, job: Job, data: DatasetVersion) -> Made:
    """Return what the pipeline would make its model of."""
    return Made(
        method=job.config.method,
        data_md5=data.md5,
        files=data.md5s,
        stages=tuple(
            Stage(
                one.name, one.key, one.settings, one.inputs, digest=one.artifact.digest if one.artifact else f"to come: {one.key}"
            )
            for one in probed.stages
        ),
        versions=installed_versions(),
    )


def _made_of_report(job: Job) -> Made:
    """Return what the pipeline made its model of, as far as names and keys go."""
    assert job.report is not None
    stages = tuple(Stage(stage["name"], stage["key"]) for stage in job.report["stages"])
    return Made(method=job.config.method, data_md5=job.report["data_md5"], stages=stages)


def remember(job: Job, made: Made | None) -> None:
    """Note the fingerprint by which a later retraining knows that it would end as this one."""
    gate_settings = flat(job.config.promotion)
    job.fingerprint = fingerprint(made, champion=job.champion, gate=gate_settings) if made else ""


def has_evaluation(ledger: Ledger, name: str, version: str) -> bool:
    """Return whether anything is left of an evaluation of a version."""
    with suppress(DataError):
        evaluation_of(ledger, name, version)
        return True
    return False


# --- a new model, and the gate ----------------------------------------------------------------------------------------


def train(job: Job, ledger: Ledger) -> Mapping[str, Any]:
    """Run the pipeline, and return its report; a try after a fault finds its finished stages."""
    if not job.run_id:
        begun = record_of_job(job, outcome="", says="", ended=None, error=None)
        job.run_id = open_run(ledger, job.config, record=begun)
    report: dict[str, Any] = pipeline(job.config, job.paths.root, job.say, job.command)
    print_report(report)
    return report


def decide(job: Job, ledger: Ledger, challenger: str) -> Retrained:
    """Ask the gate about the version that the pipeline arrived at, and return how the retraining ends.

    Raises:
        ContractError: the two models cannot be compared.
        DataError, StorageError: an evaluation is gone, or files are.
    """
    now = champion_of(ledger, job.name)
    if challenger == now and job.decision and job.decision.promoted:  # by an earlier try, which lost the answer
        return _ended(job, "promoted", sentences.promoted(job.decision.why, job.why), champion=now, challenger=challenger)
    if challenger == now:
        return _ended(job, "unchanged", sentences.arrived(challenger, job.why), champion=now, challenger=challenger)
    if taken_back := ledger.client.get_model_version(job.name, challenger).tags.get(ROLLED_BACK_TAG):
        says = sentences.kept_rolled_back(challenger, taken_back, now)
        return _ended(job, "kept", says, champion=now, challenger=challenger)

    if now:
        job.is_measured_anew |= measure_alike(job, ledger, champion=now, challenger=challenger)
    ask = _Asked(job)
    why = sentences.history_reason(job.cause, f"since {job.why}")
    try:
        promote_version(ledger, job.name, challenger, job.config.promotion, job.say, why=why, decide=ask)
    except ContractError:
        if ask.said is None or ask.said.promoted:
            raise
        return _ended(job, "kept", sentences.kept(ask.said.why, now), champion=now, challenger=challenger)
    told = ask.said.why if ask.said else ""
    return _ended(job, "promoted", sentences.promoted(told, job.why), champion=challenger, challenger=challenger)


def _ended(job: Job, outcome: sentences.Outcome, says: str, *, champion: str | None, challenger: str) -> Retrained:
    return Retrained(
        outcome,
        says,
        champion=champion or "",
        challenger=challenger,
        pipeline_id=str((job.report or {}).get("pipeline_id", "")),
        decision=job.decision.as_record() if job.decision else None,
    )


class _Asked:
    """The gate, whose decision is kept for the record.

    Attributes:
        said: what it decided; None before it was asked.
    """

    def __init__(self, job: Job) -> None:
        self._job = job
        self.said: Decision | None = None

    def __call__(
        self, champion: Evaluated | None, challenger: Evaluated, base: Evaluated | None, settings: PromotionSettings
    ) -> Decision:
        self.said = self._job.decision = gate(champion, challenger, base, settings)
        return self.said
