"""vLLM as what draws a policy's responses: within the processes that train, or as a server. It was not run on a GPU yet.

Weights are handed over by TRL's `VLLMGeneration`, which knows vLLM's versions. Its own `generate` gives all requests of a batch
one seed, so that equal prompts would get equal responses: each request is made here, with a seed of its own.
"""

import hashlib
from collections.abc import Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from importlib.util import find_spec
from typing import Any, Protocol, cast

import torch
from accelerate import Accelerator
from accelerate.utils import broadcast_object_list, gather_object
from torch import Tensor

from posttrain.errors import RequestError
from posttrain.rl.rollout import Sampled

PACKAGE = "vllm"
INSTALL = ".venv/bin/uv pip install -e . vllm==0.30.0 --override deploy/vllm-overrides.txt"
CONCURRENT = 64
"""Requests to a server at a time, as many as TRL's client keeps connections for."""
Drawn = tuple[list[int], list[float]]
"""The tokens of a response, and the log-probability of each, nats."""
Request = tuple[list[int], dict[str, Any]]
"""The tokens of a prompt, and vLLM's sampling parameters by name."""


def check_vllm(*, on: torch.device, url: str) -> None:
    """Refuse vLLM where it cannot run.

    Args:
        on: the device that trains.
        url: of the server; "" for vLLM within the processes that train.

    Raises:
        RequestError: there is no GPU, or vLLM is not installed.
    """
    if on.type != "cuda":
        weights = "hands weights to the server from a GPU" if url else "needs a GPU"
        raise RequestError(
            f"ppo.engine=vllm {weights}, and this machine has none that can be used. Say ppo.engine=transformers, or "
            "ppo.engine=bfloat16"
        )
    if find_spec(PACKAGE) is None:
        raise RequestError(f"ppo.engine=vllm needs the package vllm, and it is not installed: {INSTALL}")


