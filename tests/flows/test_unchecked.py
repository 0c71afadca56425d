"""Data that no program can check, as a user has them: chat rows, preferences, and a judge that compares; in a smaller world."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from tests.flows.houses import new_house, ran, report, run
from tests.tasks.judge_servers import completion, faulty

pytestmark = pytest.mark.slow

THINGS = ("bread", "rain", "trains", "stones", "music", "maps", "wool", "glass", "salt", "boats", "clocks", "honey")
WISHES = ("What do you know of {}?", "Tell me about {}.", "Why do people like {}?", "Where does one find {}?", "Is {} old?")
PROMPTS = [wish.format(thing) for wish in WISHES for thing in THINGS]
SPLIT = "split: {seed: 0, held_out: 0.3}"


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = new_house(tmp_path_factory.mktemp("house"))
    params = folder / "params.yaml"
    params.write_text(params.read_text().replace("split: {seed: 0}", SPLIT).replace("max_new_tokens: 40}", "max_new_tokens: 16}"))
    return folder


def put(house: Path, name: str, rows: list[dict[str, Any]], *, form: str) -> None:
    (house / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    run(house, "import", f"format={form}", f"file={name}.jsonl", f"name={name}")


def metrics_in_mlflow(house: Path) -> dict[str, float]:
    from mlflow import MlflowClient

    client = MlflowClient(tracking_uri=f"sqlite:///{house}/mlflow/store/mlflow.db")
    return dict(client.get_run(report(house)["mlflow"]["run_id"]).data.metrics)


def test_chat_rows_are_measured_by_held_out_loss(house: Path) -> None:
    chats = [
        {
            "messages": [
                {"role": "user", "content": prompt},
                {"role": "assistant", "content": f"Well, {prompt.lower()} I like it."},
            ]
        }
        for prompt in PROMPTS
    ]
    put(house, "chat", chats, form="openai")
    told = run(house, "pipeline", "method=sft", "data.name=chat")
    known = report(house)
    loss = {name: values["reference_loss"]["estimate"] for name, values in known["models"].items()}
    assert loss["sft"] < loss["base"], "it imitates what it was shown"
    assert known["models"]["base"]["reference_loss_change"]["low"] > 0
    assert "sft finds held-out completions likelier: -" in told
    assert "held-out loss (nats)" in told and "held-out perplexity" in told and "accuracy" not in told
    assert "gold judge" not in told and "win rate" not in told
    assert all("ended only" in warning for warning in known["warnings"])
    page = (house / "reports" / f"{known['pipeline_id']}.md").read_text()
    assert "| held-out loss (nats) |" in page and "win rate" not in page
    logged = metrics_in_mlflow(house)
    assert logged["eval/reference_loss"] == pytest.approx(loss["sft"]) and "eval/accuracy" not in logged

    lenient = ("judge.max_flips=1", "judge.min_conviction=0", "judge.max_unreadable=1")
    told = run(house, "pipeline", "method=sft", "data.name=chat", "evaluate.judge=true", *lenient)
    assert ran(house) == ["judge-base"], "SFT is the start, so it is the base that is compared with it"
    assert re.search(r"sft wins [\d.]+ \[[\d.]+, [\d.]+\] % of its comparisons with base by the judge", told)


def test_preferences_are_measured_by_the_implicit_reward_as_well_and_a_judge_compares_where_one_is_named(house: Path) -> None:
    pairs = [
        {"prompt": prompt, "chosen": f"I like it. {prompt}", "rejected": f"I do not like {prompt.lower()}"} for prompt in PROMPTS
    ]
    put(house, "pairs", pairs, form="trl")
    words = ("pipeline", "method=dpo", "data.name=pairs")
    told = run(house, *words)
    known = report(house)
    assert list(known["models"]) == ["base", "sft", "dpo"]
    assert all("ended only" in warning for warning in known["warnings"])
    assert known["models"]["dpo"]["preference_accuracy"]["estimate"] > 0.5, "chosen and rejected differ in one way throughout"
    assert "preference_accuracy" not in known["models"]["base"], "it was not trained from SFT"
    assert "pairs ranked right (%)" in told and "implicit reward" in told and "judge's wins" not in told
    assert {"eval/preference_accuracy", "eval/reference_loss_change", "eval/perplexity_high"} <= set(metrics_in_mlflow(house))
    run(house, *words, "evaluate.batch_size=3")
    assert ran(house) == []

    def likes(body: dict[str, Any], number: int) -> Any:
        found = re.search(r"Answer A:\n(.*)\n\nAnswer B:\n(.*)\n\nWhich", body["messages"][-1]["content"], re.DOTALL)
        assert found
        letter = "A" if found[1] > found[2] else "B"
        return 200, completion(letter, logprobs={letter: -0.1, "B" if letter == "A" else "A": -2.4})

    with faulty(likes) as server:
        judge = ("evaluate.judge=true", "judge.backend=openai", "judge.model=m", f"judge.base_url={server.url}")
        told = run(house, *words, *judge, "judge.template=constitution")
    assert ran(house) == ["judge-dpo"]
    known = report(house)
    assert 0 <= known["models"]["dpo"]["judge_win_rate"]["estimate"] <= 1
    assert "judge's wins vs SFT (%)" in told and "the judge's win rate is the opinion of m" in told
    assert metrics_in_mlflow(house)["eval/judge_win_rate"] == known["metrics"]["eval/judge_win_rate"]
    assert "evaluate.judge asks for" in _refused(house, *words, *judge)


def _refused(house: Path, *words: str) -> str:
    """Return what is said of a template that cannot compare, before anything runs."""
    whole = (house / "data" / "judges" / "constitution.yaml").read_text()
    (house / "points.yaml").write_text(whole[: whole.index("pairwise:")] + whole[whole.index("pointwise:") :])
    return run(house, *words, "judge.template=points.yaml", code=2)
