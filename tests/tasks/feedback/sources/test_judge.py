"""Labels of an AI judge: a tiny model here, a scripted server, and a real one over HTTP."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest
import torch

from models.load import load_model, load_tokenizer
from models.size import size_of
from posttrain.errors import ContractError, DataError, RequestError
from posttrain.feedback.labels import Label
from posttrain.records import Question
from posttrain.settings.feedback import LabelSettings
from posttrain.settings.judge import JudgeSettings
from posttrain.settings.model import ModelSettings
from tasks.feedback.sources import judge as subject
from tasks.judges import local as judge_local
from tasks.judges.identity import read_template
from tasks.workspace.jsonl import read_records, read_rows, write_rows
from tests.tasks.judge_servers import completion, faulty, real
from tests.tasks.judge_sources import TEMPLATES, judge_of

ROOT = Path(__file__).resolve().parents[4]
ANY = {"max_flips": 1.0, "min_conviction": 0.0, "mode": "pairwise"}
"""Limits that the hardly trained judge of these tests keeps, and the mode that has two orders."""


def log(step, metrics):
    raise AssertionError("this stage has no curve")


def samples_of(folder, records, *, count=12, swap=()):
    """Two different responses a question: the right one and another; the other way round for the questions in `swap`."""
    folder.mkdir(exist_ok=True)
    rows = []
    for number, question in enumerate(records[:count]):
        texts = [f"1 + {number} = 3. Answer: {question.answers[0]}", f"1 + {number} = 33; 3 - 2 = 1. So 77"]
        given = [[text, True] for text in (texts[::-1] if number in swap else texts)]
        rows.append({"question": question.model_dump(mode="json"), "responses": given})
    write_rows(folder / "samples.jsonl", rows)
    return folder


def labelled(tmp_path, tiny_world, drawn, *, name="out", cache="cache", labels=None, seed=0, **settings):
    out = tmp_path / name
    out.mkdir(exist_ok=True)
    outcome = subject.label(
        out,
        log,
        samples=drawn,
        judge=judge_of(tiny_world, tmp_path / cache, **(ANY | settings)),
        settings=LabelSettings(**(labels or {})),
        findings=tmp_path / "findings",
        model_uri="stage:sft/abc",
        seed=seed,
    )
    return outcome, list(read_records(out / "labels.jsonl", Label)), json.loads((out / "judge.json").read_text())


def of_pairs(labels):
    """The label of each pair, whichever response was shown first, as that of the alphabetically first."""
    return {
        (one.question, *sorted((one.first, one.second))): one.preference if one.first < one.second else 1 - one.preference
        for one in labels
    }


@pytest.fixture
def samples(tmp_path, world_records):
    return samples_of(tmp_path / "samples", world_records["questions"])


# --- a judge here ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["pairwise", "pointwise"])
def test_labels_tell_who_said_what_of_which(tmp_path, tiny_world, samples, mode):
    outcome, labels, told = labelled(tmp_path, tiny_world, samples, mode=mode)
    assert len(labels) == 12 and outcome.costs["labels"] == 12 and outcome.costs["judge"] == 0
    for one in labels:
        assert one.source == "judge" and one.annotator == told["judge"] and one.annotator.startswith("base-")
        assert one.group == one.question and one.first_model == one.second_model == "stage:sft/abc"
        assert one.gold == float("Answer" in one.first) and one.at == "", "made again they are the same file"
        assert 0 < one.preference < 1
        assert one.prompt_version == read_template(JudgeSettings(mode=mode), folder=TEMPLATES).digest
    assert told["mode"] == mode and told["asked_for"] == "probabilities of the options"
    assert told["accuracy"]["low"] <= told["accuracy"]["estimate"] <= told["accuracy"]["high"]
    assert told["usage"]["asked"] == 24 and told["usage"]["cached"] == 0 and told["usage"]["prompt_tokens"] > 24
    assert ("flip_share" in told) is (mode == "pairwise")
    assert outcome.metrics["conviction"] == told["conviction"] and outcome.metrics["asked"] == 24


@pytest.mark.parametrize("mode", ["pairwise", "pointwise"])
def test_the_order_of_a_pair_changes_no_label(tmp_path, tiny_world, world_records, mode):
    """Each run asks anew, with every second question's responses the other way round, and another order shown."""
    labels = []
    for name, swap, seed in (("one", (), 0), ("other", range(0, 12, 2), 1)):
        samples = samples_of(tmp_path / f"samples-{name}", world_records["questions"], swap=swap)
        labels.append(labelled(tmp_path, tiny_world, samples, name=name, cache=name, mode=mode, seed=seed)[1])
    assert [one.first for one in labels[0]] != [one.first for one in labels[1]]
    assert of_pairs(labels[0]) == pytest.approx(of_pairs(labels[1]), abs=1e-12)


