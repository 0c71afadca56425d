"""Learning from an update's episodes: epochs of mini-batches, each an optimiser step."""

from collections.abc import Sequence
from contextlib import nullcontext

import torch
from accelerate import Accelerator
from torch import Tensor, nn

from posttrain.errors import RequestError
from posttrain.ops.device_rows import SHARED, with_rows
from posttrain.rl.collector import recomputes_logprobs
from posttrain.rl.contracts import Recomputed, check_first_ratio, explained
from posttrain.rl.estimators import Estimate, Estimator
from posttrain.rl.layout import Layout
from posttrain.rl.network import TokenFigures
from posttrain.rl.objective import FIGURES, OF_CRITIC, MiniBatch, loss_of_part
from posttrain.rl.processes import of_all
from posttrain.rl.rollout import Episodes, derived_generator
from posttrain.settings.ppo import PPOSettings
from posttrain.settings.section import tokens_of


class Learner:
    """Takes the optimiser's steps, on policy and critic each with its own learning rate and limit of the gradient.

    Args:
        network: a `posttrain.rl.network.Network`; its `parameter_groups()` are trained.
        estimator: says what the loss is.
        settings: all of them are explained there.
        accelerator: where and in how many processes.
        seed: of the order of episodes.
        layout: how processes hold the weights.

    Raises:
        RequestError: the processes cannot share a mini-batch evenly.
    """

    def __init__(
        self,
        network: nn.Module,
        *,
        estimator: Estimator,
        settings: PPOSettings,
        accelerator: Accelerator,
        seed: int,
        layout: Layout,
    ) -> None:
        if settings.mini_batch_size % accelerator.num_processes:
            raise RequestError(
                f"ppo.mini_batch_size must be a multiple of the number of processes ({accelerator.num_processes}), so that each "
                f"has as much to do, got {settings.mini_batch_size}"
            )
        self.module = network
        self.layout = layout
        # sharding makes other parameters of the weights, so the optimiser is made behind it
        self.network = layout.prepared(network, accelerator)
        self.groups: dict[str, list[nn.Parameter]] = network.parameter_groups()  # type: ignore[operator]
        self.rates = {"policy": settings.learning_rate, "critic": settings.critic_learning_rate}
        optimiser = torch.optim.AdamW(
            [{"params": weights, "lr": self.rates[name], "name": name} for name, weights in self.groups.items()],
            eps=settings.adam_epsilon,
            weight_decay=0.0,
            fused=accelerator.device.type in ("cpu", "cuda"),
        )
        self.optimiser = accelerator.prepare_optimizer(optimiser)
        self.estimator = estimator
        self.settings = settings
        self.accelerator = accelerator
        self.seed = seed

    def learn(self, update: int, episodes: Episodes, estimate: Estimate, *, kl_coef: float) -> dict[str, float]:
        """Train on an update's episodes (from 0) with β = `kl_coef`, and return metrics, means over its steps."""
        factor = rate_factor(update, self.settings)
        for group in self.optimiser.param_groups:
            group["lr"] = self.rates[group["name"]] * factor
        totals: list[Tensor] = []
        for epoch in range(self.settings.epochs):
            order = torch.randperm(len(episodes.ids), generator=derived_generator(self.seed, "mini-batches", update, epoch))
            for rows in torch.split(order, self.settings.mini_batch_size):
                totals.append(self._step(episodes, estimate, rows, kl_coef=kl_coef, is_first=not totals))
                limit = self.settings.target_kl
                if limit and totals[-1][FIGURES.index("approx_kl")] > limit:
                    return self._metrics(totals, factor)
        return self._metrics(totals, factor)

    def _metrics(self, totals: Sequence[Tensor], factor: float) -> dict[str, float]:
        means = torch.stack(list(totals)).mean(dim=0).tolist()
        left_out = frozenset() if self.estimator.has_critic else OF_CRITIC
        return {
            **{f"ppo/{name}": mean for name, mean in zip(FIGURES, means, strict=True) if name not in left_out},
            "ppo/steps": len(totals),
            "ppo/learning_rate": self.rates["policy"] * factor,
        }

    def _step(self, episodes: Episodes, estimate: Estimate, rows: Tensor, *, kl_coef: float, is_first: bool) -> Tensor:
        """Take one optimiser step on a mini-batch and return its figures in the order of `FIGURES`."""
        mini_batch = MiniBatch.of(
            estimate,
            episodes.response_length.cpu(),
            rows,
            mean_over=self.estimator.surrogate.mean_over,
            longest=tokens_of(self.settings.max_new_tokens),
        )
        mine = rows[self.accelerator.process_index :: self.accelerator.num_processes]

        def gradients(size: int) -> Tensor:
            parts = list(episodes.parts(mine, size))
            figures = torch.zeros(len(FIGURES), device=mini_batch.weight.device)
            for place, part in enumerate(parts):
                is_last = place == len(parts) - 1
                with nullcontext() if is_last else self.accelerator.no_sync(self.network):
                    loss, of_part = self._loss(episodes, mini_batch, part, kl_coef=kl_coef, is_first=is_first)
                    # gradients are averaged over processes, the weights already count all of them
                    self.accelerator.backward(loss * self.accelerator.num_processes)
                figures += of_part
            return figures

        figures = with_rows(
            "training",
            min(self.settings.device_batch_size, len(mine)),
            gradients,
            undo=self.optimiser.zero_grad,
            fixed=SHARED if self.accelerator.num_processes > 1 else "",
        )
        norm = torch.stack([self._clipped(weights).to(figures.device) for weights in self.groups.values()])
        self.optimiser.step()
        self.optimiser.zero_grad()
        figures = torch.as_tensor(self.accelerator.reduce(figures, reduction="sum"))
        figures[FIGURES.index("gradient_norm")] = norm.norm()
        return figures

    def _clipped(self, weights: Sequence[nn.Parameter]) -> Tensor:
        """Scale the gradients of some weights down to `ppo.max_grad_norm`, and return the norm that they had."""
        most = self.settings.max_grad_norm
        if self.accelerator.device.type != "cpu":
            return self.layout.whole(torch.as_tensor(self.accelerator.clip_grad_norm_(weights, most)))
        # where a comparison costs no wait for a device, gradients within the limit are not multiplied by 1
        of_part = torch.nn.utils.get_total_norm([weight.grad for weight in weights if weight.grad is not None])
        norm = self.layout.whole(of_part)
        if not norm <= most:
            torch.nn.utils.clip_grads_with_norm_(weights, most, of_part)
        return norm

    def _loss(
        self, episodes: Episodes, mini_batch: MiniBatch, rows: Tensor, *, kl_coef: float, is_first: bool
    ) -> tuple[Tensor, Tensor]:
        """Return this part's share of the mini-batch's loss, and of its figures."""
        part = episodes.rows(rows)
        mask = part.is_response
        wanted = {"logprob": True, "value": self.estimator.has_critic, "entropy_gradient": self.settings.entropy_coef > 0}
        told = self.network(
            part.ids,
            part.prompt_length,
            part.response_length,
            temperature=self.settings.temperature,
            want=frozenset(name for name, is_wanted in wanted.items() if is_wanted),
        )
        if is_first:
            # of all processes: to explain a difference is to call the network, which all do together or none
            check_first_ratio(
                of_all(told.logprob.detach() - part.logprob[mask]),
                tolerance=self.settings.ratio_tolerance,
                mean_tolerance=self._rounding if recomputes_logprobs(self.settings, self.accelerator) else 0.0,
                explain=lambda: self._explain(part, told.logprob.detach()),
            )
        return loss_of_part(
            told,
            part,
            mini_batch.rows(rows, longest=mask.shape[1]),
            surrogate=self.estimator.surrogate,
            settings=self.settings,
            kl_coef=kl_coef,
        )

    @torch.no_grad()
    def _explain(self, part: Episodes, trained: Tensor) -> str:
        def again(rows: Episodes, temperature: float) -> Tensor:
            told: TokenFigures = self.module(
                rows.ids, rows.prompt_length, rows.response_length, temperature=temperature, want=frozenset({"logprob"})
            )
            return torch.as_tensor(told.logprob)

        temperature = self.settings.temperature
        alone = [again(part.rows(torch.tensor([row])), temperature) for row in range(len(part.ids))]
        found = Recomputed(
            sampled=of_all(part.logprob[part.is_response]),
            trained=of_all(trained),
            trained_again=of_all(again(part, temperature)),
            one_by_one=of_all(torch.cat(alone)),
            at_temperature_1=of_all(again(part, 1.0)),
        )
        return explained(
            found, self.module, temperature=temperature, tolerance=self.settings.ratio_tolerance, rounding=self._rounding
        )

    @property
    def _rounding(self) -> float:
        """Nats a token that bfloat16 explains on average; 0 in float32."""
        return self.settings.sampler_tolerance if self.accelerator.mixed_precision != "no" else 0.0


def rate_factor(update: int, settings: PPOSettings) -> float:
    """Return what the learning rates are multiplied by in an update, from 0."""
    rising = settings.warmup_ratio * settings.updates
    if update + 1 < rising:
        return (update + 1) / rising
    if settings.schedule == "constant":
        return 1.0
    return (settings.updates - update) / (settings.updates - max(0.0, rising - 1))
