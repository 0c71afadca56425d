"""What a pipeline's stages are called with is their key: each argument in turn is changed, and the key changes or need not."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from flows.pipeline import run_stages
from flows.run import Done, Run
from posttrain.methods import METHODS
from posttrain.settings.config import SECTION_NAMES, merge
from posttrain.settings.section import Part, Section
from tasks.data.dvc import DatasetVersion
from tasks.feedback.given import GivenLabels
from tasks.judges.identity import BACKENDS
from tasks.judges.load import JudgeSource
from tasks.rewards.interface import RewardSource
from tasks.workspace.artifacts import Artifact
from tasks.workspace.jsonl import write_rows
from tasks.workspace.keys import Contents, NotDeciding, closure, sorted_inputs, stage_key
from tasks.workspace.paths import Paths

ROOT = Path(__file__).resolve().parents[2]
FREE = {
    "base": "the pipeline's base, where the judge is another model",
    "cache": "of a judge's answers, which are what they are",
    "findings": "where what was found is put",
    "model_uri": "names the model that wrote the responses, whose digest the samples have",
    "start_uri": "as model_uri",
    "templates": "the folder; the template that is read enters by its digest",
    "title": "of a progress bar",
}
"""Arguments that decide nothing, and why."""


class Recorded(Run):
    """A run that computes nothing: every stage gives an artifact at once, and what it was called with is kept."""

    def __init__(self, root: Path, words: list[str], people: GivenLabels | None = None) -> None:
        super().__init__(Paths(root), merge({}, words), ledger=Any, parent="p", say=print, people=people)  # type: ignore[arg-type]
        self.asked: list[tuple[str, str, dict[str, str], dict[str, Any]]] = []

    def stage(self, name, compute, /, *, read=None, resumable=False, trains=False, **arguments):
        self.asked.append((name, compute, dict(read or {}), arguments))
        sorted_inputs(name, arguments, device="cpu")
        folder = self.paths.data / "mine" if name == "validate" else self.paths.root / name
        made = Artifact(name, f"key of {name}", str(folder), 1.0, {"context": 64.0}, {}, f"digest of {name}")
        self.done.append(Done(name=name, artifact=made, cached=True, run_id="r"))
        return made

    def keep_metrics(self, metrics):
        """Keep nothing: nothing was measured."""


@pytest.fixture
def data(tmp_path: Path) -> DatasetVersion:
    return dataset(tmp_path)


def dataset(root: Path) -> DatasetVersion:
    """Write a dataset of a few rows below a root that has the repository's suites and prompts."""
    folder = root / "data" / "mine"
    folder.mkdir(parents=True)
    (root / "data" / "expectations").symlink_to(ROOT / "data" / "expectations")
    (root / "data" / "judges").symlink_to(ROOT / "data" / "judges")
    write_rows(folder / "demonstrations.jsonl", [{"kind": "demonstration", "id": "d", "prompt": "1 + 1", "completion": "2"}])
    asked = [{"kind": "question", "id": f"q{number}", "prompt": f"{number} + 1", "answers": ["2"]} for number in range(4)]
    for role in ("questions", "held_out"):
        write_rows(folder / f"{role}.jsonl", asked)
    files = {role: f"md5 of {role}" for role in ("demonstrations", "questions", "held_out")}
    return DatasetVersion(name="mine", folder=folder, md5="m", files=files)


def called(data: DatasetVersion, *words: str, people: GivenLabels | None = None) -> Recorded:
    run = Recorded(data.folder.parents[1], ["data.name=mine", *words], people)
    run_stages(run, data)
    return run


REQUESTS = [
    *([f"method={name}"] for name in METHODS),
    ["method=dpo", "labels.source=judge", "judge.model=base", "evaluate.judge=true"],
    ["method=rlaif", "judge.backend=openai", "judge.model=m", "judge.base_url=http://127.0.0.1:1/v1"],
    ["method=rlhf", "labels.source=people", "labels.file=people.jsonl"],
    ["method=dpo", "labels.source=dataset"],
    ["method=rlhf", "people"],
    ["method=rlaif", "people"],
    ["method=dpo", "evaluate.part=development"],
]


@pytest.fixture(params=REQUESTS, ids=" ".join)
def run(request: pytest.FixtureRequest, data: DatasetVersion, monkeypatch: pytest.MonkeyPatch) -> Recorded:
    monkeypatch.chdir(ROOT)
    (data.folder.parents[1] / "people.jsonl").touch()
    monkeypatch.setattr("flows.feedback.read_store", lambda *_, **__: [])
    people = GivenLabels((), 0, "digest of labels") if "people" in request.param else None
    words = [
        word.replace("people.jsonl", str(data.folder.parents[1] / "people.jsonl")) for word in request.param if word != "people"
    ]
    if "labels.source=dataset" in words:
        pair = {"kind": "preference", "id": "p", "prompt": "1 + 1", "chosen": "2", "rejected": "3"}
        write_rows(data.folder / "preferences.jsonl", [pair])
    return called(data, *words, people=people)


