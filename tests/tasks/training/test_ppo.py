"""The stage `ppo`: trained weights, samples and curves; a run that is killed goes on to the same weights."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from models.decoder import LARGE
from models.load import load_model, load_tokenizer
from models.size import size_of
from posttrain.errors import ContractError, DataError
from posttrain.feedback.labels import sampled_questions
from posttrain.records import Question
from posttrain.rl.learner import Learner
from posttrain.rl.rewards import Rewards
from posttrain.settings.model import ModelSettings
from posttrain.settings.ppo import PPOSettings
from tasks.rewards.sources.table import KINDS, reward_source
from tasks.training import heap, loop, ppo
from tasks.training.rollouts import Asker
from tasks.workspace.artifacts import file_digest
from tasks.workspace.jsonl import read_rows, write_rows

SMALL = {
    "updates": 4,
    "episodes": 16,
    "mini_batch_size": 8,
    "max_new_tokens": 24,
    "min_finished": 0.0,
    "checkpoint_every": 1,
    "samples_every": 2,
    "learning_rate": 1e-3,
}
ROOT = Path(__file__).resolve().parents[3]


def train(
    world,
    out,
    checkpoints,
    *,
    reward="answer",
    data=None,
    log=lambda *_: None,
    lora_rank=0,
    trainer=ppo,
    own=None,
    excluded_questions=None,
    share=0.0,
    checkpointing="auto",
    **settings,
):
    chosen = PPOSettings(**(SMALL | settings), reward=reward)
    out.mkdir()
    return trainer.train(
        out,
        log,
        data=data or world.data,
        start=world.base,
        tokenizer=world.tokenizer,
        model=ModelSettings(context=world.context, lora_rank=lora_rank, gradient_checkpointing=checkpointing),
        settings=chosen,
        **(own or {}),
        reward=reward_source(reward, partial_credit=chosen.partial_credit, registered=Path),
        checkpoints=checkpoints,
        context=world.context,
        seed=1,
        excluded_questions=excluded_questions,
        question_share=share,
    )


def questions_of(world):
    return [Question.model_validate(row) for row in read_rows(world.data / "questions.jsonl")]


def digest(out):
    return file_digest(out / "model" / "model.safetensors")


@pytest.mark.slow
def test_the_stage_leaves_a_model_samples_curves_and_costs(tiny_world, tmp_path):
    points = []
    outcome = train(tiny_world, tmp_path / "out", tmp_path / "kept", log=lambda step, figures: points.append((step, figures)))
    assert [step for step, _ in points] == [1, 2, 3, 4]
    names = {
        "reward",
        "kl",
        "sqrt_kl",
        "clip_fraction",
        "explained_variance",
        "entropy",
        "approx_kl",
        "finished",
        "gold",
        "right",
    }
    assert {f"ppo/{name}" for name in names} <= points[-1][1].keys()
    assert points[0][1]["ppo/kl"] == pytest.approx(0.0, abs=1e-4)
    assert names <= outcome.metrics.keys()
    assert digest(tmp_path / "out") != file_digest(tiny_world.base / "model" / "model.safetensors")
    rows = list(read_rows(tmp_path / "out" / loop.SAMPLES))
    assert [row["update"] for row in rows] == [1] * loop.SHOWN + [2] * loop.SHOWN + [4] * loop.SHOWN
    assert {"prompt", "completion", "reward", "finished", "why"} <= rows[0].keys()
    assert outcome.costs["trained_tokens"] > 2 * outcome.costs["generated_tokens"] > 0
    # two epochs: policy and critic learn from every update's tokens twice; the policy reads them as it samples, the reference,
    # and the critic for its values; in the place of the output layer it has a weight a unit of width, and a bias
    costs = outcome.costs
    whole = costs["trained_tokens"] / 2
    assert costs["critic_tokens"] == costs["trained_tokens"]
    assert costs["forward_tokens"] == 3 * whole
    network = load_model(str(tiny_world.base / "model"), ModelSettings(), on=torch.device("cpu"))
    policy = size_of(network).weights
    critic = policy - network.get_output_embeddings().weight.numel() + network.config.hidden_size + 1
    assert costs["flops"] == (6 * policy + 6 * critic) * 2 * whole + (2 * 2 * policy + 2 * critic) * whole
    assert len(list((tmp_path / "kept").glob("step-*.pt"))) == 1


@pytest.mark.slow
def test_a_killed_run_goes_on_to_the_weights_of_an_undisturbed_one(tiny_world, tmp_path):
    code = (
        "import sys; from pathlib import Path; from tests.conftest import TinyWorld\n"
        "from tests.tasks.training.test_ppo import train\n"
        "data, tokenizer, base, out, kept = map(Path, sys.argv[1:])\n"
        "import torch; torch.set_num_threads(1)\n"
        "train(TinyWorld(data=data, tokenizer=tokenizer, base=base), out, kept)"
    )
    kept = tmp_path / "kept"
    places = [tiny_world.data, tiny_world.tokenizer, tiny_world.base, tmp_path / "killed", kept]
    process = subprocess.Popen(
        [sys.executable, "-c", code, *map(str, places)], cwd=ROOT, env=os.environ | {"PYTHONPATH": str(ROOT)}
    )
    deadline = time.monotonic() + 120
    while not list(kept.glob("step-*.pt")) and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL, "it was done before it could be killed"

    points = []
    resumed = train(tiny_world, tmp_path / "resumed", kept, log=lambda step, figures: points.append((step, figures)))
    whole = []
    undisturbed = train(
        tiny_world, tmp_path / "whole", tmp_path / "other", log=lambda step, figures: whole.append((step, figures))
    )
    assert points == whole, "the curve of a resumed run is that of a whole one"
    assert digest(tmp_path / "resumed") == digest(tmp_path / "whole")
    assert (tmp_path / "resumed" / loop.SAMPLES).read_bytes() == (tmp_path / "whole" / loop.SAMPLES).read_bytes()
    assert resumed.metrics == undisturbed.metrics
    same = ("generated_tokens", "trained_tokens", "critic_tokens", "forward_tokens", "flops")
    assert [resumed.costs[name] for name in same] == [undisturbed.costs[name] for name in same]


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ("def score(prompts, completions, records):\n    raise KeyError('no such')\n", "raised KeyError: 'no such'"),
        ("def score(prompts, completions, records):\n    return [1.0]\n", "must be one number a response, 16, got 1"),
        (
            "def score(prompts, completions, records):\n    return [float('nan')] * 16\n",
            "must be a finite number, got nan for record",
        ),
        ("import time\ndef score(prompts, completions, records):\n    time.sleep(60)\n", "took longer than 0.2 s"),
    ],
)
def test_a_reward_that_breaks_stops_the_run_and_names_the_best_checkpoint(tiny_world, tmp_path, monkeypatch, rewards, body, said):
    name, kept = rewards(body), tmp_path / "kept"
    found = iter([None, kept / "best.pt"])  # none to go on from at the start, one at the end
    monkeypatch.setattr(loop.Checkpoints, "best", lambda self: next(found))
    seconds = 0.2 if "took longer" in said else 60.0
    with pytest.raises(ContractError) as error:
        train(tiny_world, tmp_path / "out", kept, reward=name, reward_seconds=seconds)
    assert said in str(error.value)
    assert str(error.value).endswith(f"The best checkpoint by training reward is kept: {kept / 'best.pt'}")


@pytest.mark.parametrize("kind", ["judge", "model", "python"])
def test_a_judge_may_take_its_time_and_another_reward_may_not(tiny_world, monkeypatch, kind):
    def slow(prompts, completions, records):
        time.sleep(0.3)
        return Rewards(values=[0.5] * len(records))

    monkeypatch.setattr(KINDS[kind], "load", lambda source: slow)
    given = {
        "judge": {"judge": None},
        "model": {"path": Path("m"), "weights": ""},
        "python": {"module": "m", "function": "f", "text": ""},
    }
    source = KINDS[kind](name="slow", **given[kind])
    settings = PPOSettings(reward_seconds=0.05)
    asker = Asker(questions_of(tiny_world), load_tokenizer(tiny_world.tokenizer), source, settings, context=tiny_world.context)
    if kind != "python":
        assert list(asker.score([0], [[5]]).values) == [0.5]
        return
    with pytest.raises(ContractError, match="took longer than"):
        asker.score([0], [[5]])


@pytest.mark.slow
@pytest.mark.parametrize("critic", ["separate", "shared"])
def test_adapters_are_trained_and_merged(tiny_world, tmp_path, critic):
    points = []
    train(
        tiny_world,
        tmp_path / "out",
        tmp_path / "kept",
        lora_rank=4,
        critic=critic,
        log=lambda step, figures: points.append(figures["ppo/kl"]),
    )
    assert points[0] == pytest.approx(0.0, abs=1e-4), "the reference is the policy with its adapters off"
    assert max(points) > 1e-4
    names = load_file(tmp_path / "out" / "model" / "model.safetensors").keys()
    assert names == load_file(tiny_world.base / "model" / "model.safetensors").keys(), "no adapter is left"
    assert digest(tmp_path / "out") != file_digest(tiny_world.base / "model" / "model.safetensors")


@pytest.mark.slow
def test_any_function_can_be_the_reward(tiny_world, tmp_path, rewards):
    body = "def score(prompts, completions, records):\n    return [-float(len(text)) for text in completions]\n"
    outcome = train(
        tiny_world, tmp_path / "out", tmp_path / "kept", reward=rewards(body), reward_clip=100.0, reward_scale="running"
    )
    assert outcome.metrics["reward"] < 0
    assert 0 <= outcome.metrics["gold"] <= 1, "gold is the grader's, whatever the reward"


def test_questions_without_answers_cannot_be_graded(tiny_world, tmp_path):
    (tmp_path / "data").mkdir()
    rows = [Question(id="1", prompt="Tom has 3 apples. How many?").model_dump(mode="json")]
    write_rows(tmp_path / "data" / "questions.jsonl", rows)
    with pytest.raises(DataError, match=r"^PPO has nothing to ask: a question must leave room"):
        train(tiny_world, tmp_path / "out", tmp_path / "kept", data=tmp_path / "data")


def test_a_model_that_does_not_end_its_responses_is_not_trained(tiny_world, tmp_path):
    with pytest.raises(ContractError, match=r"of the first responses end with EOS, PPO needs 100%"):
        train(tiny_world, tmp_path / "out", tmp_path / "kept", min_finished=1.0, max_new_tokens=2)


def test_gold_is_added_to_any_reward(tiny_world):
    settings = PPOSettings(**SMALL)
    source = reward_source("answer", partial_credit=0.5, registered=Path)
    asker = Asker(questions_of(tiny_world), load_tokenizer(tiny_world.tokenizer), source, settings, context=tiny_world.context)
    right, wrong = (asker.tokenizer(f"Answer: {answer}")["input_ids"] for answer in (asker.questions[0].answers[0], "77"))
    told = asker.score([0, 0], [right, wrong])
    assert isinstance(told, Rewards)
    assert list(told.values) == [1.0, 0.5]
    assert told.parts["gold"] == [1.0, 0.0]
    assert told.parts["partial"] == [0.0, 1.0]
    assert json.dumps(list(told.reasons))


def test_questions_that_the_reward_model_has_learnt_from_are_excluded_questions(tiny_world, tmp_path):
    questions = questions_of(tiny_world)
    learnt, fresh = questions[:-2], {one.prompt for one in questions[-2:]}
    told = tmp_path / "trained_on.json"
    told.write_text(json.dumps([one.id for one in learnt]))
    train(tiny_world, tmp_path / "out", tmp_path / "kept", updates=1, excluded_questions=told)
    asked = {row["prompt"].strip() for row in read_rows(tmp_path / "out" / "samples.jsonl")}
    assert asked and asked <= {prompt.strip() for prompt in fresh}
    told.write_text(json.dumps([one.id for one in questions]))
    with pytest.raises(DataError, match="be none that is kept for labels or that the reward model has learnt from"):
        train(tiny_world, tmp_path / "again", tmp_path / "kept again", updates=1, excluded_questions=told)


def test_questions_kept_for_labels_are_excluded_questions_whatever_the_reward(tiny_world, tmp_path):
    """The same share, seed and questions keep the same ones for every method: those that nothing was sampled for."""
    questions = questions_of(tiny_world)
    kept = set(sampled_questions([one.id for one in questions], share=0.5, seed=1))
    outcome = train(tiny_world, tmp_path / "out", tmp_path / "kept", updates=1, share=0.5)
    asked = {row["prompt"].strip() for row in read_rows(tmp_path / "out" / "samples.jsonl")}
    assert asked and asked <= {one.prompt for one in questions if one.id not in kept}
    assert outcome.metrics["questions_kept_for_labels"] == len(kept)
    assert outcome.metrics["questions"] == len(questions) - len(kept)


@pytest.mark.parametrize(
    ("score", "said"), [("0.25", "have one and the same score, 0.25"), ("len(one)", "the reward depends on the question alone")]
)
def test_a_reward_without_a_signal_ends_the_run(tiny_world, tmp_path, rewards, score, said):
    """Neither a constant nor a reward of the question alone tells one response from another; the run would drift unseen."""
    name = rewards(f"def score(prompts, completions, records):\n    return [float({score}) for one in prompts]\n")
    big = {"episodes": 128, "mini_batch_size": 64, "samples_per_prompt": 4}
    with pytest.raises(ContractError, match=said):
        train(tiny_world, tmp_path / "out", tmp_path / "kept", reward=name, patience=2, updates=12, **big)


@pytest.mark.parametrize("lora_rank", [0, 2])
def test_activations_may_be_computed_again_in_policy_and_critic(tiny_world, tmp_path, monkeypatch, lora_rank):
    """The same weights come out: what is kept for the backward pass decides nothing."""
    made, make = [], loop.policy_and_critic
    monkeypatch.setattr(loop, "policy_and_critic", lambda *given, **how: made.append(make(*given, **how)) or made[-1])
    short, digests = {"updates": 1, "lora_rank": lora_rank}, []
    for choice in ("on", "off"):
        train(tiny_world, tmp_path / choice, tmp_path / f"kept {choice}", checkpointing=choice, **short)
        digests.append(file_digest(tmp_path / choice / "model" / "model.safetensors"))
    checkpointed = [[part.get_base_model() if lora_rank else part for part in (one.policy, one.critic)] for one in made]
    assert [[part.is_gradient_checkpointing for part in parts] for parts in checkpointed] == [[True, True], [False, False]]
    assert digests[0] == digests[1]


@pytest.mark.parametrize(("large", "is_given_back"), [(10_000, True), (LARGE, False)])
def test_a_large_network_gives_freed_memory_back_before_it_learns_and_behind_it(
    tiny_world, tmp_path, monkeypatch, large, is_given_back
):
    events = []

    def learn(self, *given, **named):
        events.append("learn")
        return inner(self, *given, **named)

    inner = Learner.learn
    monkeypatch.setattr(Learner, "learn", learn)
    monkeypatch.setattr(heap, "LARGE", large)
    monkeypatch.setattr(heap, "return_freed", lambda: events.append("given back"))
    train(tiny_world, tmp_path / "out", tmp_path / "checkpoints", updates=2)
    an_update = ["given back", "learn", "given back"] if is_given_back else ["learn"]
    assert events == 2 * an_update
