"""Figures of one model, by hand on four questions; and the stage itself on the tiniest world."""

import json

import pytest
import torch

from models.load import load_model, load_tokenizer
from models.logprobs import score_responses
from posttrain.errors import DataError
from posttrain.evaluation.figures import figures
from posttrain.records import Preference, Question
from posttrain.settings.evaluation import EvaluateSettings
from posttrain.settings.model import ModelSettings
from tasks.evaluation import evaluate as subject
from tasks.evaluation import references
from tasks.evaluation.evaluate import PART, PROBLEMS, evaluate
from tasks.workspace.jsonl import read_rows, write_rows

RIGHT, WRONG = {"is_right": True}, {"is_right": False}
DONE, CUT = {"is_finished": True}, {"is_finished": False}


def row(greedy, *sampled, answers=("4",), tokens=10):
    return {
        "answers": list(answers),
        "greedy": {**greedy, **DONE, "tokens": tokens},
        "sampled": [{**one, "tokens": tokens + place} for place, one in enumerate(sampled)],
    }


OURS = [
    row(RIGHT, RIGHT | DONE, RIGHT | DONE),
    row(RIGHT, RIGHT | DONE, WRONG | DONE),
    row(WRONG, WRONG | DONE, WRONG | CUT),
    row(RIGHT, RIGHT | CUT, WRONG | DONE),
]
THEIRS = [
    row(RIGHT, RIGHT | DONE, RIGHT | DONE),
    row(WRONG, WRONG | DONE, WRONG | DONE),
    row(WRONG, WRONG | DONE, RIGHT | DONE),
    row(WRONG, RIGHT | DONE, WRONG | DONE),
]
KL = [[1.0, 3.0], [0.0, 0.0], [2.0, 2.0], [1.0, 1.0]]


def test_shares_and_means_by_hand():
    told = figures(OURS, THEIRS, kl=KL)
    assert told["questions"] == 4
    assert told["accuracy"] == 3 / 4
    assert told["accuracy_sampled"] == 4 / 8
    assert told["finished"] == 6 / 8
    assert told["response_tokens"] == (10 + 11) / 2
    # the greedy answers differ on the second and the fourth question, both for us
    assert told["accuracy_gain"] == 2 / 4
    # ours 1, 1/2, 0, 1/2 of the samples right, theirs 1, 0, 1/2, 1/2
    assert told["accuracy_sampled_gain"] == (0 + 1 / 2 - 1 / 2 + 0) / 4
    # question means 2, 0, 2, 1
    assert told["kl"] == 5 / 4


def test_the_win_rate_by_hand():
    # each of our two samples meets each of their two; a tie is half a win
    # 1: four ties 1/2 · 2: right beats both wrong ones, wrong ties with both (1 + 1 + 1/2 + 1/2) / 4
    # 3: wrong ties with wrong and loses to right, wrong and cut loses to both (1/2 + 0 + 0 + 0) / 4
    # 4: right but cut loses to right and beats wrong, wrong loses to right and ties with wrong (0 + 1 + 0 + 1/2) / 4
    assert figures(OURS, THEIRS, kl=KL)["win_rate"] == pytest.approx((2 / 4 + 3 / 4 + 1 / 8 + 3 / 8) / 4)


def test_win_rates_of_two_models_against_each_other_sum_to_one():
    assert figures(OURS, THEIRS, kl=KL)["win_rate"] + figures(THEIRS, OURS, kl=KL)["win_rate"] == pytest.approx(1)


def test_intervals_by_hand():
    told = figures(OURS, THEIRS, kl=KL)
    # Wilson at 3 of 4, z = 1.96: centre (0.75 + 3.8415 / 8) / (1 + 3.8415 / 4) = 0.62753, half 0.32689
    assert (told["accuracy_low"], told["accuracy_high"]) == pytest.approx((0.30064, 0.95442), abs=1e-4)
    # question means 2, 0, 2, 1: variance 11/12, standard error √(11/48) = 0.47871, times Student's 3.18245
    assert (told["kl_low"], told["kl_high"]) == pytest.approx((1.25 - 1.52348, 1.25 + 1.52348), abs=1e-4)
    for name in ("accuracy", "accuracy_sampled", "win_rate", "accuracy_gain", "accuracy_sampled_gain", "kl"):
        assert told[f"{name}_low"] < told[name] < told[f"{name}_high"]


