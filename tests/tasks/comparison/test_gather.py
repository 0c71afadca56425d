"""From reports and a stage store, fabricated here, to the inputs of a comparison."""

import json

import numpy as np
import pytest

from posttrain.errors import DataError
from posttrain.settings.config import merge
from tasks.comparison.curves import learning_curve, proxy_points
from tasks.comparison.gather import (
    choose_metric,
    counted,
    evaluation_rows,
    families,
    questions_of,
    refuse_other_data,
    refuse_other_questions,
    seed_result,
    stage_folder,
)
from tasks.comparison.saw import simulated, what_it_saw
from tasks.workspace.paths import Paths


def row(name, right, *, sampled=(True, False), answers=("5",), reference=None, prompt="How many?"):
    def one(is_right):
        return {"text": "5" if is_right else "6", "tokens": 2, "is_finished": True, "extracted": "5" if is_right else None} | (
            {"is_right": is_right} if answers else {}
        )

    rows = {"greedy": one(right), "sampled": [one(each) for each in sampled], "reference": reference}
    return {"id": name, "prompt": prompt, "answers": list(answers), **rows}


class Store:
    """A stage store below a folder, and reports on it."""

    def __init__(self, folder):
        self.paths = Paths(folder)

    def stage(self, name, *, rows=(), file="problems.jsonl", metrics=None, costs=None, curves=(), audit=None):
        folder = self.paths.stages / name / f"key-{name}"
        folder.mkdir(parents=True)
        (folder / file).write_text("".join(json.dumps(each) + "\n" for each in rows))
        (folder / "stage.json").write_text(json.dumps({"metrics": metrics or {}, "costs": costs or {}}))
        if curves:
            (folder / "curves.jsonl").write_text("".join(json.dumps(each) + "\n" for each in curves))
        if audit:
            (folder / "audit.json").write_text(json.dumps(audit))
        return name

    def report(self, method, *stages, seed=0, md5="abc", **more):
        return {
            "pipeline_id": f"id-{method}",
            "method": method,
            "seed": seed,
            "dataset": "world",
            "data_md5": md5,
            "git_commit": "c0ffee",
            "stages": [{"name": name, "key": f"key-{name}"} for name in stages],
            "metrics": {"cost/train_seconds": 10.0, "cost/trained_tokens": 100.0, "cost/labels": 4.0, "cost/flops": None},
            "models": {"base": {"accuracy": {"estimate": 0.1}}, "sft": {"accuracy": {"estimate": 0.4}}},
            "model": {"uri": "models:/m/1"},
            "mlflow": {"run_id": "run"},
            "notes": ["a note"],
            **more,
        }


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path)


# --- one run ----------------------------------------------------------------------------------------------------------


def test_a_run_as_a_comparison_takes_it(store):
    rows = [row("a", True), row("b", False, answers=()), row("c", False, sampled=(False, False))]
    store.stage("evaluate-sft", rows=rows, metrics={"kl": 0.0, "response_tokens": 2.0}, costs={"evaluate_seconds": 3.0})
    store.stage("sft", metrics={"demonstrations": 16})
    report = store.report("sft", "sft", "evaluate-sft")
    table = evaluation_rows(store.paths, report, "sft")
    metric = choose_metric("auto", table)
    places = counted(table, metric)
    assert (metric, places) == ("accuracy", [0, 2]), "a question without answers is not compared on"
    found = seed_result(
        store.paths, report, merge({}, ["method=sft"]), metric=metric, places=places, command="make pipeline METHOD=sft",
        reward=[[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]], reward_by="the reward model of RLHF",
    )  # fmt: skip
    assert found.scores.tolist() == [1.0, 0.0]
    assert found.sampled.tolist() == [[1.0, 0.0], [0.0, 0.0]]
    assert found.extracted == [["5", None], [None, None]]
    assert found.reward.tolist() == [[1.0, 2.0], [5.0, 6.0]], "scores of the questions that are compared on"
    assert (found.texts, found.is_right) == (["5", "6"], [True, False])
    assert found.costs == {"train_seconds": 10.0, "trained_tokens": 100.0, "labels": 4.0, "evaluate_seconds": 3.0}
    assert found.metrics == {"kl": 0.0, "response_tokens": 2.0}
    assert found.run["stages"] == {"sft": "key-sft", "evaluate-sft": "key-evaluate-sft"}
    assert found.run["report"] == "reports/id-sft.md" and found.run["command"] == "make pipeline METHOD=sft"
    assert found.saw["demonstrations"] == 16 and found.notes == ("a note",)


