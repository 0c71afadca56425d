"""The stage `reward_model`: what it writes, what it refuses, and that a preference that can be told is learnt from files."""

import json
from random import Random

import pytest
from transformers import AutoModelForSequenceClassification

from models.load import load_tokenizer
from models.reward import centre_of, load_reward_model, score_texts
from models.size import size_of
from posttrain.errors import ContractError, DataError
from posttrain.feedback.labels import Label
from posttrain.settings.model import ModelSettings
from posttrain.settings.reward_model import RewardModelSettings
from tasks.feedback.agreement import write_labels
from tasks.training import reward_model
from tasks.workspace.jsonl import read_rows

SETTINGS = RewardModelSettings(
    train_share=0.6,
    epochs=3.0,
    learning_rate=3e-3,
    batch_size=8,
    min_share_of_agreement=0.1,
    max_calibration_error=0.5,
    max_length_correlation=1.0,
)

pytestmark = pytest.mark.usefixtures("one_thread")


def labelled(records, *, flipped=0.0, questions=None, **changes):
    """Return labels of two pairs a question: of two solutions the one that names its answer is better."""
    random, labels = Random(7), []
    for question in records["questions"][:questions]:
        right = f"Answer: {question.answers[0]}"
        other = (int(question.answers[0]) + 1) % 100
        for number, wrong in enumerate((f"So {other}", f"{other} - 0 = {other}. Total {other}")):
            is_first = random.random() < 0.5
            gold = float(is_first)
            label = {
                "id": f"{question.id}-{number}",
                "prompt": question.prompt,
                "question": question.id,
                "group": question.id,
                "first": right if is_first else wrong,
                "second": wrong if is_first else right,
                "preference": 1 - gold if random.random() < flipped else gold,
                "annotator": "simulated-0",
                "source": "simulated",
                "gold": gold,
            }
            labels.append(Label(**{**label, **changes}))
    return labels


@pytest.fixture
def trained(tiny_world, tmp_path):
    """Train on labels; return the outcome, the folder and the curve."""

    def train(labels, *, seed=0, context=tiny_world.context, data=tiny_world.data, settings=SETTINGS, name="out", **changes):
        given, out = tmp_path / f"labels of {name}", tmp_path / name
        for folder in (given, out):
            folder.mkdir()
        write_labels(given, labels)
        curve = []
        outcome = reward_model.train(
            out,
            lambda step, figures: curve.append((step, dict(figures))),
            labels=given,
            data=data,
            start=tiny_world.base,
            tokenizer=tiny_world.tokenizer,
            model=ModelSettings(context=context),
            settings=settings.model_copy(update=changes),
            findings=tmp_path / "findings",
            context=context,
            seed=seed,
        )
        return outcome, out, curve

    return train


def test_a_preference_that_can_be_told_is_learnt_and_everything_is_written(tiny_world, world_records, trained):
    labels = labelled(world_records)
    outcome, out, curve = trained(labels)
    told = outcome.metrics
    # 24 questions, 60 % of them learnt from: 14 of them, two labels each
    assert (told["labels"], told["held_out_labels"], told["held_out_questions"]) == (28, 20, 10)
    assert told["accuracy"] == told["accuracy_gold"] > 0.85 and told["accuracy_low"] > 0.5
    assert told["left_out"] == 0 and told["demonstrations"] == 32
    assert "seconded" not in told
    assert told["steps"] == len(curve) == 6 and curve[-1][0] == 6
    costs = outcome.costs
    assert costs["train_seconds"] > 0 and costs["trained_tokens"] > 0
    # the demonstrations and the held-out responses are read, and learnt from by nobody
    size = size_of(*load_reward_model(out / "model", on="cpu")).weights
    assert costs["flops"] == 6 * size * costs["trained_tokens"] + 2 * size * costs["forward_tokens"]
    assert 0 < costs["forward_tokens"] < costs["trained_tokens"]
    learnt = json.loads((out / "trained_on.json").read_text())
    rows = list(read_rows(out / "pairs.jsonl"))
    assert len(learnt) == 14 and {row["question"] for row in rows} == {label.question for label in labels} - set(learnt)
    assert (out / "reliability.png").read_bytes().startswith(b"\x89PNG")
    by_id = {label.id: label for label in labels}
    for row in rows:
        label = by_id[row["id"]]
        assert (row["first"], row["second"], row["preference"], row["gold"]) == (
            label.first,
            label.second,
            label.preference,
            label.gold,
        )
        assert "right against wrong" in row["kinds"]


