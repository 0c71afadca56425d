"""What vLLM is asked for, and what becomes of its answers, against a recorded double of TRL's class: there is no GPU here."""

import inspect
import random
import sys
from types import ModuleType, SimpleNamespace

import pytest
import torch

from models import vllm_engine as subject
from models.engines import ENGINES
from posttrain.errors import RequestError
from posttrain.rl.rollout import uniforms
from posttrain.settings.ppo import PPOSettings

END, STOP, CONTEXT = 1, 7, 12
PROMPTS = [[3, 4, 5], [6], [3, 4, 5], [8, 9], list(range(2, 14)), [5] * 10]
"""The first and the third are equal; the fifth fills the context; the last leaves room for two tokens."""
HOW = {"temperature": 0.7, "end_ids": (STOP, END), "pad_id": 0, "context": CONTEXT, "batch_size": 4}


def drawn(prompt, parameters):
    """Return what a sampler that knows prompt and seed alone would draw, until a token ends it, with log-probabilities."""
    chance = random.Random(str((prompt, parameters["seed"])))
    tokens = []
    while len(tokens) < parameters["max_tokens"] and not (tokens and tokens[-1] in parameters["stop_token_ids"]):
        tokens.append(chance.randrange(1, 16))
    return tokens, [-chance.random() for _ in tokens]


def places(tokens, figures):
    """Return the candidates of each token: a likelier one stands beside the one that was drawn, as vLLM may tell it."""
    return [{99: -0.001, token: figure} for token, figure in zip(tokens, figures, strict=True)]


class Double:
    """Takes what TRL's `VLLMGeneration` takes, and notes what is asked of it."""

    def __init__(self, model, accelerator, processing_class, **how):
        self.model, self.made_with, self.events, self.requests = model, how, [], []
        self.llm = SimpleNamespace(generate=self.generate)
        self.vllm_client = SimpleNamespace(generate=self.serve)

    def sync_weights(self):
        self.events.append(("sync", self.model))

    def generate(self, prompts, sampling_params, use_tqdm):
        assert not use_tqdm
        self.events.append(("generate", len(prompts)))
        outputs = []
        for prompt, given in zip(prompts, sampling_params, strict=True):
            self.requests.append((prompt["prompt_token_ids"], vars(given)))
            tokens, figures = drawn(*self.requests[-1])
            told = [{token: SimpleNamespace(logprob=one) for token, one in place.items()} for place in places(tokens, figures)]
            outputs.append(SimpleNamespace(outputs=[SimpleNamespace(token_ids=tuple(tokens), logprobs=told)]))
        return outputs

    def serve(self, prompts, generation_kwargs):
        self.events.append(("generate", len(prompts)))
        self.requests.append((prompts[0], generation_kwargs))
        tokens, figures = drawn(prompts[0], generation_kwargs)
        candidates = places(tokens, figures)
        return {
            "completion_ids": [tokens],
            "logprobs": [[list(place.values()) for place in candidates]],
            "logprob_token_ids": [[list(place) for place in candidates]],
        }


@pytest.fixture
def doubles(monkeypatch):
    """The doubles that were made; vLLM itself is a module that has `SamplingParams`."""
    made = []

    def make(*given, **how):
        made.append(Double(*given, **how))
        return made[-1]

    monkeypatch.setattr(subject, "_generation", make)
    module = ModuleType("vllm")
    module.SamplingParams = SimpleNamespace
    monkeypatch.setitem(sys.modules, "vllm", module)
    return made


@pytest.fixture
def chance():
    return uniforms(0, episodes=len(PROMPTS), longest=6, seed=3)


@pytest.fixture(params=["", "http://127.0.0.1:8000"], ids=["within", "server"])
def engine(request):
    return ENGINES["vllm"](PPOSettings(engine="vllm", engine_url=request.param, engine_memory=0.4))


def test_each_request_has_its_own_seed_and_room(engine, doubles, chance):
    found = engine("policy", PROMPTS, chance, **HOW)
    asked = {tuple(prompt): given for prompt, given in doubles[0].requests}
    by_row = [subject.seed_of(row) for row in chance]
    assert len(set(by_row)) == len(by_row) and all(0 <= seed < 2**63 for seed in by_row)
    assert sorted(given["seed"] for _, given in doubles[0].requests) == sorted(by_row[:4] + by_row[5:])
    assert [asked[tuple(PROMPTS[row])]["max_tokens"] for row in (1, 3, 5)] == [6, 6, 2]
    # what was drawn for a row stands in that row, and the row without room is not asked
    for row, (prompt, seed) in enumerate(zip(PROMPTS, by_row, strict=True)):
        room = min(6, CONTEXT - len(prompt))
        tokens, figures = drawn(prompt, {"seed": seed, "max_tokens": room, "stop_token_ids": [END, STOP]}) if room else ([], [])
        assert found.responses[row] == tokens
        assert found.logprobs[row].dtype == torch.float32
        torch.testing.assert_close(found.logprobs[row], torch.tensor(figures, dtype=torch.float32), atol=0, rtol=0)
        assert found.is_finished[row] == bool(tokens and tokens[-1] in (END, STOP))
    assert any(found.is_finished) and not all(found.is_finished)