def test_other_metrics(store):
    rows = [row("a", True, reference={"nats": 6.0, "tokens": 3}), row("b", False, reference={"nats": 4.0, "tokens": 4})]
    store.stage("evaluate-sft", rows=rows)
    report = store.report("sft", "evaluate-sft")
    how = {"places": [0, 1], "command": ""}
    sampled = seed_result(store.paths, report, merge({}), metric="accuracy_sampled", **how)
    assert sampled.scores.tolist() == [0.5, 0.5]
    loss = seed_result(store.paths, report, merge({}), metric="reference_loss", **how)
    assert np.allclose(loss.scores, [-2.0, -1.0]), "nats a token of each completion, negated: higher is better"


def test_where_one_question_has_no_answers_none_is_told_right_or_wrong(store):
    reference = {"nats": 6.0, "tokens": 3}
    store.stage("evaluate-sft", rows=[row("a", True, reference=reference), row("b", True, answers=(), reference=reference)])
    report = store.report("sft", "evaluate-sft")
    found = seed_result(store.paths, report, merge({}), metric="reference_loss", places=[0, 1], command="", reward=[[1.0]] * 2)
    assert (found.sampled, found.extracted, found.reward, found.is_right) == (None, None, None, None)
    assert found.texts == ["5", "5"]


@pytest.mark.parametrize(
    ("asked", "rows", "metric"),
    [
        ("auto", [row("a", True)], "accuracy"),
        ("auto", [row("a", True, answers=(), reference={"nats": 1.0, "tokens": 1})], "reference_loss"),
        ("auto", [row("a", True, reference={"nats": 1.0, "tokens": 1})], "accuracy"),
        ("accuracy_sampled", [row("a", True)], "accuracy_sampled"),
    ],
)
def test_the_metric_that_decides(asked, rows, metric):
    assert choose_metric(asked, rows) == metric


@pytest.mark.parametrize(
    ("asked", "rows", "says"),
    [
        ("auto", [row("a", True, answers=())], "neither answers nor completions to compare with"),
        ("accuracy", [row("a", True, answers=(), reference={"nats": 1.0, "tokens": 1})], "neither answers"),
        ("reference_loss", [row("a", True)], "compare.metric=reference_loss needs completions of held-out questions"),
    ],
)
def test_a_metric_that_nothing_defines_is_refused(asked, rows, says):
    with pytest.raises(DataError, match=says):
        choose_metric(asked, rows)


def test_a_stage_that_is_gone_is_told(store):
    report = store.report("sft", "evaluate-sft")
    with pytest.raises(DataError, match="the report id-sft needs its stage evaluate-sft, which is not in"):
        stage_folder(store.paths, report, "evaluate-sft")


# --- what does not compare --------------------------------------------------------------------------------------------


def test_other_questions_are_refused_naming_both():
    ours, fewer = [row("a", True), row("b", False)], [row("a", False)]
    other = [row("a", True), row("b", False, prompt="How few?")]
    refuse_other_questions({"sft seed 0": ours, "dpo seed 0": [row("a", False), row("b", True)]})
    corrected = [row("a", True), row("b", False, answers=("6",))]
    for theirs, count in ((fewer, 1), (other, 2), (corrected, 2)):
        with pytest.raises(DataError) as told:
            refuse_other_questions({"sft seed 0": ours, "dpo seed 1": theirs})
        assert str(told.value).startswith(f"sft seed 0 was evaluated on 2 held-out questions and dpo seed 1 on {count}, which")


def test_other_data_are_refused_naming_both(store):
    refuse_other_data({"sft seed 0": store.report("sft"), "dpo seed 0": store.report("dpo")})
    with pytest.raises(DataError, match="sft seed 0 ran on world abc, and dpo seed 0 on world def: they do not compare"):
        refuse_other_data({"sft seed 0": store.report("sft"), "dpo seed 0": store.report("dpo", md5="def")})


def test_questions_as_they_are_shown():
    chat = [{"role": "user", "content": "How many?"}, {"role": "assistant", "content": "Of what?"}]
    found = questions_of([row("a", True), row("b", True, prompt=chat, answers=("1", "one"))], [1, 0], {"a": "apples"})
    assert [(one.id, one.prompt, one.answers, one.group) for one in found] == [
        ("b", "user: How many?\nassistant: Of what?", ("1", "one"), None),
        ("a", "How many?", ("5",), "apples"),
    ]


def test_families_are_those_of_the_held_out_questions_that_have_one(store):
    rows = [{"id": "a", "family": "apples"}, {"id": "b", "family": None}, {"id": "c"}, {"id": "d", "family": "pears"}]
    store.stage("validate", rows=rows, file="held_out.jsonl")
    assert families(store.paths, store.report("sft", "validate")) == {"a": "apples", "d": "pears"}


# --- curves -----------------------------------------------------------------------------------------------------------