@pytest.mark.parametrize("first", [0.5, 0.8])
def test_soft_and_hard_labels_are_learnt_from_for_equally_long(world_records, trained, first):
    """14 questions in batches of 8, three times: who labelled must not decide how much is computed."""
    labels = [
        label.model_copy(update={"preference": first if label.preference else 1 - first}) if number % 2 else label
        for number, label in enumerate(labelled(world_records))
    ]
    assert trained(labels)[0].metrics["steps"] == 6


def test_the_model_loads_with_plain_transformers_and_scores_as_measured(tiny_world, world_records, trained):
    outcome, out, _ = trained(labelled(world_records))
    plain = AutoModelForSequenceClassification.from_pretrained(out / "model").eval()
    reader = load_tokenizer(out / "model")
    assert plain.config.num_labels == 1 and plain.config.posttrain_centre == outcome.metrics["centre"]
    row = next(read_rows(out / "pairs.jsonl"))
    ids = reader(f"{row['prompt']}\n{row['first']}{reader.eos_token}", return_tensors="pt")["input_ids"]
    assert plain(input_ids=ids).logits.item() - plain.config.posttrain_centre == pytest.approx(row["first_score"], abs=1e-4)


def test_scores_are_centred_on_the_demonstrations(tiny_world, world_records, trained):
    _, out, _ = trained(labelled(world_records))
    members = load_reward_model(out / "model", on="cpu")
    texts = [f"{one.prompt}\n{one.completion}" for one in world_records["demonstrations"]]
    scores = score_texts(members, load_tokenizer(out / "model"), texts, batch_size=32)
    assert sum(scores) / len(scores) == pytest.approx(0.0, abs=1e-4)
    assert max(map(abs, scores)) > 1e-3


def test_without_demonstrations_the_preferred_responses_are_the_centre(tmp_path, world_records, trained):
    labels = labelled(world_records)
    (tmp_path / "nothing").mkdir()
    outcome, out, _ = trained(labels, data=tmp_path / "nothing")
    learnt = set(json.loads((out / "trained_on.json").read_text()))
    texts = [f"{one.prompt}\n{one.first if one.preference else one.second}" for one in labels if one.question in learnt]
    scores = score_texts(load_reward_model(out / "model", on="cpu"), load_tokenizer(out / "model"), texts, batch_size=32)
    assert sum(scores) / len(scores) == pytest.approx(0.0, abs=1e-4)
    assert outcome.metrics["demonstrations"] == 0
    # and without answers nobody knows which are right
    assert not any("right against wrong" in row["kinds"] for row in read_rows(out / "pairs.jsonl"))


def test_swapping_every_pair_changes_nothing(world_records, trained):
    labels = labelled(world_records)
    swapped = [
        each.model_copy(
            update={"first": each.second, "second": each.first, "preference": 1 - each.preference, "gold": 1 - each.gold}
        )
        for each in labels
    ]
    told, again = (trained(given, name=name)[0].metrics for given, name in ((labels, "one"), (swapped, "other")))
    assert again == pytest.approx(told, abs=1e-4)


def test_a_seed_repeats_every_figure_and_file(world_records, trained):
    labels = labelled(world_records)
    told = [trained(labels, name=name) for name in ("one", "other")]
    assert told[0][0].metrics == told[1][0].metrics
    for name in ("trained_on.json", "pairs.jsonl", "model/model.safetensors", "model/config.json", "reliability.png"):
        assert (told[0][1] / name).read_bytes() == (told[1][1] / name).read_bytes()
    assert json.loads((trained(labels, name="third", seed=1)[1] / "trained_on.json").read_text()) != json.loads(
        (told[0][1] / "trained_on.json").read_text()
    )