def test_the_whole_distribution_is_asked_for_and_our_ends_alone(engine, doubles, chance):
    engine("policy", PROMPTS, chance, **HOW)
    for _, given in doubles[0].requests:
        assert {name: given[name] for name in ("top_p", "top_k", "min_p", "repetition_penalty")} == {
            "top_p": 1.0,
            "top_k": 0,
            "min_p": 0.0,
            "repetition_penalty": 1.0,
        }
        assert (given["presence_penalty"], given["frequency_penalty"], given["n"]) == (0.0, 0.0, 1)
        assert (given["temperature"], given["logprobs"]) == (0.7, 0)
        assert given["ignore_eos"] and given["stop_token_ids"] == [END, STOP]


@pytest.mark.parametrize("cut", [{"top_p": 0.9}, {"top_k": 5}, {"repetition_penalty": 1.1}])
def test_a_cut_of_the_distribution_is_refused(engine, doubles, chance, cut):
    with pytest.raises(TypeError, match="unexpected keyword argument"):
        engine("policy", PROMPTS, chance, **HOW, **cut)
    assert not doubles


def test_a_row_depends_on_its_own_prompt_and_uniforms_alone(engine, doubles, chance):
    whole = engine("policy", PROMPTS, chance, **HOW)
    assert whole.responses[0] != whole.responses[2], "equal prompts have other uniforms"
    order = [5, 2, 0]
    some = engine("policy", [PROMPTS[row] for row in order], chance[order], **HOW)
    assert some.responses == [whole.responses[row] for row in order]
    other = engine("policy", PROMPTS, uniforms(1, episodes=len(PROMPTS), longest=6, seed=3), **HOW)
    assert other.responses != whole.responses


def test_weights_are_handed_over_once_a_draw_and_before_it(engine, doubles, chance):
    engine("policy", PROMPTS, chance, **HOW)
    engine("gathered anew", PROMPTS, chance, **HOW)
    assert len(doubles) == 1, "vLLM is started once"
    kinds = [kind for kind, _ in doubles[0].events]
    half = len(kinds) // 2
    assert kinds[:half] == kinds[half:] and kinds[0] == "sync" and set(kinds[1:half]) == {"generate"}
    assert [model for kind, model in doubles[0].events if kind == "sync"] == ["policy", "gathered anew"]
    within = not doubles[0].made_with["server_base_url"]
    assert doubles[0].made_with["mode"] == ("colocate" if within else "server")
    assert (doubles[0].made_with["gpu_memory_utilization"], doubles[0].made_with["max_model_length"]) == (0.4, CONTEXT)
    assert doubles[0].made_with["max_num_seqs"] == 4
    assert sum(count for kind, count in doubles[0].events if kind == "generate") == 2 * (len(PROMPTS) - 1)


def test_another_process_takes_its_part_of_what_the_first_one_asked_a_server_for(monkeypatch):
    """The second of two processes: it asks nobody, and finds its responses behind those of the first."""
    first, mine = [([2], {}), ([3], {}), ([4], {})], [([5], {}), ([6], {})]
    everything = [([one[0][0]], [-float(one[0][0])]) for one in (*first, *mine)]
    monkeypatch.setattr(subject, "Accelerator", lambda: SimpleNamespace(is_main_process=False, process_index=1))
    monkeypatch.setattr(subject, "gather_object", lambda given: (first if isinstance(given[0], tuple) else [len(first)]) + given)

    def broadcast(told, from_process):
        assert told == [None] and from_process == 0
        return [everything]

    monkeypatch.setattr(subject, "broadcast_object_list", broadcast)
    assert subject._of_server(SimpleNamespace(), mine) == [([5], [-5.0]), ([6], [-6.0])]


def test_trls_class_takes_what_it_is_given():
    from trl.generation.vllm_client import VLLMClient
    from trl.generation.vllm_generation import VLLMGeneration

    inspect.signature(VLLMGeneration.__init__).bind(
        *("self", "policy", "accelerator", None),
        mode="server",
        server_base_url="http://127.0.0.1:8000",
        gpu_memory_utilization=0.3,
        max_model_length=512,
        max_num_seqs=64,
    )
    inspect.signature(VLLMGeneration.sync_weights).bind("self")
    inspect.signature(VLLMClient.generate).bind("self", prompts=[[1]], generation_kwargs={"seed": 1})
    # why requests are made here: there is one set of sampling parameters for all
    assert "seed" not in inspect.signature(VLLMGeneration.generate).parameters
    assert "SamplingParams(**generation_kwargs)" in inspect.getsource(VLLMGeneration.generate)


@pytest.mark.parametrize(
    ("url", "says"), [("", "needs a GPU"), ("http://127.0.0.1:8000", "hands weights to the server from a GPU")]
)
def test_without_a_gpu_it_is_refused(url, says):
    with pytest.raises(RequestError) as error:
        subject.check_vllm(on=torch.device("cpu"), url=url)
    assert str(error.value) == (
        f"ppo.engine=vllm {says}, and this machine has none that can be used. Say ppo.engine=transformers, or ppo.engine=bfloat16"
    )


def test_without_the_package_it_is_refused(monkeypatch):
    monkeypatch.setattr(subject, "find_spec", lambda name: None)
    with pytest.raises(RequestError) as error:
        subject.check_vllm(on=torch.device("cuda"), url="")
    assert str(error.value) == (
        "ppo.engine=vllm needs the package vllm, and it is not installed: .venv/bin/uv pip install -e . vllm==0.30.0 --override "
        "deploy/vllm-overrides.txt"
    )
    monkeypatch.setattr(subject, "find_spec", lambda name: name)
    subject.check_vllm(on=torch.device("cuda"), url="")