def test_what_was_answered_is_not_asked_again_and_no_model_is_loaded(tmp_path, tiny_world, samples, monkeypatch):
    _, labels, _ = labelled(tmp_path, tiny_world, samples)
    monkeypatch.setattr(judge_local, "load_model", None)
    outcome, again, told = labelled(tmp_path, tiny_world, samples, name="again")
    assert again == labels and told["usage"] == {"asked": 0, "cached": 24, "prompt_tokens": 0, "completion_tokens": 0}
    assert outcome.metrics["asked"] == 0 and outcome.metrics["cached"] == 24


def test_the_judge_may_think_aloud(tmp_path, tiny_world, samples):
    template = tmp_path / "mine.yaml"
    template.write_text(
        'pointwise:\n  question: "{prompt}\\n{response}\\n"\n  think: "12"\n  ending: "Verdict:"\n'
        '  options: {" right": 10, " wrong": 1}\n'
    )
    _, labels, told = labelled(
        tmp_path, tiny_world, samples, mode="pointwise", template=str(template), reasoning=True, max_tokens=6, batch_size=5
    )
    assert len(labels) == 12 and told["reasoning"] is True
    assert 24 <= told["usage"]["completion_tokens"] <= 24 * 6


def test_budgets_are_kept(tmp_path, tiny_world, samples):
    outcome, labels, told = labelled(tmp_path, tiny_world, samples, budget=9)
    assert len(labels) == 4 and told["unasked_pairs"] == 8 and told["usage"]["asked"] == 9
    assert outcome.costs["labels"] == 4
    _, labels, told = labelled(tmp_path, tiny_world, samples, name="more", budget=9)
    assert len(labels) == 9 and told["usage"] == told["usage"] | {"asked": 9, "cached": 9}
    _, labels, _ = labelled(tmp_path, tiny_world, samples, name="few", labels={"budget": 3})
    assert len(labels) == 3
    with pytest.raises(RequestError, match=r"^judge\.budget=1: it does not buy the answers that one label takes\. Raise it$"):
        labelled(tmp_path, tiny_world, samples, name="none", cache="empty", budget=1)


def test_the_judge_can_be_asked_about_some_of_the_questions(tmp_path, tiny_world, samples):
    _, every, _ = labelled(tmp_path, tiny_world, samples)
    _, labels, told = labelled(tmp_path, tiny_world, samples, name="some", max_questions=5)
    assert len({one.question for one in labels}) == 5 and told["unasked_pairs"] == 0
    assert [one.id for one in labels] == [one.id for one in every if one.question in {label.question for label in labels}]


def test_prices_are_counted(tmp_path, tiny_world, samples):
    outcome, _, told = labelled(tmp_path, tiny_world, samples, price_prompt=1e6)
    assert outcome.costs["judge"] == told["cost"] == told["usage"]["prompt_tokens"]
    weights = size_of(load_model(str(tiny_world.base / "model"), ModelSettings(), on=torch.device("cpu"))).weights
    assert outcome.costs["forward_tokens"] == told["usage"]["prompt_tokens"] > 0
    assert outcome.costs["flops"] == 2 * weights * outcome.costs["forward_tokens"]


def test_questions_without_answers_have_no_gold(tmp_path, tiny_world):
    write_rows(
        tmp_path / "samples.jsonl",
        [{"question": Question(id="q", prompt="Sing.").model_dump(mode="json"), "responses": [["la", True], ["lo", True]]}],
    )
    _, (label,), told = labelled(tmp_path, tiny_world, tmp_path)
    assert label.gold is None and "accuracy" not in told


def test_what_is_too_long_for_the_judge_is_not_labelled(tmp_path, tiny_world, samples):
    rows = list(read_rows(samples / "samples.jsonl"))
    rows[0]["responses"][0][0] = "1 + 1 = 2; " * 40
    write_rows(samples / "samples.jsonl", rows)
    _, labels, told = labelled(tmp_path, tiny_world, samples)
    assert len(labels) == 11 and told["unreadable_share"] == pytest.approx(1 / 12)


