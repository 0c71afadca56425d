"""The items of a new batch: samples of a model by the ordinary stages, candidates among them, and a rule that chooses."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace

from flows.alone import Alone, alone
from flows.feedback import draw_samples, make_labels
from flows.judging import is_practising
from flows.lengths import resolve_limits
from flows.memory import check_memory
from flows.named_models import last_runs
from flows.pipeline import check
from flows.run import Say
from flows.training import make_base, make_tokenizer, train_sft, validate
from posttrain.errors import RequestError
from posttrain.feedback.labels import Label
from posttrain.labelling.items import Candidate, Item, draw_items
from posttrain.labelling.selections import ENSEMBLE, JUDGE, REWARD_MODEL, Choice, Opinions, Selection, choose, selection_for
from posttrain.records import Demonstration, Question
from posttrain.settings.config import Config
from tasks.data.dvc import DatasetVersion
from tasks.feedback.labels import read_labels
from tasks.feedback.sources.table import SOURCES
from tasks.labelling.candidates import (
    Pool,
    Texts,
    draw_candidates,
    draw_checks,
    opinions_of,
    reward_scores,
    texts_of,
    verdicts_on,
)
from tasks.workspace.artifacts import Artifact
from tasks.workspace.jsonl import required
from tasks.workspace.paths import Paths

SEED_STEP = 1_000_003
"""Between the seeds of one batch and the next, so that they draw other pairs, and no batch those of another seed's first."""


@dataclass(frozen=True)
class Prepared:
    """What a batch can be drawn with, known before anything is trained.

    Attributes:
        config: every setting; where a judge is asked, labels come from it.
        rule: that chooses.
        reward_model: of the last labels, where the rule asks it.
        is_judged: a judge is asked about the pairs, for the rule or to be shown.
    """

    config: Config
    rule: Selection
    reward_model: Artifact | None = None
    is_judged: bool = False


@dataclass(frozen=True)
class Earlier:
    """What people were asked and said before.

    Attributes:
        batches: how many there were.
        waiting: what unfinished batches ask.
        answered: what others asked, as far as somebody answered it.
        labels: of people, of all batches that ended, and of other tools.
    """

    batches: int = 0
    waiting: Collection[Texts] = ()
    answered: Collection[Texts] = ()
    labels: Sequence[Label] = ()


@dataclass(frozen=True)
class Drawn:
    """The items of a new batch.

    Attributes:
        items: in the order in which they are shown.
        model: URI of the model that wrote the responses.
        verdicts: of the judge by id of item, that the first response is better; empty where none is to be shown.
    """

    items: list[Item]
    model: str
    verdicts: Mapping[str, float] = field(default_factory=dict)


# --- before anything is trained ---------------------------------------------------------------------------------------


def prepare(paths: Paths, config: Config) -> tuple[Prepared, list[str]]:
    """Refuse what can be seen to be wrong, and return what a batch is drawn with, and notes for the user.

    Raises:
        RequestError: the rule cannot choose here, its reward model or judge is not there, or a model cannot be used.
    """
    rule = selection_for(config.labelling.selection, config.labelling.kind)
    if config.labelling.show_judge and config.labelling.kind != "pair":
        raise RequestError(
            f"labelling.show_judge shows what a judge says of a pair, and labelling.kind is {config.labelling.kind}"
        )
    model = _reward_model(paths, config, rule)
    is_judged = JUDGE in rule.needs or config.labelling.show_judge
    if is_judged:
        config = config.model_copy(update={"labels": config.labels.model_copy(update={"source": "judge"})})
    return Prepared(config, rule, model, is_judged), check(config, paths)


def _reward_model(paths: Paths, config: Config, rule: Selection) -> Artifact | None:
    """Return the reward model that the newest run of the dataset has made, if the rule asks one."""
    if REWARD_MODEL not in rule.needs:
        return None
    name, chosen = config.data.name, f"labelling.selection={rule.name}"
    runs = (run.artifact(paths, REWARD_MODEL) for run in last_runs(paths, name))
    found = next((artifact for artifact in runs if artifact is not None), None)
    if found is None:
        raise RequestError(
            f"{chosen} asks the reward model of the last labels, and no run of {name} here has one. Make one: "
            f"make pipeline METHOD=rlhf DATA={name}; or draw at random: labelling.selection=random"
        )
    if ENSEMBLE in rule.needs and found.metrics.get("members", 1) < 2:
        raise RequestError(
            f"{chosen} asks a reward model of several members, and that of the last run of {name} has one. Train several: "
            f'make pipeline METHOD=rlhf DATA={name} SET="reward_model.ensemble=3"'
        )
    return found


# --- samples, candidates, items ---------------------------------------------------------------------------------------