def test_a_model_against_itself_draws_and_is_no_distance_away():
    told = figures(OURS, None)
    for name, value in (("win_rate", 0.5), ("accuracy_gain", 0.0), ("accuracy_sampled_gain", 0.0), ("kl", 0.0)):
        assert (told[name], told[f"{name}_low"], told[f"{name}_high"]) == (value, value, value)
    assert told["accuracy"] == 3 / 4


def unanswerable(*sampled):
    return row({}, *sampled, answers=())


def test_without_answers_accuracy_and_win_rate_are_absent_not_nought():
    rows = [unanswerable(DONE, CUT), unanswerable(DONE, DONE)]
    assert figures(rows, rows, kl=[[1.0, 1.0], [2.0, 2.0]]).keys() == {
        "response_tokens", "finished", "questions", "kl", "kl_low", "kl_high"
    }  # fmt: skip
    told = figures(rows, None)
    assert (told["finished"], told["kl"]) == (3 / 4, 0.0)


def test_questions_without_answers_count_for_length_and_ending_only():
    mixed, theirs = [*OURS, unanswerable(CUT, CUT)], [*THEIRS, unanswerable(DONE, DONE)]
    told, only = figures(mixed, theirs, kl=[*KL, [0.0, 0.0]]), figures(OURS, THEIRS, kl=KL)
    assert (told["finished"], told["questions"], told["kl"]) == (6 / 10, 5, 1.0)
    for name in ("accuracy", "accuracy_low", "accuracy_sampled", "win_rate", "win_rate_high", "accuracy_gain"):
        assert told[name] == only[name]


def referred(rows, *losses):
    """The rows with a reference completion each: nats, and as many tokens as its place says."""
    return [{**one, "reference": told and {"nats": told[0], "tokens": told[1]}} for one, told in zip(rows, losses, strict=True)]


def test_the_loss_of_reference_completions_by_hand():
    """12 nats over 2 + 4 + 6 tokens against 18: a token costs 1 instead of 1.5, which is half a nat less."""
    ours = referred(OURS, (2.0, 2), (6.0, 4), None, (4.0, 6))
    theirs = referred(THEIRS, (4.0, 2), (8.0, 4), None, (6.0, 6))
    told = figures(ours, theirs, kl=KL)
    assert told["reference_loss"] == pytest.approx(1.0)
    assert told["perplexity"] == pytest.approx(2.71828, abs=1e-4)
    assert told["reference_loss_change"] == pytest.approx(-0.5)
    for name in ("reference_loss", "perplexity", "reference_loss_change"):
        assert told[f"{name}_low"] < told[name] < told[f"{name}_high"]
    start = figures(theirs, None)
    assert start["reference_loss"] == pytest.approx(1.5)
    assert "reference_loss_change" not in start, "a model does not change against itself"


def test_one_reference_completion_has_no_interval_so_it_has_no_figure():
    told = figures(referred(OURS, (2.0, 2), None, None, None), OURS, kl=KL)
    assert not {"reference_loss", "perplexity", "reference_loss_change"} & set(told)
    assert told["accuracy"] == 3 / 4


def test_both_models_must_have_answered_the_same_questions():
    with pytest.raises(ValueError, match="zip"):
        figures(OURS, THEIRS[:3], kl=KL)


# --- the stage --------------------------------------------------------------------------------------------------------


def evaluated(
    out, tiny_world, *, data=None, part=None, subject=None, against=None, samples=2, most=6, seed=0, batch_size=16, is_policy=True
):
    out.mkdir()
    return evaluate(
        out,
        lambda *_: None,
        title="test",
        data=data or tiny_world.data,
        part=part,
        subject=tiny_world.base,
        reference=tiny_world.base,
        reference_results=against,
        is_policy=is_policy,
        tokenizer=tiny_world.tokenizer,
        model=ModelSettings(context=tiny_world.context),
        settings=EvaluateSettings(max_questions=most, samples=samples, max_new_tokens=12, batch_size=batch_size),
        context=tiny_world.context,
        seed=seed,
    )


@pytest.fixture(scope="module")
def of_base(tmp_path_factory, tiny_world):
    out = tmp_path_factory.mktemp("evaluated") / "base"
    return out, evaluated(out, tiny_world)


def test_every_held_out_question_has_a_row(of_base, world_records):
    out, outcome = of_base
    rows = list(read_rows(out / PROBLEMS))
    assert [(one["id"], one["prompt"]) for one in rows] == [(one.id, one.prompt) for one in world_records["held_out"][:6]]
    for one in rows:
        assert set(one["greedy"]) == {"text", "tokens", "is_finished", "extracted", "is_right"}
        assert len(one["sampled"]) == 2
    assert outcome.metrics["questions"] == 6
    tokens = sum(response["tokens"] for one in rows for response in (one["greedy"], *one["sampled"]))
    assert outcome.costs["evaluated_tokens"] == tokens
    assert outcome.metrics == figures(rows, None)