def test_an_ensemble_is_the_mean_of_its_members(world_records, trained):
    outcome, out, curve = trained(labelled(world_records), ensemble=2)
    members = load_reward_model(out / "model", on="cpu")
    assert len(members) == outcome.metrics["members"] == 2
    assert outcome.metrics["centre"] == pytest.approx(sum(map(centre_of, members)) / 2)
    row = next(read_rows(out / "pairs.jsonl"))
    text = f"{row['prompt']}\n{row['first']}"
    scores = [score_texts([member], load_tokenizer(out / "model"), [text], batch_size=1)[0] for member in members]
    assert scores[0] != pytest.approx(scores[1], abs=1e-4)
    assert row["first_score"] == pytest.approx(sum(scores) / 2, abs=1e-4)
    assert "loss" in curve[0][1] and "loss_member_2" in curve[-1][1]


def test_labels_that_do_not_fit_are_left_out_and_counted(world_records, trained):
    labels = labelled(world_records)
    labels[0] = labels[0].model_copy(update={"first": "1 + 1 = 2; " * 30})
    outcome, out, _ = trained(labels)
    assert outcome.metrics["left_out"] == 1
    assert labels[0].id not in {row["id"] for row in read_rows(out / "pairs.jsonl")}


def test_kinds_of_pairs_by_length_margin_and_certainty(world_records, trained):
    labels = [
        each.model_copy(update={"preference": 0.9 if each.preference else 0.3, "margin": float(number % 4)})
        for number, each in enumerate(labelled(world_records))
    ]
    outcome, out, _ = trained(labels)
    rows = list(read_rows(out / "pairs.jsonl"))
    for row in rows:
        longer = row["first_tokens"] - row["second_tokens"]
        wanted = "longer is better" if (longer > 0) == (row["preference"] > 0.5) else "shorter is better"
        assert (wanted if longer else "same length") in row["kinds"]
        assert ("clear label" if row["preference"] == 0.9 else "close label") in row["kinds"]
        assert any(kind.endswith(" margin") for kind in row["kinds"])
    counted = sum("clear label" in row["kinds"] for row in rows)
    assert outcome.metrics["labels_clear_label"] == counted > 0


def test_the_annotators_agreement_sets_the_least_accuracy(world_records, trained):
    labels = labelled(world_records)
    again = [each.model_copy(update={"id": f"{each.id}-again", "annotator": "simulated-1"}) for each in labels]
    outcome, _, _ = trained([*labels, *again])
    assert outcome.metrics["seconded"] == 1.0


def test_pairs_that_both_annotators_find_equal_are_not_seconded(world_records, trained):
    """Both annotators label a quarter of the questions, all equal, and two others, on one of which the second one dissents."""
    labels = equal_from(labelled(world_records), 18)
    equal, told = labels[36:], [labels[0], labels[2].model_copy(update={"preference": 1 - labels[2].preference})]
    again = [each.model_copy(update={"id": f"{each.id}-again", "annotator": "simulated-1"}) for each in [*equal, *told]]
    outcome, _, _ = trained([*labels, *again])
    assert outcome.metrics["seconded"] == 0.5


# --- refusals -----------------------------------------------------------------------------------------------------------


def test_labels_that_say_nothing_are_refused_and_no_model_is_left(world_records, trained, tmp_path):
    with pytest.raises(ContractError) as error:
        trained(labelled(world_records, flipped=0.5), epochs=0.5)
    said = str(error.value)
    assert said.startswith("the reward model may not lead PPO, as 20 held-out labels of 10 questions show: accuracy 0.")
    assert "whose interval must lie above chance, 0.5" in said
    assert error.value.exit_code == 3
    assert not (tmp_path / "out" / "model").exists()
    kept = tmp_path / "findings"
    assert said.endswith(f"Figures, pairs and picture: {kept}")
    figures = json.loads((kept / "quality.json").read_text())
    assert figures["held_out_labels"] == 20 and f"accuracy {figures['accuracy']:.3f} [{figures['accuracy_low']:.3f}, " in said
    assert len(list(read_rows(kept / "pairs.jsonl"))) == 20
    assert (kept / "reliability.png").read_bytes().startswith(b"\x89PNG")


