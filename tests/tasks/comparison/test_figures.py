"""Figures are taken from the store where the same numbers were drawn before, and from nowhere else."""

import json

import pytest

from posttrain.comparison.markdown import printable_all
from tasks.comparison import figures as subject
from tasks.comparison.drawing import draw_figures
from tasks.comparison.figures import figures_of, without_ids
from tasks.workspace.paths import Paths
from tests.fabricated_comparison import SIX, comparison, hostile, logs


@pytest.fixture
def drawn(monkeypatch):
    """Count how often figures are drawn."""
    times = []
    draw = subject._draw
    monkeypatch.setattr(subject, "_draw", lambda out, log, **given: times.append(1) or draw(out, log, **given))
    return times


def test_a_repeated_comparison_takes_its_figures_from_the_store(tmp_path, drawn):
    made = logs()
    first = figures_of(Paths(tmp_path), made)
    again = {**made, "id": "other", "created": "2030-01-01T00:00:00+00:00", "seconds": 1.0, "command": "make compare"}
    again["methods"] = [{**one, "runs": [{"run_id": "another"}]} for one in made["methods"]]
    assert figures_of(Paths(tmp_path), again) == first
    assert len(drawn) == 1
    assert first == draw_figures(printable_all(made)), "without ids and times the pictures are the same"


def test_no_figure_shows_what_is_left_out():
    made = printable_all(comparison({name: SIX[name] for name in ("sft", "rlhf", "reft")}, seeds=2))
    for one in made["methods"]:
        for curve in one["learning"]:
            curve["points"] = curve["points"][::10]
    assert draw_figures(without_ids(made)) == draw_figures(made)


def test_another_number_is_drawn_anew(tmp_path, drawn):
    made = logs()
    first = figures_of(Paths(tmp_path), made)
    changed = json.loads(json.dumps(made))
    changed["pairs"][0]["estimate"] -= 0.01
    assert figures_of(Paths(tmp_path), changed)["forest"] != first["forest"]
    assert len(drawn) == 2


def test_a_figure_whose_text_utf_8_cannot_hold_is_kept_as_well(tmp_path):
    assert figures_of(Paths(tmp_path), hostile()) == draw_figures(printable_all(hostile()))


def test_a_number_that_json_has_not_is_refused_before_anything_is_drawn(tmp_path, drawn):
    made = logs()
    made["pairs"][0]["estimate"] = float("nan")
    with pytest.raises(ValueError, match="not JSON compliant"):
        figures_of(Paths(tmp_path), made)
    assert not drawn
    assert not (tmp_path / ".posttrain").exists()