def test_a_part_of_the_questions_is_answered_as_all_of_them_are(tmp_path, tiny_world, of_base):
    """Which questions are asked is chosen before how many are, and decides nothing about the answers."""
    rows = list(read_rows(of_base[0] / PROBLEMS))
    chosen = tmp_path / "part"
    chosen.mkdir()
    (chosen / PART).write_text(json.dumps([rows[place]["id"] for place in (1, 3, 4)]))
    told = evaluated(tmp_path / "all", tiny_world, part=chosen, most=0).metrics
    assert told["questions"] == 3
    assert list(read_rows(tmp_path / "all" / PROBLEMS)) == [rows[1], rows[3], rows[4]]
    evaluated(tmp_path / "two", tiny_world, part=chosen, most=2)
    assert list(read_rows(tmp_path / "two" / PROBLEMS)) == [rows[1], rows[3]]


@pytest.mark.parametrize("batch_size", [3, 7])
def test_the_batch_size_decides_nothing(tmp_path, tiny_world, of_base, batch_size):
    out, first = of_base
    again = evaluated(tmp_path / "again", tiny_world, batch_size=batch_size)
    assert (tmp_path / "again" / PROBLEMS).read_bytes() == (out / PROBLEMS).read_bytes()
    assert again.metrics == first.metrics


def test_fewer_questions_are_answered_as_all_of_them_are(tmp_path, tiny_world, of_base):
    evaluated(tmp_path / "few", tiny_world, most=3)
    assert list(read_rows(tmp_path / "few" / PROBLEMS)) == list(read_rows(of_base[0] / PROBLEMS))[:3]


def test_the_same_model_a_second_time_is_at_no_distance(tmp_path, tiny_world, of_base):
    out, first = of_base
    again = evaluated(tmp_path / "again", tiny_world, against=out)
    assert (tmp_path / "again" / PROBLEMS).read_bytes() == (out / PROBLEMS).read_bytes()
    assert (again.metrics["kl"], again.metrics["accuracy_gain"]) == (0.0, 0.0)
    assert again.metrics["win_rate"] == pytest.approx(0.5)
    assert again.metrics["accuracy"] == first.metrics["accuracy"]


def test_another_model_is_at_the_mean_distance_of_its_responses(tmp_path, tiny_world, of_base, monkeypatch):
    asked = []

    def distances(network, reference, prompts, responses, *, temperature, batch_size):
        asked.append((prompts, responses, temperature))
        return torch.arange(len(prompts), dtype=torch.float64)

    monkeypatch.setattr(subject, "response_kl", distances)
    told = evaluated(tmp_path / "out", tiny_world, against=of_base[0]).metrics
    # 6 questions of 2 samples: 0 … 11, mean 5.5
    assert told["kl"] == 5.5 and told["kl_low"] < 5.5 < told["kl_high"]
    ((prompts, responses, temperature),) = asked
    assert len(prompts) == len(responses) == 12 and prompts[0] == prompts[1] != prompts[2] and temperature == 1.0
    reader = load_tokenizer(tiny_world.tokenizer)
    rows = list(read_rows(of_base[0] / PROBLEMS))
    assert prompts[::2] == [reader(row["prompt"] + "\n")["input_ids"] for row in rows]
    assert [len(one) for one in responses] == [one["tokens"] for row in rows for one in row["sampled"]]


@pytest.mark.parametrize("answers", [("4",), ()])
def test_questions_are_graded_where_they_can_be(tmp_path, tiny_world, answers):
    data = tmp_path / "data"
    data.mkdir()
    records = [Question(id=str(n), prompt=f"Tom has {n} apples.", answers=answers) for n in range(3)]
    write_rows(data / "held_out.jsonl", (record.model_dump(mode="json") for record in records))
    told = evaluated(tmp_path / "out", tiny_world, data=data, most=0).metrics
    assert told["questions"] == 3
    assert ("accuracy" in told) == ("win_rate" in told) == bool(answers)


def data_of(folder, **roles):
    folder.mkdir()
    for role, records in roles.items():
        write_rows(folder / f"{role}.jsonl", (record.model_dump(mode="json") for record in records))
    return folder