def test_the_curve_of_a_rewarded_method_is_gold_after_each_update(store):
    curves = [{"step": step, "ppo/gold": gold} for step, gold in ((1, 0.4), (2, 0.6), (4, 0.8))]
    store.stage("ppo", curves=curves, costs={"trained_tokens": 80.0, "train_seconds": 8.0, "generated_tokens": 40.0})
    report = store.report("reft", "ppo")
    costs = {"trained_tokens": 100.0, "train_seconds": 10.0, "generated_tokens": 40.0, "labels": 0.0}
    points = learning_curve(store.paths, report, costs)
    # 20 tokens and 2 s went before PPO, whose 80 tokens and 8 s are shared out over 4 updates
    assert [(point["step"], point["trained_tokens"], point["seconds"], point["value"]) for point in points] == [
        (1, 40.0, 4.0, 0.4),
        (2, 60.0, 6.0, 0.6),
        (4, 100.0, 10.0, 0.8),
    ]
    assert {point["what"] for point in points} == {"training questions, gold"}


def test_the_curve_of_any_other_method_is_its_start_and_its_end(store):
    store.stage("dpo", costs={"trained_tokens": 60.0, "train_seconds": 6.0})
    report = store.report("dpo", "dpo", models={"sft": {"accuracy": {"estimate": 0.4}}, "dpo": {"accuracy": {"estimate": 0.7}}})
    points = learning_curve(store.paths, report, {"trained_tokens": 100.0, "train_seconds": 10.0, "labels": 5.0})
    assert [(point["trained_tokens"], point["seconds"], point["labels"], point["value"]) for point in points] == [
        (40.0, 4.0, 5.0, 0.4),
        (100.0, 10.0, 5.0, 0.7),
    ]
    points = learning_curve(store.paths, store.report("sft"), {"trained_tokens": 9.0})
    assert [(point["trained_tokens"], point["value"]) for point in points] == [(0.0, 0.1), (9.0, 0.4)], "SFT's start is the base"
    assert learning_curve(store.paths, store.report("sft", models={"base": {}, "sft": {}}), {}) == []


def test_proxy_and_gold_are_in_deviations_of_the_starting_models_samples(store):
    scales = {"proxy": {"mean": 1.0, "deviation": 2.0}, "gold": {"mean": 0.5, "deviation": 0.25}}
    ppo = [{"sqrt_kl": 0.0, "proxy": 1.0, "gold": 0.5}, {"sqrt_kl": 2.0, "proxy": 5.0, "gold": None}]
    best = [{"n": 4, "kl": 0.64, "proxy": {"estimate": 3.0}, "gold": {"estimate": 0.75}}]
    store.stage("audit", audit={"scales": scales, "ppo": ppo, "best_of_n": best})
    assert proxy_points(store.paths, store.report("rlhf", "audit")) == {
        "points": [{"sqrt_kl": 0.0, "proxy": 0.0, "gold": 0.0}, {"sqrt_kl": 2.0, "proxy": 2.0, "gold": None}],
        "best_of_n": [{"n": 4, "sqrt_kl": 0.8, "proxy": 1.0, "gold": 1.0}],
    }
    assert proxy_points(store.paths, store.report("dpo")) is None


# --- what it saw ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("method", "stages", "audit", "saw", "stands_in"),
    [
        ("sft", {"sft": {"demonstrations": 16}}, None, {"demonstrations": 16, "labels": 4}, ()),
        ("reft", {"sft": {"demonstrations": 16}, "ppo": {"questions": 20}}, None,
         {"demonstrations": 16, "questions": 20, "gold_answers": 20, "labels": 4}, ()),
        ("dpo", {"sft": {"demonstrations": 16}, "sample": {"responses": 72}}, {"source": "simulated"},
         {"demonstrations": 16, "questions": 9, "labels": 4, "labels_by": "simulated annotators"}, ("annotators",)),
        ("rlaif", {"judge": {}, "ppo": {"questions": 7}}, {"source": "judge"},
         {"questions": 7, "labels": 4, "labels_by": "an AI judge", "judge": "base"}, ("the judge's practice",)),
        ("self_training", {"sample": {"responses": 40}}, None, {"questions": 5, "gold_answers": 5, "labels": 4}, ()),
        ("few_shot", {"few_shot": {"shots": 8}}, None, {"demonstrations": 8, "labels": 4}, ()),
    ],
)  # fmt: skip
def test_what_a_method_learned_from(store, method, stages, audit, saw, stands_in):
    for name, metrics in stages.items():
        store.stage(name, metrics=metrics)
    report = store.report(method, *stages, **({"audit": audit} if audit else {}))
    config = merge({}, [f"method={method}"])
    assert what_it_saw(store.paths, report, config) == saw
    assert simulated(report, config) == stands_in


def test_right_answers_count_only_where_a_program_told_them(store):
    store.stage("ppo", metrics={"questions": 20})
    report = store.report("ppo", "ppo")
    for reward, told in (("answer", 20), ("python:mine:score", None), ("model:models:/x@y", None)):
        found = what_it_saw(store.paths, report, merge({}, ["method=ppo", f"ppo.reward={reward}"]))
        assert found.get("gold_answers") == told, reward
