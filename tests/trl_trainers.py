"""TRL's own trainers and our loop's step on the same tensors: responses, rewards and log-probabilities of three policies."""

from dataclasses import dataclass, replace
from typing import Any

import torch
from datasets import Dataset

from models.tokenizers import world_tokenizer
from posttrain.ops.losses import kl_k1
from posttrain.ops.masks import is_response
from posttrain.rl.estimators import Estimate, Estimator, Rollout
from posttrain.rl.network import TokenFigures
from posttrain.rl.objective import FIGURES, MiniBatch, loss_of_part
from posttrain.rl.rewards import token_rewards
from posttrain.rl.rollout import Sampled, joined
from posttrain.settings.ppo import PPOSettings
from tests.tiny_ppo import EOS, PAD, llama

GROUP, LONGEST = 4, 6
PROMPTS = ["a b", "c d e", "f"]
RESPONSES = [
    *([3, 4, EOS], [5, 6, 7, 8, EOS], [9, EOS], [10, 3, 11, 12, 4, 5]),
    *([7, EOS], [8, 9, 10, EOS], [3, 3, EOS], [11, 12, EOS]),
    *([4, EOS], [5, 6, 3, 9, 11, 12], [6, 7, 8, EOS], [13, EOS]),
]
"""Token ids, four to a prompt; two are cut off at `LONGEST`."""
REWARDS = [0.0, 1.0, 0.25, -2.0, 1.0, 1.0, 1.0, 1.0, 3.0, -1.0, 0.5, 7.0]
"""Those of the second group are equal."""


def logprobs() -> dict[str, torch.Tensor]:
    """Return log-probabilities under the sampling policy, the trained one and the reference, (responses, LONGEST).

    They lie so far apart that ratios are clipped on both sides, of tokens and of whole responses.
    """
    draw = torch.Generator().manual_seed(3)
    shape = len(RESPONSES), LONGEST
    old = -3 * torch.rand(shape, generator=draw)
    new, reference = (old + spread * torch.randn(shape, generator=draw) for spread in (0.15, 0.4))
    return {"old": old, "new": new, "reference": reference}


@dataclass
class Step:
    """Advantages, (responses, LONGEST), and the loss of a step with its gradient by each log-probability; 0 on padding.

    Attributes:
        metrics: what is told beside it.
    """

    advantage: torch.Tensor
    loss: float
    gradient: torch.Tensor
    metrics: dict[str, float]


def theirs(trainer: type, config: type, folder: Any, **changes: Any) -> Step:
    """Return what TRL's `_generate_and_score_completions` and `_compute_loss` make of the tensors."""
    tokenizer = world_tokenizer(["a b c d e f g h i j k l m"])
    # TRL loads policy and reference by name; what they say is put in below
    llama().save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    settings = config(
        output_dir=str(folder),
        use_cpu=True,
        bf16=False,
        report_to=[],
        model_init_kwargs={"dtype": "float32"},
        gradient_checkpointing=None,
        num_generations=GROUP,
        per_device_train_batch_size=len(RESPONSES),
        num_iterations=2,  # so that old log-probabilities are kept
        max_completion_length=LONGEST,
        **changes,
    )
    made = trainer(
        model=str(folder),
        reward_funcs=lambda prompts, completions, **_: REWARDS,
        args=settings,
        train_dataset=Dataset.from_dict({"prompt": PROMPTS}),
        processing_class=tokenizer,
    )
    made.model.train()
    made.current_gradient_accumulation_steps = 1  # as transformers' loop sets it
    fixed = logprobs()
    new = fixed["new"].requires_grad_()

    def figures(model: Any, *_: Any, **__: Any) -> tuple[torch.Tensor, torch.Tensor, None]:
        is_training = torch.is_grad_enabled()
        said = fixed["reference"] if model is made.ref_model else new if is_training else fixed["old"]
        return said, torch.zeros_like(said), None

    made._generate_single_turn = lambda *_, **__: (RESPONSES, None) if trainer.__name__ == "GRPOTrainer" else RESPONSES
    made._get_per_token_logps_and_entropies = figures
    batch = made._generate_and_score_completions([{"prompt": prompt} for prompt in PROMPTS for _ in range(GROUP)])
    loss = made._compute_loss(made.model, batch)
    loss.backward()
    return Step(
        advantage=batch["advantages"][:, None] * batch["completion_mask"],
        loss=loss.item(),
        gradient=new.grad,
        metrics={name: values[-1] for name, values in made._metrics["train"].items()},
    )


def ours(estimator: Estimator) -> Step:
    """Return what an estimator of ours and the loss of a mini-batch of all responses make of the tensors."""
    lengths = torch.tensor([len(response) for response in RESPONSES])
    mask = is_response(lengths)
    fixed = {name: figure.masked_fill(~mask, 0.0) for name, figure in logprobs().items()}
    sampled = Sampled(RESPONSES, [torch.zeros(len(one)) for one in RESPONSES], [one[-1] == EOS for one in RESPONSES])
    bare = joined([[3]] * len(RESPONSES), sampled, pad_id=PAD, device=torch.device("cpu"))
    episodes = replace(bare, logprob=fixed["old"], reference_logprob=fixed["reference"], score=torch.tensor(REWARDS))
    surrogate = estimator.surrogate
    reward = token_rewards(episodes.score, lengths, longest=LONGEST)
    if surrogate.kl_in == "reward":
        reward = reward - surrogate.kl_coef * kl_k1(episodes.logprob, episodes.reference_logprob)
    estimate: Estimate = estimator.estimate(
        Rollout(episodes.score, reward, episodes.value, is_response=mask, num_generations=estimator.num_generations)
    )
    new = fixed["new"].requires_grad_()
    loss, figures = loss_of_part(
        TokenFigures(logprob=new[mask], value=None, entropy=torch.zeros(int(mask.sum()))),
        episodes,
        MiniBatch.of(estimate, lengths, torch.arange(len(lengths)), mean_over=surrogate.mean_over, longest=LONGEST),
        surrogate=surrogate,
        settings=PPOSettings(),
        kl_coef=surrogate.kl_coef,
    )
    loss.backward()
    metrics = {**estimate.metrics, **dict(zip(FIGURES, figures.tolist(), strict=True))}
    return Step(advantage=estimate.advantage, loss=loss.item(), gradient=new.grad, metrics=metrics)


def assert_one_step(mine: Step, wanted: Step) -> None:
    """Hold one to the other within 1e-6, and see that the tolerance can fail."""
    torch.testing.assert_close(mine.advantage, wanted.advantage, atol=1e-6, rtol=0)
    torch.testing.assert_close(mine.gradient, wanted.gradient, atol=1e-6, rtol=0)
    assert abs(mine.loss - wanted.loss) < 1e-6 < abs(mine.loss)
    assert mine.gradient.abs().max() > 1e-2 and mine.advantage.abs().max() > 0.5