def test_chat_rows_are_measured_by_the_loss_of_their_completions(tmp_path, tiny_world, world_records):
    """No answers, no preferences: what is left is how likely the model finds what people wrote."""
    shown = world_records["demonstrations"][:5]
    questions = [Question(id=one.id, prompt=one.prompt, reference=one.completion) for one in shown]
    long = questions[0].model_copy(update={"id": "long", "prompt": "Tom.", "reference": "Tom has 3 apples. " * 40})
    data = data_of(tmp_path / "data", held_out=[*questions, long, Question(id="bare", prompt="Tom has 4 apples.")])
    told = evaluated(tmp_path / "out", tiny_world, data=data, most=0).metrics
    rows = list(read_rows(tmp_path / "out" / PROBLEMS))
    assert [bool(row["reference"]) for row in rows] == [True] * 5 + [False, False], "the long one does not fit the context"
    reader = load_tokenizer(tiny_world.tokenizer)
    network = load_model(tiny_world.base / "model", ModelSettings(), on=torch.device("cpu"))
    tails = [[*reader(one.completion)["input_ids"], reader.eos_token_id] for one in shown]
    scores = score_responses(network, reader, [one.prompt + "\n" for one in shown], tails, temperature=1.0, batch_size=1)
    assert told["reference_loss"] == pytest.approx(-scores.sum().item() / sum(map(len, tails)), abs=1e-4)
    assert told["perplexity"] > 1 and "accuracy" not in told


def test_held_out_pairs_are_judged_by_the_implicit_reward(tmp_path, tiny_world, of_base, monkeypatch):
    """log p - log q of the chosen against the rejected: 3 > 1, 0 < 2, a tie, which is half, and of one prompt 5 > 4 and 1 < 2."""
    pairs = [
        Preference(id=str(n), prompt=prompt, chosen=f"c{n}", rejected=f"r{n}", **ended)
        for n, (prompt, ended) in enumerate(
            [("p", {"rejected_finished": False}), ("q", {}), ("r", {}), ("s", {"chosen_finished": False}), ("s", {})]
        )
    ]
    data = data_of(tmp_path / "data", held_out=world_records_of(tiny_world), held_out_preferences=pairs)
    rewards = iter([[4, 1, 2, 6, 2], [1, 1, 1, 1, 1], [2, 3, 2, 5, 3], [1, 1, 1, 1, 1]])
    asked = []

    def score(network, reader, prompts, responses, **how):
        if not prompts:
            return torch.zeros(0, dtype=torch.float64)
        asked.append(responses)
        return torch.tensor(next(rewards), dtype=torch.float64)

    monkeypatch.setattr(references, "score_responses", score)
    told = evaluated(tmp_path / "out", tiny_world, data=data, against=of_base[0]).metrics
    # prompts are the draws: 1, 0, 1/2 and the mean of 1 and 0
    assert told["preference_accuracy"] == (1 + 0 + 1 / 2 + 1 / 2) / 4
    assert told["preference_accuracy_low"] < 1 / 2 < told["preference_accuracy_high"]
    reader = load_tokenizer(tiny_world.tokenizer)
    eos = [reader.eos_token_id]
    assert asked[0] == asked[1] == [reader(f"c{n}")["input_ids"] + eos * (n != 3) for n in range(5)]
    assert asked[2] == asked[3] == [reader(f"r{n}")["input_ids"] + eos * (n != 0) for n in range(5)]


def world_records_of(tiny_world):
    return [Question.model_validate(row) for row in read_rows(tiny_world.data / "held_out.jsonl")]


@pytest.mark.parametrize(("is_policy", "pairs"), [(False, 4), (True, 1)])
def test_who_has_no_implicit_reward_or_only_one_pair_has_no_preference_accuracy(tmp_path, tiny_world, of_base, is_policy, pairs):
    held = [Preference(id=str(n), prompt=f"p{n}", chosen="c", rejected="r") for n in range(pairs)]
    data = data_of(tmp_path / "data", held_out=world_records_of(tiny_world), held_out_preferences=held)
    told = evaluated(tmp_path / "out", tiny_world, data=data, against=of_base[0], is_policy=is_policy).metrics
    assert "preference_accuracy" not in told


def test_without_held_out_questions_it_is_refused(tmp_path, tiny_world):
    with pytest.raises(DataError, match=r"^the dataset has no held_out, which models are evaluated on\. Import data"):
        evaluated(tmp_path / "out", tiny_world, data=tmp_path)
