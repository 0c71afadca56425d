"""README's figures: of the world that nothing was chosen on, all of one command, and none by hand."""

import json
from itertools import product
from pathlib import Path

import yaml
from PIL import Image

from benchmarks import results
from benchmarks.worlds import DEVELOPMENT, REPORTED

ROOT = Path(__file__).resolve().parents[2]


def told():
    return json.loads(results.RESULTS.read_text(encoding="utf-8"))


def test_settings_are_chosen_on_another_world_and_other_seeds_than_are_reported():
    params = yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))
    assert params["world"]["seed"] == DEVELOPMENT.seed != REPORTED.seed
    assert not set(DEVELOPMENT.seeds) & set(REPORTED.seeds)


def test_the_results_are_of_the_reported_world_and_of_every_method_and_seed_once():
    assert (told()["world"], tuple(told()["seeds"])) == (REPORTED.seed, REPORTED.seeds)
    runs = [(run["seed"], run["method"]) for run in results.read_runs()]
    assert sorted(runs) == sorted(product(REPORTED.seeds, results.TITLES))


def test_readme_says_what_the_results_say():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert results.write_readme(text) == text, "make it anew: python -m benchmarks.results"


def test_a_figure_changed_by_hand_is_seen():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    begin, end = text.index(results.BEGIN), text.index(results.END)
    row = next(line for line in text[begin:end].splitlines() if line.startswith("| DPO |"))
    assert results.write_readme(text.replace(row, row.replace(".", "7", 1), 1)) == text


def test_the_picture_is_drawn_from_the_results():
    with Image.open(results.PICTURE) as picture:
        assert picture.info[results.DIGEST] == results.digest(), "draw it anew: python -m benchmarks.results"