def other(value: Any) -> Any:
    """Return a value of the same kind that is not this one."""
    match value:
        case bool():
            return not value
        case int() | float():
            return value + 1
        case str():
            return value + " other"
        case Artifact() | Contents():
            return replace(value, digest=value.digest + " other")
    return value


def changes(value: Any) -> list[tuple[Any, bool]]:
    """Return what an argument may be instead, each with whether the key must change."""
    match value:
        case NotDeciding():
            return [(NotDeciding("another"), False)]
        case None:
            return [("there", True)]
        case Part():
            return [(Part(changed(value.section, one), value.names), one in value.names) for one in names_of(value.section)]
        case Section():
            return [(changed(value, name), name in type(value).deciding()) for name in names_of(value)]
        case bool() | int() | float() | str() | Artifact() | Contents():
            return [(other(value), True)]
    another = replace(value)
    object.__setattr__(another, "digest", value.digest + " other")
    return [(another, True)]


def names_of(section: Section) -> list[str]:
    return [name for name in type(section).model_fields if isinstance(getattr(section, name), bool | int | float | str)]


def changed(section: Section, name: str) -> Section:
    return section.model_copy(update={name: other(getattr(section, name))})


def key(stage: tuple[str, str, dict[str, str], dict[str, Any]], **instead: Any) -> str:
    name, compute, read, arguments = stage
    inputs = sorted_inputs(name, {**arguments, **instead}, device="cpu")
    return stage_key(name, replace(inputs, digests={**inputs.digests, **read}), compute=compute)