def seed_of(chance: Tensor) -> int:
    """Return the seed that the uniforms of a response stand for: a digest of them, 63 bits."""
    digest = hashlib.sha256(chance.detach().cpu().contiguous().numpy().tobytes()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


class _Weights(Protocol):
    """What is used of TRL's `VLLMGeneration`."""

    model: Any
    llm: Any
    vllm_client: Any

    def sync_weights(self) -> None:
        """Hand all weights of `model` over; every process must ask for it."""


class VLLM:
    """vLLM with the policy's weights, which it takes anew before each draw.

    Its log-probabilities are those of the distribution that it drew from, at the temperature. Top-k, top-p and penalties are off,
    whatever the base's generation config or the server's own say.

    Args:
        url: of a server; "" for vLLM within this process.
        memory: share of the GPU's memory that vLLM takes, within this process.
    """

    def __init__(self, *, url: str, memory: float) -> None:
        self._url, self._memory = url, memory
        self._trl: _Weights | None = None

    def __call__(
        self,
        policy: Any,
        prompts: Sequence[Sequence[int]],
        chance: Tensor,
        *,
        temperature: float,
        end_ids: Collection[int],
        pad_id: int,
        context: int,
        batch_size: int,
    ) -> Sampled:
        """Draw a response to each prompt; a row depends on its own prompt and uniforms alone, up to rounding.

        Args:
            policy: a causal language model, whole.
            prompts: token ids.
            chance: (prompts, longest), uniform in [0, 1): a row's seed is made of it, and its width is the longest response.
            temperature: logits are divided by it.
            end_ids: any of them ends a response.
            pad_id: not used: no prompt is padded.
            context: tokens of prompt and response together, at most.
            batch_size: rows drawn together, at most, where vLLM runs within this process.
        """
        trl = self._synchronised(policy, context=context, batch_size=batch_size)
        has_room = [row for row, prompt in enumerate(prompts) if len(prompt) < context and chance.shape[1]]
        requests = [
            (
                list(prompts[row]),
                _parameters(
                    temperature=temperature,
                    end_ids=end_ids,
                    max_tokens=min(chance.shape[1], context - len(prompts[row])),
                    seed=seed_of(chance[row]),
                ),
            )
            for row in has_room
        ]
        drawn = _of_server(trl, requests) if self._url else _within(trl, requests)
        responses: list[list[int]] = [[] for _ in prompts]
        logprobs = [torch.zeros(0)] * len(prompts)
        for row, (tokens, figures) in zip(has_room, drawn, strict=True):
            responses[row], logprobs[row] = tokens, torch.tensor(figures, dtype=torch.float32)
        ended = [bool(tokens) and tokens[-1] in end_ids for tokens in responses]
        return Sampled(responses=responses, logprobs=logprobs, is_finished=ended)

    def _synchronised(self, policy: Any, *, context: int, batch_size: int) -> _Weights:
        """Return TRL's class, made at the first call, with the policy's weights handed over."""
        if self._trl is None:
            # of the processes that train: a second Accelerator shares the first one's state
            self._trl = _generation(
                policy,
                Accelerator(),
                None,
                mode="server" if self._url else "colocate",
                server_base_url=self._url or None,
                gpu_memory_utilization=self._memory,
                max_model_length=context,
                max_num_seqs=batch_size,
            )
        # a policy whose weights are shared out is gathered into a copy, which need not be the one of the last update
        self._trl.model = policy
        self._trl.sync_weights()
        return self._trl


def _generation(*given: Any, **how: Any) -> _Weights:
    from trl.generation.vllm_generation import VLLMGeneration

    return cast(_Weights, VLLMGeneration(*given, **how))


def _parameters(*, temperature: float, end_ids: Collection[int], max_tokens: int, seed: int) -> dict[str, Any]:
    """Return what vLLM's `SamplingParams` and its server's completions both take."""
    return {
        "n": 1,
        "temperature": temperature,
        "top_p": 1.0,
        "top_k": 0,
        "min_p": 0.0,
        "repetition_penalty": 1.0,
        "presence_penalty": 0.0,
        "frequency_penalty": 0.0,
        "max_tokens": max_tokens,
        "seed": seed,
        # our ends and no others: vLLM would add those of the base's generation config
        "ignore_eos": True,
        "stop_token_ids": sorted(end_ids),
        "logprobs": 0,
    }


def _within(trl: _Weights, requests: Sequence[Request]) -> list[Drawn]:
    """Return the responses of vLLM within this process."""
    from vllm import SamplingParams  # type: ignore[import-not-found, unused-ignore]

    outputs = trl.llm.generate(
        [{"prompt_token_ids": prompt} for prompt, _ in requests],
        sampling_params=[SamplingParams(**parameters) for _, parameters in requests],
        use_tqdm=False,
    )
    return [_drawn(list(one.outputs[0].token_ids), [_by_token(place) for place in one.outputs[0].logprobs]) for one in outputs]


def _by_token(place: Mapping[int, Any]) -> dict[int, float]:
    return {token: float(told.logprob) for token, told in place.items()}


def _of_server(trl: _Weights, requests: Sequence[Request]) -> list[Drawn]:
    """Return the responses of a server, which the first process asks for all of them; every process must ask for its own."""
    accelerator = Accelerator()
    gathered: list[Request] = gather_object(list(requests))
    told: list[list[Drawn] | None] = [None]
    if accelerator.is_main_process:
        with ThreadPoolExecutor(max_workers=CONCURRENT) as pool:
            told = [list(pool.map(lambda request: _asked(trl.vllm_client, *request), gathered))]
    found = broadcast_object_list(told, from_process=0)[0]
    counts: list[int] = gather_object([len(requests)])
    start = sum(counts[: accelerator.process_index])
    return list(found[start : start + len(requests)])


def _asked(client: Any, prompt: list[int], parameters: Mapping[str, Any]) -> Drawn:
    """Return one response: each request has a seed and a limit of its own, and one call of the client has one of each."""
    told = client.generate(prompts=[prompt], generation_kwargs=dict(parameters))
    places = zip(told["logprob_token_ids"][0], told["logprobs"][0], strict=True)
    return _drawn(list(told["completion_ids"][0]), [dict(zip(ids, figures, strict=True)) for ids, figures in places])


def _drawn(tokens: list[int], places: Sequence[Mapping[int, float]]) -> Drawn:
    return tokens, [place[token] for token, place in zip(tokens, places, strict=True)]
