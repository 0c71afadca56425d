"""Advice: every situation of the practitioners' guide, what each rule changes, and what must never happen."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from posttrain.advice.advise import RULES, advise
from posttrain.advice.barriers import IMPOSSIBLE, impossible
from posttrain.advice.rule import Effect
from posttrain.advice.situation import Asked, Machine, Situation
from posttrain.methods import METHODS
from tests.posttrain.advice import situations as these
from tests.posttrain.advice.situations import labelled_by

GRADED = {"reft", "grpo", "rloo", "ppo", "self_training"}
PEOPLE = {"dpo", "kto", "rlhf"}
TABLE = [
    # (situation, first, must be impossible, must warn)
    (these.WORLD, "reft", set(), {"too_small_to_prompt"}),
    (these.MATHS, "reft", set(), {"rates_of_the_tiny_base"}),
    (these.QUESTIONS_ONLY, "ppo", set(METHODS) - {"ppo"}, set()),
    (these.CHAT, "sft", GRADED | PEOPLE, {"not_scored"}),
    (these.EXTRACTION, "sft", GRADED | PEOPLE, set()),
    (these.FEW_CHAT, "sft", GRADED | PEOPLE, set()),
    (these.PREFERENCES, "dpo", GRADED, {"off_policy"}),
    (these.FEW_PREFERENCES, "dpo", GRADED, {"off_policy"}),
    (these.RANKINGS, "dpo", GRADED, {"off_policy"}),
    (these.JUDGED, "rlaif", GRADED | PEOPLE, set()),
    (these.RATINGS, None, set(METHODS), set()),
    (these.NAMED_REWARD, "grpo", {"reft", "self_training"} | PEOPLE, set()),
    (replace(these.NAMED_REWARD, demonstrations=0), "ppo", set(METHODS) - {"ppo"}, set()),
    (these.LARGE_ON_CPU, None, set(METHODS), {"rates_of_the_tiny_base"}),
    (these.EMPTY, None, set(METHODS), set()),
    (replace(these.MATHS, demonstrations=20), "reft", set(), set()),
    (replace(these.MATHS, pairs=5_000, labels=5_000, labels_from=labelled_by("dataset")), "reft", set(), set()),
    (replace(these.PREFERENCES, asked=Asked(judge="large", max_new_tokens=320)), "dpo", GRADED, set()),
    (replace(these.PREFERENCES, alpha=0.3), "dpo", GRADED, {"people_disagree"}),
    (replace(these.PREFERENCES, shared_pairs=0, alpha=None), "dpo", GRADED, {"agreement_unknown"}),
    (replace(these.MATHS, held_out=100, held_out_answered=100), "reft", set(), {"small_held_out"}),
    (replace(these.MATHS, beyond_limit=0.7), "reft", set(), {"cut_off"}),
    (replace(these.MATHS, near_duplicates=0.4), "reft", set(), {"near_duplicates"}),
    (replace(these.MATHS, prompt_tokens=500), "reft", set(), {"long_prompts"}),
    (replace(these.MATHS, shortest_shot=500), "reft", set(), {"no_room_for_shots"}),
    (replace(these.MATHS, kinds={"choice": 2_000}), "reft", set(), {"choices_can_be_guessed"}),
    (
        replace(these.MATHS, kinds={"choice": 2_000}, asked=Asked(partial_credit=0.1)),
        "reft",
        set(),
        {"partial_credit_for_choices"},
    ),
    (replace(these.MATHS, kinds={"text": 2_000}, long_answers=1_500), "sft", set(), {"prose_answers"}),
    (replace(these.MATHS, answered=1_200), "reft", PEOPLE, {"partly_checkable"}),
    (replace(these.MATHS, dataset="mine", base=these.WORLD.base), "reft", set(), {"no_language_model"}),
    (replace(these.MATHS, asked=Asked(device_rows={"ppo": 512, "grpo": 64, "rloo": 64})), "reft", set(), {"memory_is_tight"}),
    (these.MATHS, "reft", set(), {"slow_on_cpu"}),
]


def warned(advice):
    return {one.rule for one in advice.warnings} | {one.rule for method in advice.methods for one in method.warnings}


@pytest.mark.parametrize(
    ("situation", "first", "absent", "warns"), TABLE, ids=[f"{n}-{row[0].dataset}" for n, row in enumerate(TABLE)]
)
def test_every_situation_of_the_guide(situation, first, absent, warns):
    advice = advise(situation)
    assert (advice.first.method.name if advice.first else None) == first, advice.sentence
    possible = {one.method.name for one in advice.possible}
    assert not possible & absent
    assert possible == set(METHODS) - absent
    assert warns <= warned(advice)


def places(advice):
    return (
        advice.sentence,
        [one.method.name for one in advice.possible],
        [(one.method.name, one.weight, one.is_possible) for one in advice.methods],
        warned(advice),
    )


SITUATIONS = [row[0] for row in TABLE]
MORE = [
    replace(these.MATHS, labels_from=labelled_by("people"), labels=4_000),
    replace(these.CHAT, questions=0, labels_from=labelled_by("people")),
    replace(these.CHAT, refused={"dpo": "labels.source=people needs the store of labels"}),
    replace(these.MATHS, labels_from=labelled_by("dataset")),
    replace(these.MATHS, ratings=9, labels_from=labelled_by("dataset")),
    replace(these.CHAT, questions=0, asked=Asked(is_graded=False, reward="python:a:b")),
    these.TIGHT,
    replace(these.PREFERENCES, asked=Asked(judge="large", max_new_tokens=320)),
]


@pytest.mark.parametrize("rule", RULES, ids=[rule.name for rule in RULES])
def test_each_rule_matters(rule):
    """Without it some situation gets another answer."""
    fewer = [one for one in RULES if one is not rule]
    assert any(places(advise(one)) != places(advise(one, rules=fewer)) for one in (*SITUATIONS, *MORE))


def test_rules_have_names_of_their_own_and_say_where_they_are_from():
    assert len({rule.name for rule in RULES}) == len(RULES)
    for rule in RULES:
        assert rule.says and rule.source and rule.reason, rule.name
        assert (rule.weight > 0) == (rule.effect is Effect.BEFORE) and (rule.weight < 0) == (rule.effect is Effect.AFTER)
        assert bool(rule.seen_by) == (rule.effect is Effect.IMPOSSIBLE), rule.name


def test_an_impossible_method_is_told_with_reason_and_remedy_in_a_sentence():
    told = {name: impossible(row, these.QUESTIONS_ONLY) for name, row in METHODS.items()}
    assert told["ppo"] == ""
    assert told["dpo"] == (
        "DPO cannot run on questions: there are no demonstrations to imitate or to show; write some 50 to 100 good responses to "
        "training questions and import them with the rest (FORMAT=records)"
    )
    assert impossible(METHODS["reft"], these.CHAT) == (
        "ReFT cannot run on chat: ppo.reward=answer checks answers, and none of the 5,000 training questions has one; import "
        "questions with answers, or, where the method takes any reward, name one: ppo.reward=model:<directory> or "
        "python:<module>:<function>"
    )
    # 16 bytes a weight for the policy, 16 for the critic, 4 for the reference: 36 · 7e9 / 2^30 = 234.7 GB
    assert impossible(METHODS["reft"], these.LARGE_ON_CPU) == (
        "ReFT cannot run on large: its networks with gradients and optimiser take 234.7 GB at least, and there are 16.0 GB; "
        "train adapters (model.lora_rank=16), take a smaller base, or a machine with more memory"
    )
    refused = replace(these.CHAT, refused={"dpo": "labels.source=people needs the store of labels"})
    assert impossible(METHODS["dpo"], refused) == "DPO cannot run on chat: labels.source=people needs the store of labels"


def test_the_sentence_names_method_figure_and_what_to_measure_before():
    assert advise(these.WORLD).sentence == (
        "On world try ReFT first: 2,000 of 2,000 training questions have an answer that a program can check, so its reward is "
        "exact and costs no label; measure few-shot and SFT before it, to know what it has to beat."
    )
    assert advise(these.EMPTY).sentence == (
        "No method can run on empty as it is: 0 held-out questions are asked, and two at least have an interval; import more "
        "records, or raise split.held_out in params.yaml or evaluate.max_questions."
    )
    assert advise(these.FEW_CHAT).sentence.startswith("On few chat try SFT first: nothing in the data speaks for another;")
    only = advise(these.WORLD, [METHODS["few_shot"]])
    assert only.first.method.name == "few_shot" and "it is the only one" in only.sentence


def test_a_critic_that_does_not_fit_moves_the_methods_without_one_ahead():
    # ReFT: 36 bytes · 135 M, 64 rows of 240 tokens through two networks, 30 · 576 · 68 bytes a token each, and logits of 200
    # tokens of each row, 49,152 · 12 bytes a token: 48.5 GB. GRPO: 20 bytes · 135 M and one network: 28.3 GB. Copies in bfloat16
    # are 0.3 GB a network
    assert advise(these.ROOMY).first.method.name == "reft"
    assert advise(these.TIGHT).first.method.name == "grpo"


def test_dropping_methods_keeps_the_order_of_the_others():
    whole = [one.method.name for one in advise(these.WORLD).methods]
    some = [one.method.name for one in advise(these.WORLD, [METHODS[name] for name in ("dpo", "reft", "sft")]).methods]
    assert some == [name for name in whole if name in some] == ["sft", "reft", "dpo"]


counts = st.integers(0, 3_000)


@st.composite
def any_situation(draw):
    questions = draw(counts)
    answered = draw(st.integers(0, questions))
    pairs = draw(counts)
    return Situation(
        demonstrations=draw(counts),
        questions=questions,
        answered=answered,
        kinds={"number": answered},
        long_answers=draw(st.integers(0, answered)),
        held_out=draw(counts),
        pairs=pairs,
        labels=pairs,
        labels_from=labelled_by(draw(st.sampled_from(["simulated", "dataset", "people"]))),
        asked=Asked(judge=draw(st.sampled_from(["base", "large"])), is_graded=draw(st.booleans())),
        base=these.REAL,
        machine=Machine(memory=draw(st.integers(1, 64)) * 2**30),
    )


@given(any_situation(), st.integers(1, 5_000))
def test_more_pairs_never_make_a_method_of_preferences_impossible(situation, more):
    richer = replace(situation, pairs=situation.pairs + more, labels=situation.labels + more)
    for name in PEOPLE:
        if not impossible(METHODS[name], situation):
            assert not impossible(METHODS[name], richer)


@given(any_situation(), st.integers(1, 5_000))
def test_more_of_anything_else_never_makes_a_method_impossible(situation, more):
    richer = (
        replace(situation, demonstrations=situation.demonstrations + more),
        replace(situation, held_out=situation.held_out + more),
        replace(situation, questions=situation.questions + more, answered=situation.answered + more)
        if situation.answered == situation.questions
        else situation,
        replace(situation, machine=replace(situation.machine, memory=situation.machine.memory + more)),
    )
    for row in METHODS.values():
        if not impossible(row, situation):
            assert not any(impossible(row, one) for one in richer)


@given(any_situation())
def test_impossible_and_advice_say_the_same(situation):
    advice = advise(situation)
    assert [one.method.name for one in advice.methods if not one.is_possible] == [
        one.method.name for one in advice.methods if impossible(one.method, situation)
    ]
    assert {one.method.name for one in advice.methods} == set(METHODS)
    assert (advice.first is None) == (not advice.possible)
    places = [one.is_possible for one in advice.methods]
    assert places == sorted(places, reverse=True), "the impossible ones stand at the end"
    for one in advice.methods:
        assert len({reason.rule for reason in one.reasons}) == len(one.reasons)
        assert not any("{" in reason.text + reason.remedy for reason in one.reasons)


def test_every_impossible_rule_is_told_first_by_the_order_of_the_table():
    assert IMPOSSIBLE[0].name == "refused_settings", "what the settings say comes before what the data say"


def test_two_held_out_questions_are_the_fewest():
    assert impossible(METHODS["sft"], replace(these.WORLD, held_out=1)).startswith(
        "SFT cannot run on world: 1 held-out questions are asked, and two at least have an interval"
    )
    assert impossible(METHODS["sft"], replace(these.WORLD, held_out=2)) == ""
    assert "1 held-out" in impossible(METHODS["sft"], replace(these.WORLD, asked=Asked(max_questions=1)))