def test_every_argument_of_every_stage_is_keyed_or_marked_as_not_deciding(run: Recorded, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tasks.workspace.keys.source_digest", lambda module: module)
    assert len(run.asked) >= 6
    for stage in run.asked:
        before = key(stage)
        for name, value in stage[3].items():
            for instead, is_deciding in changes(value):
                assert (key(stage, **{name: instead}) != before) is is_deciding, (stage[0], name, value, instead)
            assert not isinstance(value, NotDeciding) or name in FREE, f"{stage[0]}: say in FREE why {name} decides nothing"
            assert not isinstance(value, Path)
        for name in stage[2]:
            read = {**stage[2], name: "other"}
            assert key((*stage[:2], read, stage[3])) != before, (stage[0], name)


def test_the_device_is_in_the_key_of_what_loads_a_model(run: Recorded) -> None:
    for name, _, _, arguments in run.asked:
        keyed = sorted_inputs(name, arguments, device="cuda").settings.get("device")
        assert keyed == ("cuda" if "model" in arguments else None)
    assert sum("model" in arguments for _, _, _, arguments in run.asked) >= 4


def test_a_bare_path_enters_no_key_and_is_refused(tmp_path: Path) -> None:
    with pytest.raises(TypeError, match=r"^stage label: its argument store is a bare path, which enters no key\. Give"):
        sorted_inputs("label", {"store": tmp_path}, device="cpu")
    with pytest.raises(TypeError, match=r"^stage label: its argument rows is list, which no key can hold$"):
        sorted_inputs("label", {"rows": []}, device="cpu")


def test_what_a_stage_gets_is_the_thing_and_not_its_mark(tmp_path: Path) -> None:
    made = Artifact("base", "k", str(tmp_path), 0.0, {}, {}, "d")
    config = merge({})
    given = {"base": made, "data": Contents(tmp_path / "x", "y"), "cache": NotDeciding(tmp_path), "seed": 3, "none": None}
    inputs = sorted_inputs("s", {**given, "settings": config.sft}, device="cpu")
    wanted = {"base": tmp_path, "data": tmp_path / "x", "cache": tmp_path, "seed": 3, "none": None, "settings": config.sft}
    assert inputs.arguments == wanted
    assert inputs.digests == {"base": "d", "data": "y", "none": ""}
    assert inputs.settings == {"seed": 3, **{f"sft.{name}": getattr(config.sft, name) for name in type(config.sft).deciding()}}
    assert json.dumps(inputs.settings) and SECTION_NAMES[type(config.sft)] == "sft"


@pytest.mark.parametrize(
    ("method", "start", "is_policy"),
    [("dpo", "sft", True), ("reft", "sft", True), ("self_training", "base", False), ("few_shot", "base", False)],
)
def test_who_trains_from_where_and_whose_log_ratio_is_a_reward(
    data: DatasetVersion, monkeypatch: pytest.MonkeyPatch, method: str, start: str, is_policy: bool
) -> None:
    monkeypatch.chdir(ROOT)
    run = called(data, f"method={method}")
    given = {name: arguments for name, _, _, arguments in run.asked}
    assert given[run.config.row.trainer]["start"].stage == start
    evaluated = given[f"evaluate-{method}"]
    assert (evaluated["reference"].stage, evaluated["is_policy"]) == (run.config.row.starts_from, is_policy)
    others = {name: given[f"evaluate-{name}"]["is_policy"] for name in run.config.row.models if name != method}
    assert others == {name: name != "base" for name in others}


def test_the_part_that_is_asked_is_in_the_key_of_evaluations_and_of_no_training(
    data: DatasetVersion, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So a trial and a reported run share whatever is trained alike, and neither is taken for the other."""
    monkeypatch.chdir(ROOT)
    kinds = ("all", "development", "reported")
    stages = {kind: {one[0]: one for one in called(data, "method=rlhf", f"evaluate.part={kind}").asked} for kind in kinds}
    assert set(stages["reported"]) == set(stages["development"]) == {*stages["all"], "part"}
    for name, stage in stages["all"].items():
        keys = {key(stages[kind][name]) for kind in kinds}
        assert len(keys) == (3 if name.startswith("evaluate-") else 1), name
        assert key(stage) == key(stages["all"][name])
    assert key(stages["reported"]["part"]) != key(stages["development"]["part"])
    assert stages["all"]["evaluate-sft"][3]["part"] is None
    assert stages["reported"]["evaluate-sft"][3]["part"].stage == "part"


# --- which edits run which stages again ---------------------------------------------------------------------------------------

PPO, LOOP = {"ppo"}, {"ppo", "grpo", "rloo"}
EVALUATIONS = {f"evaluate-{name}" for name in ("base", *METHODS)}
EDITS = [
    ("a server's retries", "tasks/judges/server.py", set()),
    ("how a local judge is asked", "tasks/judges/local.py", {"label", "self_preference", *PPO}),
    ("the audit's picture", "tasks/evaluation/audit_picture.py", {"audit"}),
    ("a report's text", "posttrain/report/pipeline.py", set()),
    ("what MLflow is told", "tasks/tracking/ledger.py", set()),
    ("statistics of agreement", "posttrain/feedback/agreement.py", {"label", "second_opinion"}),
    ("a format of imported rows", "posttrain/data/formats/turns.py", set()),
    ("what an import says at its end", "tasks/data/next_step.py", set()),
    ("what a step of PPO minimises", "posttrain/rl/objective.py", LOOP),
    ("GRPO's advantages", "posttrain/rl/grpo.py", {"grpo"}),
    ("how DPO is trained", "tasks/training/dpo.py", {"dpo"}),
    ("simulated annotators", "tasks/feedback/sources/simulated.py", {"label"}),
    ("a judge as a reward", "tasks/rewards/sources/judge.py", PPO),
    ("a grader as a reward", "tasks/rewards/sources/grader.py", LOOP),
    ("near-duplicate prompts", "posttrain/data/near_duplicates.py", set()),
    ("the data gate's page", "tasks/validation/page.py", {"validate"}),
    ("what an evaluation finds", "posttrain/evaluation/figures.py", EVALUATIONS),
]


def modules_of(compute: str, arguments: dict[str, Any]) -> set[str]:
    """Return the modules of ours whose source is in a stage's key: its own, its reward's kind's, its judge's backend's."""
    found = set(closure(compute.partition(":")[0]))
    for value in arguments.values():
        if isinstance(value, RewardSource):
            found |= set(closure(f"tasks.rewards.sources.{value.kind}"))
        judge = value if isinstance(value, JudgeSource) else getattr(value, "judge", None)
        if isinstance(judge, JudgeSource):
            found |= set(closure(BACKENDS[judge.settings.backend].module))
    return found


@pytest.fixture(scope="module")
def stages_of_module(tmp_path_factory: pytest.TempPathFactory) -> dict[str, set[str]]:
    """The stages of all methods that a module's source is in the key of."""
    found: dict[str, set[str]] = {}
    data = dataset(tmp_path_factory.mktemp("keys"))
    for method in METHODS:
        for name, compute, _, arguments in called(data, f"method={method}").asked:
            for module in modules_of(compute, arguments):
                found.setdefault(module, set()).add(name)
    return found


@pytest.mark.parametrize(("edit", "file", "stages"), EDITS, ids=[edit for edit, _, _ in EDITS])
def test_an_edit_runs_those_stages_again_that_it_concerns(edit, file, stages, stages_of_module) -> None:
    assert (ROOT / file).is_file()
    assert stages_of_module.get(file.removesuffix(".py").replace("/", "."), set()) == stages


def test_no_stage_depends_on_flows_or_on_the_ledger(stages_of_module) -> None:
    assert not [module for module in stages_of_module if module.startswith(("flows", "tasks.tracking", "tasks.report"))]
    assert not {"posttrain.settings.config", "posttrain.errors", "posttrain.methods", "tasks.workspace.keys"} & set(
        stages_of_module
    )