def test_nothing_to_compare_is_told(tmp_path, tiny_world):
    write_rows(
        tmp_path / "samples.jsonl",
        [{"question": Question(id="q", prompt="Sing.").model_dump(mode="json"), "responses": [["la", True], ["la", True]]}],
    )
    with pytest.raises(
        DataError,
        match=r"^no question has two samples to compare \(different responses; labels.pairs=random\)",
    ):
        labelled(tmp_path, tiny_world, tmp_path)


def test_a_judge_without_an_opinion_is_refused_and_its_figures_stay(tmp_path, tiny_world, samples):
    with pytest.raises(ContractError, match=r"judge\.min_conviction\): it has no opinion") as caught:
        labelled(tmp_path, tiny_world, samples, min_conviction=0.49)
    assert caught.value.exit_code == 3
    assert not (tmp_path / "out" / "labels.jsonl").exists()
    assert json.loads((tmp_path / "out" / "judge.json").read_text())["pairs"] == 12


def test_a_killed_judge_loses_no_answer(tmp_path, tiny_world, samples):
    """A process that is killed while the server keeps it waiting leaves what was answered before."""
    good = (200, completion("A", logprobs={"A": -0.1, "B": -2.5}))
    with faulty(lambda body, number: good if number < 9 else "slow") as server:
        script = (
            "from pathlib import Path\n"
            "from posttrain.settings.feedback import LabelSettings\n"
            "from tasks.feedback.sources.judge import label\n"
            "from tests.tasks.judge_sources import server_of\n"
            f"out = Path({str(tmp_path / 'killed')!r}); out.mkdir()\n"
            f"judge = server_of(Path({str(tmp_path / 'cache')!r}), {server.url!r}, concurrency=2, mode='pairwise')\n"
            f"label(out, None, samples=Path({str(samples)!r}), judge=judge, settings=LabelSettings(), findings=None,"
            " model_uri='', seed=0)"
        )
        process = subprocess.Popen([sys.executable, "-c", script], cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)})
        while len(server.requests) < 11:  # two wait
            assert process.poll() is None
            time.sleep(0.02)
        process.send_signal(signal.SIGKILL)
        process.wait()
        server._behave = lambda body, number: good
        with pytest.raises(ContractError, match=r"judge\.max_flips"):  # this server always says A
            labelled(tmp_path, tiny_world, samples, backend="openai", model="m", base_url=server.url, max_flips=0.9)
        told = json.loads((tmp_path / "out" / "judge.json").read_text())
    assert told["usage"]["cached"] == 9 and told["usage"]["asked"] == 24 - 9


# --- servers --------------------------------------------------------------------------------------------------------------


def test_a_server_that_always_says_a_is_refused_with_labels_of_half(tmp_path, tiny_world, samples):
    with faulty(lambda *_: (200, completion("A", logprobs={"A": -0.01}))) as server:
        settings = {"backend": "openai", "model": "m", "base_url": server.url}
        _, labels, told = labelled(tmp_path, tiny_world, samples, **settings)
        assert [one.preference for one in labels] == [0.5] * 12 and told["flip_share"] == 1 and told["position_bias"] == 0.5
        with pytest.raises(ContractError, match=r"the winner of 100\.0% of the pairs is another when the order is swapped"):
            labelled(tmp_path, tiny_world, samples, name="refused", **settings, max_flips=0.9, min_conviction=0.01)
    kept = tmp_path / "findings" / "judge.json"
    assert json.loads(kept.read_text()) == json.loads((tmp_path / "refused" / "judge.json").read_text())


def test_a_server_without_probabilities_is_said_to_be_one(tmp_path, tiny_world, samples):
    with faulty(lambda *_: (200, completion("A"))) as server:
        _, _, told = labelled(tmp_path, tiny_world, samples, backend="openai", model="m", base_url=server.url, samples=3)
    assert told["asked_for"] == (
        "3 sampled answers a question, counted, since the server tells no log-probabilities; all answers to a question are "
        "alike, as from a server that does not sample"
    )
    assert told["counted_share"] == 1 and told["usage"]["asked"] == 1 + 24 * 3


def test_a_server_that_mumbles_is_refused(tmp_path, tiny_world, samples):
    with (
        faulty(lambda *_: (200, completion("Well", logprobs={"Well": -0.01}))) as server,
        pytest.raises(ContractError, match=r"100\.0% of the pairs have a reply that is none of the options, allowed are 10\.0%"),
    ):
        labelled(tmp_path, tiny_world, samples, backend="openai", model="m", base_url=server.url)