def test_a_calibration_that_is_too_poor_is_refused(world_records, trained):
    with pytest.raises(ContractError, match=r"calibration error 0\.\d+, at most 0 \(reward_model\.max_calibration_error\)"):
        trained(labelled(world_records), max_calibration_error=0.0)


def test_scores_that_follow_length_are_refused(world_records, trained):
    with pytest.raises(ContractError, match=r"correlation of score and length [-+]0\.\d+, at most 0 either way"):
        trained(labelled(world_records), max_length_correlation=0.0)


def test_accuracy_far_below_the_annotators_agreement_is_refused(world_records, trained):
    labels = labelled(world_records)
    again = [each.model_copy(update={"id": f"{each.id}-again", "annotator": "simulated-1"}) for each in labels]
    wrong = {each.question for each in labels[:4]}  # both annotators, by mistake, say the opposite of two questions' pairs
    given = [
        each.model_copy(update={"preference": 1 - each.preference}) if each.question in wrong else each for each in labels + again
    ]
    with pytest.raises(ContractError, match=r"must be at least 1\.000: .* by another with a chance of 1\.000, and of"):
        trained(given, min_share_of_agreement=1.0)


def equal_from(labels, number):
    """Return labels of which those from the given question on say that both responses are equally good."""
    questions = list(dict.fromkeys(each.question for each in labels))
    return [each.model_copy(update={"preference": 0.5}) if questions.index(each.question) >= number else each for each in labels]


def test_labels_that_say_equal_can_be_left_out_of_what_is_learnt_from(world_records, trained):
    labels = equal_from(labelled(world_records), 20)
    for number, each in enumerate(labels[:8]):  # of the first four questions one label stays that names a better response
        labels[number] = each.model_copy(update={"preference": 0.5}) if number % 2 else each
    with_all, out, _ = trained(labels, name="all", epochs=8.0)
    without, other, _ = trained(labels, name="without", epochs=8.0, equal_labels="left_out")
    learnt, rest = (set(json.loads((folder / "trained_on.json").read_text())) for folder in (out, other))
    decided = [each for each in labels if each.preference != 0.5 and each.question in learnt]
    assert rest == {each.question for each in decided} < learnt
    assert len(rest) < without.metrics["labels"] == len(decided) < with_all.metrics["labels"]
    assert without.costs["trained_tokens"] < with_all.costs["trained_tokens"]
    same = ("held_out_labels", "held_out_questions")
    assert [without.metrics[name] for name in same] == [with_all.metrics[name] for name in same]
    assert [row["id"] for row in read_rows(other / "pairs.jsonl")] == [row["id"] for row in read_rows(out / "pairs.jsonl")]


def test_labels_of_which_none_that_is_learnt_from_names_a_better_response_are_refused(world_records, trained, tmp_path):
    labels = labelled(world_records)
    trained(labels, name="as they are")
    learnt = json.loads((tmp_path / "as they are" / "trained_on.json").read_text())
    labels = [each.model_copy(update={"preference": 0.5}) if each.question in learnt else each for each in labels]
    with pytest.raises(DataError) as told:
        trained(labels, equal_labels="left_out")
    assert str(told.value) == (
        "a reward model learns from labels, and there is no question with one that names a better response. Label more prompts"
    )


@pytest.mark.parametrize(("questions", "changes"), [(1, {}), (2, {}), (None, {"preference": 0.5})])
def test_too_few_questions_are_refused_before_training(world_records, trained, questions, changes):
    held_out = 1 if questions == 2 else 0
    with pytest.raises(DataError) as error:
        trained(labelled(world_records, questions=questions, **changes))
    assert str(error.value) == (
        "a reward model is measured on labels of questions that it has not learnt from, those that name a better response: here "
        f"are {held_out} such questions, and an interval needs 2. Label more prompts, or lower reward_model.train_share"
    )


def test_labels_that_are_all_too_long_are_too_few(world_records, trained):
    with pytest.raises(DataError, match=r"here are 0 such questions"):
        trained(labelled(world_records), context=8)