def draw_batch(paths: Paths, prepared: Prepared, data: DatasetVersion, earlier: Earlier, say: Say) -> Drawn:
    """Return the items of a new batch.

    Args:
        paths: of the repository.
        prepared: rule, reward model and settings.
        data: the dataset, up to date.
        earlier: what is not asked again, or is held against the judge.
        say: prints one line for the user.

    Raises:
        DataError: the dataset has no question, or nothing is left to ask.
        ContractError: a stage refuses.
    """
    run = alone(paths, prepared.config, say, data=data.folder, names=_stages(prepared))
    made = make_samples(run, data)
    config, is_judged = run.config, prepared.is_judged

    # a judge has been asked about the pairs of one seed; whatever else is asked, each batch draws pairs of its own
    said = {*earlier.answered, *(texts_of(one.question, (one.first, one.second)) for one in earlier.labels)}
    asks_again = JUDGE in prepared.rule.needs  # what people said and the judge denies is worth a second look
    seed = config.seed + (0 if is_judged else SEED_STEP * earlier.batches)
    pool = Pool(made.samples.path, made.start.uri, seed, asked={*earlier.waiting, *(() if asks_again else said)})
    candidates = draw_candidates(pool, kind=config.labelling.kind, responses=config.labelling.responses, settings=config.labels)

    # the rule chooses, and checks are drawn among what it left
    judged = _judged(run, made) if is_judged else []
    opinions = _opinions(run, prepared, candidates, judged, earlier.labels) if prepared.rule.score else []
    how = Choice(count=config.labelling.batch, random_share=config.labelling.random_share, seed=seed, rule=prepared.rule)
    chosen = [replace(one.candidate, selection=one.selection) for one in choose(candidates, opinions, how)]
    taken = {texts_of(one.question, (each.text for each in one.responses)) for one in chosen}
    rest = replace(pool, asked={*pool.asked, *said, *taken})
    checks = (
        draw_checks(rest, config.labels, most=config.labelling.batch)
        if config.labelling.kind == "pair" and config.labelling.known_share
        else []
    )
    items = draw_items(
        chosen,
        kind=config.labelling.kind,
        size=config.labelling.batch,
        repeated=config.labelling.repeat_share,
        checks=checks,
        known=config.labelling.known_share if checks else 0.0,
        seed=seed,
    )
    return Drawn(items=items, model=made.start.uri, verdicts=verdicts_on(items, judged) if config.labelling.show_judge else {})


def _stages(prepared: Prepared) -> tuple[str, ...]:
    """Return the stages to come, in order."""
    config = prepared.config
    judged = [*(["judge"] if is_practising(config) else []), "label"] if prepared.is_judged else []
    return ("tokenizer", "validate", *dict.fromkeys(("base", config.row.starts_from)), "sample", *judged)


@dataclass(frozen=True)
class Made:
    """What the stages gave.

    Attributes:
        samples: of the model in `start`.
        start: the model that the method starts from.
        base: the base.
    """

    samples: Artifact
    start: Artifact
    base: Artifact


def make_samples(run: Alone, data: DatasetVersion) -> Made:
    """Draw the samples; what the data lack is told before anything is trained.

    Raises:
        DataError: the dataset has no question, or no demonstration for a method that starts from SFT.
    """
    make_tokenizer(run, data)
    validate(run, data)
    resolve_limits(run)
    required(run.data.path, "questions", Question, why="responses are sampled for")
    has_sft = run.config.row.starts_from == "sft"
    if has_sft:
        required(run.data.path, "demonstrations", Demonstration, why="SFT imitates")
        check_memory(run.config.model_copy(update={"method": "sft"}), run.data.path, run.say)
    base = make_base(run)
    start = train_sft(run, base) if has_sft else base
    return Made(samples=draw_samples(run, start), start=start, base=base)


def _judged(run: Alone, made: Made) -> list[Label]:
    """Return the judge's labels, those that a pipeline with `labels.source=judge` would learn from."""
    return read_labels(make_labels(run, SOURCES["judge"], made.samples, made.start, made.base).path)


def _opinions(
    run: Alone, prepared: Prepared, candidates: Sequence[Candidate], judged: Sequence[Label], people: Sequence[Label]
) -> list[Opinions]:
    """Return what reward model, judge and people say of the candidates, as far as the rule asks them."""
    model, size = prepared.reward_model, run.config.reward_model.score_batch_size
    rewards = reward_scores(model.path / "model", candidates, batch_size=size) if model else []
    return opinions_of(candidates, rewards=rewards, judged=judged, people=people)


def instructions_of(paths: Paths, kind: str) -> str:
    """Return what annotators read before they begin: `data/labelling/<kind>.md`.

    Raises:
        RequestError: the file is not there, or is empty.
    """
    file = paths.data / "labelling" / f"{kind}.md"
    text = file.read_text(encoding="utf-8") if file.is_file() else ""
    if not text.strip():
        raise RequestError(
            f"annotators of a {kind} read {file.relative_to(paths.root)} before they begin, and it is not there. Write it, or "
            f"get it back: git checkout {file.relative_to(paths.root)}"
        )
    return text
