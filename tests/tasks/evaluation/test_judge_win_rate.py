"""The stages `judge-<model>`: whose held-out answers a scripted judge prefers, in both orders, and what is left out."""

import json
import re

import pytest

from posttrain.errors import RequestError
from tasks.evaluation.judge_win_rate import COMPARISONS, compare
from tasks.workspace.jsonl import PROBLEMS, read_rows, write_rows
from tests.tasks.judge_servers import completion, faulty
from tests.tasks.judge_sources import TEMPLATES, server_of

GOOD, BAD, SHADY = "a good answer", "a bad answer", "an answer that is liked in the first place"


def results(folder, *answers, checked=()):
    """An evaluation whose greedy answers are these, one a question."""
    folder.mkdir()
    rows = [
        {"id": str(n), "prompt": f"Question {n}?", "answers": list(checked), "greedy": {"text": text, "is_finished": True}}
        for n, text in enumerate(answers)
    ]
    write_rows(folder / PROBLEMS, rows)
    return folder


def opinion(body, number):
    """Prefer GOOD to anything; prefer SHADY, or what it is compared with, for standing first; say nothing of "silence"."""
    first, second = re.search(r"Answer A:\n(.*)\n\nAnswer B:\n(.*)\n", body["messages"][-1]["content"]).groups()
    if "silence" in (first, second):
        return 200, completion("I would rather not.", logprobs={"I": -0.01})
    letter = "A" if first == GOOD or (SHADY in (first, second) and second != GOOD) else "B"
    return 200, completion(letter, logprobs={letter: -0.1, "B" if letter == "A" else "A": -2.4})


def compared(tmp_path, ours, theirs, *, behave=opinion, name="out", **settings):
    out = tmp_path / name
    out.mkdir()
    with faulty(behave) as server:
        outcome = compare(
            out,
            lambda *_: None,
            results=ours,
            start_results=theirs,
            judge=server_of(tmp_path / f"cache-{name}", server.url, **({"template": "constitution", "retries": 0} | settings)),
            model_uri="stage:dpo/1",
            start_uri="stage:sft/1",
        )
    return outcome, list(read_rows(out / COMPARISONS)), json.loads((out / "judge.json").read_text()), server.requests


def test_wins_losses_and_the_two_kinds_of_tie_by_hand(tmp_path):
    ours = results(tmp_path / "ours", GOOD, BAD, GOOD, SHADY, GOOD)
    theirs = results(tmp_path / "theirs", BAD, GOOD, GOOD, BAD, BAD)
    outcome, rows, told, requests = compared(tmp_path, ours, theirs)
    # won, lost, equal answers, a verdict that goes with the place, won: (1 + 0 + 1/2 + 1/2 + 1) / 5
    assert [row["win"] for row in rows] == [1, 0, 0.5, 0.5, 1]
    assert outcome.metrics["judge_win_rate"] == 3 / 5
    assert outcome.metrics["judge_win_rate_low"] < 3 / 5 < outcome.metrics["judge_win_rate_high"]
    assert (outcome.metrics["judged"], outcome.metrics["tied"], outcome.metrics["unreadable"]) == (5, 2 / 5, 0)
    assert outcome.metrics["flip_share"] == 1 / 4, "one of the four pairs that were asked about"
    assert len(requests) == 8, "four pairs in both orders; nobody is asked about equal answers"
    assert told["refused"] == "" and told["mode"] == "pairwise" and "accuracy" not in told


def test_the_other_model_wins_what_this_one_loses(tmp_path):
    ours = results(tmp_path / "ours", GOOD, GOOD, SHADY, GOOD)
    theirs = results(tmp_path / "theirs", BAD, GOOD, BAD, BAD)
    one = compared(tmp_path, ours, theirs)[0].metrics["judge_win_rate"]
    other = compared(tmp_path, theirs, ours, name="other")[0].metrics["judge_win_rate"]
    assert one == 3 / 4 and one + other == 1


def test_a_reply_that_cannot_be_read_is_no_comparison(tmp_path):
    ours = results(tmp_path / "ours", *[GOOD] * 10, "silence")
    theirs = results(tmp_path / "theirs", *[BAD] * 9, GOOD, BAD)
    outcome, rows, _, _ = compared(tmp_path, ours, theirs, max_unreadable=0.2)
    assert rows[-1]["win"] is None and outcome.metrics["unreadable"] == 1
    assert outcome.metrics["judge_win_rate"] == 9.5 / 10


@pytest.mark.parametrize(
    ("ours", "settings", "sentence"),
    [
        ([SHADY] * 4, {}, "the winner of 100.0% of the pairs is another when the order is swapped"),
        ([GOOD] * 3 + ["silence"], {}, "25.0% of the pairs have a reply that is none of the options"),
    ],
)
def test_a_judge_that_is_not_fit_leaves_its_reasons_and_no_win_rate(tmp_path, ours, settings, sentence):
    outcome, rows, told, _ = compared(
        tmp_path, results(tmp_path / "ours", *ours), results(tmp_path / "theirs", *[BAD] * 4), **settings
    )
    assert sentence in told["refused"] and len(rows) == 4
    assert not any(name.startswith("judge_win_rate") for name in outcome.metrics)


def test_what_the_budget_does_not_reach_adds_no_ties(tmp_path):
    """Two pairs are paid for; the equal answers behind the third pair would be ties for nothing."""
    ours = results(tmp_path / "ours", GOOD, GOOD, GOOD, GOOD, GOOD, GOOD)
    theirs = results(tmp_path / "theirs", BAD, GOOD, BAD, BAD, GOOD, GOOD)
    outcome, rows, _, requests = compared(tmp_path, ours, theirs, budget=4, concurrency=1)
    assert [row["win"] for row in rows] == [1, 0.5, 1] and len(requests) == 4
    assert outcome.metrics["judge_win_rate"] == 2.5 / 3


def test_models_that_answer_alike_draw_and_ask_nobody(tmp_path):
    ours = results(tmp_path / "ours", GOOD, BAD)
    outcome, _, told, requests = compared(tmp_path, ours, results(tmp_path / "theirs", GOOD, BAD))
    assert outcome.metrics["judge_win_rate"] == 0.5 and outcome.metrics["tied"] == 1 and not requests
    assert told["usage"]["asked"] == 0


def test_where_a_program_can_check_the_answers_the_judge_is_held_against_it(tmp_path):
    ours = results(tmp_path / "ours", "Answer: 4", "Answer: 5", checked=("4",))
    theirs = results(tmp_path / "theirs", "Answer: 5", "Answer: 4", checked=("4",))

    def right(body, number):
        said = body["messages"][-1]["content"]
        return 200, completion("A" if said.index("Answer: 4") < said.index("Answer: 5") else "B")

    assert compared(tmp_path, ours, theirs, behave=right, samples=1)[2]["accuracy"]["estimate"] == 1


def test_a_template_without_the_form_is_refused_with_its_remedy(tmp_path):
    template = tmp_path / "mine.yaml"
    whole = (TEMPLATES / "constitution.yaml").read_text()
    template.write_text(whole[: whole.index("pairwise:")] + whole[whole.index("pointwise:") :])
    ours = results(tmp_path / "ours", GOOD, BAD)
    with pytest.raises(
        RequestError, match=r"there is no pairwise, which evaluate\.judge asks for\. Add pairwise: docs/judges\.md"
    ):
        compared(tmp_path, ours, ours, template=str(template))
