"""The model card: metadata that Hugging Face's own reader takes, and what a stranger must know."""

import re
from typing import Any

import pytest
import yaml
from huggingface_hub import ModelCard

from posttrain.promotion.card import Origin, model_card
from posttrain.report.pipeline import build_report
from posttrain.statistics.intervals import INTERVALS_COVER
from tests.posttrain.report.test_pipeline import facts

NAMED = {"uri": "models:/posttrain-world/7", "name": "posttrain-world", "version": "7", "path": "/store/m-7"}


def report(**changes: Any) -> dict[str, Any]:
    return build_report(**facts(model=NAMED, **changes))


def metadata(card: str) -> dict[str, Any]:
    found = re.match(r"---\n(.*?)\n---\n", card, flags=re.DOTALL)
    assert found
    told: dict[str, Any] = yaml.safe_load(found[1])
    return told


def test_hugging_face_reads_its_metadata() -> None:
    card = ModelCard(model_card(report(), Origin(base="org/base", hub_id="org/base", license="apache-2.0")))
    assert (card.data.license, card.data.base_model, card.data.library_name) == ("apache-2.0", "org/base", "transformers")
    assert card.data.pipeline_tag == "text-generation" and card.data.tags == ["posttrain", "dpo"]
    assert card.data.model_name == "posttrain-world-7"
    results = {one.metric_type: one for one in card.data.eval_results}
    accuracy = results["accuracy"]
    assert (accuracy.metric_value, accuracy.dataset_name, accuracy.dataset_split) == (0.91, "world", "held_out")
    assert accuracy.dataset_revision == "d" * 32 and accuracy.metric_name == "accuracy, greedy"
    assert accuracy.metric_args == {"confidence": 0.95, "low": pytest.approx(0.88), "high": pytest.approx(0.94)}
    assert results["kl"].metric_value == 3.414 and results["kl"].metric_args is None
    assert results["win_rate"].metric_name == "win rate vs sft"


def test_an_unknown_licence_and_a_base_of_our_own_are_said_to_be_so() -> None:
    card = model_card(report(), Origin(base="tiny"))
    told = metadata(card)
    assert told["license"] == "unknown" and "base_model" not in told, "an id that is not on the hub leads to a stranger's model"
    assert "Unknown: nobody said one (`tracking.model_license`)." in card and "| base | `tiny` |" in card


def test_what_is_undefined_is_left_out_and_never_zero() -> None:
    found = report()
    found["models"]["dpo"]["accuracy"] = found["gain"] = None
    names = {one["type"] for one in metadata(model_card(found, Origin(base="tiny")))["model-index"][0]["results"][0]["metrics"]}
    assert "accuracy" not in names and "accuracy_sampled" in names


def test_it_says_where_the_model_comes_from_and_what_it_is_worth() -> None:
    card = model_card(report(), Origin(base="tiny"))
    for told in (
        "# posttrain-world, version 7",
        "DPO helped: +45.0 points [42.0, 48.0] over SFT, same questions: 46.0 % right before, 91.0 % after.",
        INTERVALS_COVER,
        "| accuracy, greedy (%) | 25.0 [22.0–28.0] | 46.0 [43.0–49.0] | 91.0 [88.0–94.0] |",
        "| method | DPO: learns from preferences, straight into the loss |",
        f"| dataset | `world`, version `{'d' * 32}` (DVC) |",
        "| code | commit `abc1234` of posttrain |",
        "| run | `r0` in MLflow, report `p1` |",
        f"| dpo | `{'b' * 64}` |",
        "- labels came from simulated annotators",
        "Nothing: data and feedback are those that were imported.",
    ):
        assert told in card, told


def test_what_was_simulated_and_what_was_warned_of_stand_in_it() -> None:
    origin = Origin(base="tiny", simulated=("The dataset is made up.",), usage="# Few-shot prompting\n\nPut its text first.\n")
    card = model_card(report(warnings=["dpo ended only 40% of its responses"]), origin)
    assert "## What was simulated\n\n- The dataset is made up.\n" in card
    assert "- dpo ended only 40% of its responses" in card.partition("## Limits")[2]
    assert "### Few-shot prompting\n\nPut its text first." in card.partition("## How to use it")[2]


def test_names_of_others_break_neither_metadata_nor_tables() -> None:
    card = model_card(report(dataset='a"b: |\n---\nx'), Origin(base="c|d", license='"; evil: yes'))
    told = metadata(card)
    assert told["license"] == '"; evil: yes'
    assert told["model-index"][0]["results"][0]["dataset"]["name"] == 'a"b: |\n---\nx'
    assert "| base | `c\\|d` |" in card