@pytest.mark.parametrize("mode", ["pairwise", "pointwise"])
def test_a_real_server_with_the_tiny_model_says_what_the_model_says_here(tmp_path, tiny_world, samples, mode):
    """uvicorn and FastAPI over HTTP, the openai client, the same weights: the same labels, up to the spellings of an option.

    Through a server "A" counts as " A", which a model that has hardly been trained does not rule out.
    """
    model = load_model(tiny_world.base / "model", ModelSettings(), on=torch.device("cpu"))
    here = of_pairs(labelled(tmp_path, tiny_world, samples, mode=mode)[1])
    with real(model, load_tokenizer(tiny_world.tokenizer)) as (url, seen):
        _, labels, told = labelled(
            tmp_path, tiny_world, samples, name="http", backend="openai", model="m", base_url=url, mode=mode
        )
    assert len(seen) == 24 and told["judge"] == "m" and told["asked_for"] == "probabilities of the options"
    assert of_pairs(labels) == pytest.approx(here, abs=0.02 if mode == "pairwise" else 1e-4)


@pytest.mark.slow
def test_transformers_serve_judges(tmp_path, tiny_world, world_records):
    """`transformers serve` tells no log-probabilities and samples only where the model's own settings say so: it is counted."""
    model = tmp_path / "judge model"
    shutil.copytree(tiny_world.base / "model", model)
    told = json.loads((model / "generation_config.json").read_text())
    (model / "generation_config.json").write_text(json.dumps(told | {"do_sample": True}))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    start = "from transformers.cli.transformers import main; main()"
    command = [sys.executable, "-c", start, "serve", str(model), "--host", "127.0.0.1", "--port", str(port), "--device", "cpu"]
    log_file = tmp_path / "serve.log"
    with log_file.open("w") as output:
        process = subprocess.Popen(command, stdout=output, stderr=output, env={**os.environ, "OMP_NUM_THREADS": "1"})
    try:
        while not answers(f"http://127.0.0.1:{port}/health"):
            assert process.poll() is None, log_file.read_text()
            time.sleep(0.1)
        samples = samples_of(tmp_path / "samples", world_records["questions"], count=3)
        settings = {"backend": "openai", "model": str(model), "base_url": f"http://127.0.0.1:{port}/v1", "samples": 4}
        _, labels, told = labelled(tmp_path, tiny_world, samples, **settings, max_unreadable=1.0)
    finally:
        process.terminate()
        process.wait()
    assert told["counted_share"] == 1 and told["usage"]["asked"] == 1 + 6 * 4 and told["usage"]["completion_tokens"] > 0
    assert len(labels) == round(3 * (1 - told["unreadable_share"]))
    assert "since the server tells no log-probabilities" in told["asked_for"]


def answers(url):
    try:
        with urllib.request.urlopen(url, timeout=5) as reply:
            return reply.status == 200
    except OSError:
        return False


# --- a model of its own --------------------------------------------------------------------------------------------------


def test_a_directory_is_a_judge_too(tmp_path, tiny_world, samples):
    here = of_pairs(labelled(tmp_path, tiny_world, samples)[1])
    _, labels, told = labelled(tmp_path, tiny_world, samples, name="own", model=str(tiny_world.base / "model"))
    assert of_pairs(labels) == pytest.approx(here, abs=1e-9) and told["judge"].startswith("model-")


def test_a_directory_whose_tokenizer_is_broken_is_told_by_the_judges_setting(tmp_path, tiny_world, samples):
    broken = tmp_path / "broken"
    shutil.copytree(tiny_world.base / "model", broken)
    (broken / "tokenizer.json").write_text("{")
    with pytest.raises(RequestError, match=f"^judge.model={broken}: its tokenizer cannot be loaded"):
        labelled(tmp_path, tiny_world, samples, model=str(broken))


def test_a_directory_whose_weights_are_broken_is_told_by_the_judges_setting(tmp_path, tiny_world, samples):
    broken = tmp_path / "broken"
    shutil.copytree(tiny_world.base / "model", broken)
    (broken / "model.safetensors").write_bytes(b"no weights")
    with pytest.raises(RequestError, match=f"^judge.model={broken}: it cannot be loaded"):
        labelled(tmp_path, tiny_world, samples, model=str(broken))
