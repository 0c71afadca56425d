import pytest

from posttrain.comparison.cells import escaped, found
from posttrain.comparison.sections import sections_of
from posttrain.comparison.verdicts import grid_table, ordered
from tests.fabricated_comparison import VARIANTS, budgets, comparison, crowd, logs, loss, one_seed, partial, tuned

ORDER = (
    *("verdict", "reading", "methods", "costs", "levels", "learning", "pairs", "groups", "yardsticks", "proxy", "answers"),
    *("used", "simulated", "failed", "reproduce", "notes"),
)


def by_name(made):
    return {section.name: section for section in sections_of(made)[0]}


def table(made, name):
    every = [each for section in sections_of(made)[0] for each in (*section.tables, *section.numbers)]
    return next(each for each in every if each.name == name)


@pytest.mark.parametrize("variant", VARIANTS)
def test_sections_stand_in_order_and_what_is_missing_has_a_word(variant):
    shown, left_out = sections_of(VARIANTS[variant]())
    names = [section.name for section in shown]
    assert names == [name for name in ORDER if name in names]
    assert len(names) + len(left_out) == len(ORDER)
    assert all(sentence in shown[-1].items for sentence in left_out)
    for section in shown:
        for each in (*section.tables, *section.numbers):
            assert all(len(row) == len(each.columns) for row in each.rows)


def test_the_curve_over_budgets_has_every_run_at_what_it_used():
    section = by_name(budgets())["levels"]
    assert "All verdicts are at the largest amount, 4,000 labels." in section.lead[0]
    rows = [[cell.text for cell in row] for row in table(budgets(), "levels").rows]
    assert len(rows) == 6 * 3 * 3
    dpo = [row for row in rows if row[0] == "DPO"]
    assert [row[1:4] for row in dpo] == [[amount, seed, amount] for amount in ("500", "1,000", "4,000") for seed in "012"]
    assert {row[3] for row in rows if row[0] == "SFT"} == {"0"}
    # 5 points less at half, 10 at an eighth
    assert float(dpo[-1][4]) - float(dpo[2][4]) == pytest.approx(10, abs=0.11)
    assert "levels" not in by_name(comparison())


def test_logs_show_what_logs_have():
    assert list(by_name(logs())) == ["verdict", "reading", "methods", "answers", "reproduce", "notes"]
    assert "logs as they were given" not in str(by_name(comparison())["reading"].items)
    assert "before anything ran" not in str(by_name(logs())["reading"].items)


def test_one_seed_says_that_it_speaks_of_models():
    said = "There is one seed, so every verdict speaks of these trained models, not of the methods that made them."
    assert said in by_name(one_seed())["reading"].items
    assert said not in by_name(comparison())["reading"].items


def test_failed_runs_stand_with_reason_and_command():
    rows = [[cell.text for cell in row] for row in table(partial(), "failed").rows]
    assert rows == [
        ["RLAIF", "2", "the judge's server did not answer within 60 s", "make pipeline METHOD=rlaif SET='split.seed=2'", "9d0c"],
        ["ppo", "0", "the disk is full", "make pipeline METHOD=ppo", "–"],
    ]


def test_methods_stand_by_gain_and_the_reference_at_its_zero():
    made = comparison()
    gains = {pair["a"]: pair["estimate"] for pair in made["pairs"] if pair["family"] == "reference"} | {"sft": 0.0}
    found_order = [one["name"] for _, one in ordered(made)]
    assert found_order == sorted(gains, key=gains.__getitem__, reverse=True)


def test_the_grid_turns_sign_and_verdict_on_its_other_side():
    made = comparison()
    # the JSON has sft − dpo once, and sft is worse
    pair = next(one for one in made["pairs"] if one["family"] == "all" and (one["a"], one["b"]) == ("sft", "dpo"))
    pair |= {"estimate": -0.25, "verdict": "worse"}
    grid = grid_table(made)
    heads = [column.title for column in grid.columns]
    cell = {row[0].text: row for row in grid.rows}
    assert cell["SFT"][heads.index("DPO")].text == "▼ −25.0"
    assert cell["DPO"][heads.index("SFT")].text == "▲ +25.0"
    assert cell["DPO"][heads.index("DPO")].text == "·"


@pytest.mark.parametrize("verdict", ["equal", "undecided", "disagree"])
def test_a_verdict_that_has_no_direction_is_the_same_from_both_sides(verdict):
    made = comparison()
    pair = next(one for one in made["pairs"] if one["family"] == "all" and (one["a"], one["b"]) == ("sft", "dpo"))
    pair |= {"estimate": -0.01, "verdict": verdict}
    kinds = {
        cell.kind
        for row in grid_table(made).rows
        for cell in row
        if cell.source == f"/pairs/{made['pairs'].index(pair)}/estimate"
    }
    assert kinds == {verdict}


def test_a_loss_is_told_in_nats():
    text = str(by_name(loss()))
    assert "lower is better, and a gain is a fall" in text and " points" not in by_name(loss())["verdict"].says


def test_a_budget_and_tuning_have_a_table():
    heads = [column.title for column in table(tuned(), "budget").columns]
    assert heads == ["method", "budget used", "of the budget, %", "trials", "on the development split, %", "settings chosen"]
    assert ("budget", "1,000,000 tokens for each method") in by_name(tuned())["reading"].facts


def test_columns_that_nobody_fills_are_left_out():
    made = comparison()
    for one in made["methods"]:
        one["costs"]["labels"] = None
        one["when_to_use"] = ""
    heads = [column.title for column in table(made, "results").columns]
    assert "labels" not in heads and "when to use" not in heads and "minutes" in heads


def test_more_than_one_design_would_show_an_effect():
    made = comparison()
    pair = next(one for one in made["pairs"] if one["family"] == "reference" and one["verdict"] == "undecided")
    pair["needs"] = [{"effect": 0.02, "seeds": 5, "questions": 2_000}, {"effect": 0.02, "seeds": 9, "questions": 1_000}]
    said = [row[-1].text for row in table(made, "gains").rows if row[0].text == "RLAIF"]
    assert said == ["2.0 points: 5 seeds × 2,000 questions; 2.0 points: 9 seeds × 1,000 questions"]


def test_every_method_has_a_row():
    assert len(table(crowd(), "results").rows) == 12 and len(table(crowd(), "seeds").rows) == 60


def test_a_pointer_leads_through_keys_that_need_escaping():
    held = {"a/b~c": [{"x": 1}]}
    assert found(held, f"/{escaped('a/b~c')}/0/x") == 1
    assert found(held, "/a/b") is None and found(held, f"/{escaped('a/b~c')}/7") is None and found(held, "") is held
