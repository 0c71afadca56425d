"""PPO: the loop, and what RLHF and RLAIF set differently."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from posttrain.settings.section import BatchSize, Count, NotInKey, NotNegative, Positive, Section, Share, TokenLimit


class RLHFSettings(Section):
    """PPO on feedback: what the methods `rlhf`, `rlaif` and `drlaif` have in the place of PPO's own settings of these names."""

    kl_coef: NotNegative = 0.2
    """β in units of the score's deviation. A reward model knows the responses it was trained on: with a weak β the policy leaves
    them within 20 updates, and the score rises while what it means falls (docs/decisions/0008-reward-model.md)."""
    reward_scale: Literal["none", "running"] = "running"
    """A reward model's unit is its own, so scores are divided by their standard deviation so far."""


class PPOSettings(Section):
    """Proximal policy optimisation (arXiv:1707.06347) on a reward of whole responses."""

    reward: str = "answer"
    """What scores a response: a grader (`answer`, `program`, or a JSON file as docs/graders.md has them), `model:` and a
    directory or registered model (`model:models:/name@alias`) with one score, or `python:module:function`."""
    partial_credit: Share = 0.0
    """Score of a numeric answer that was found but is wrong, under `ppo.reward=answer` (0.1 in ReFT, arXiv:2401.08967)."""
    updates: Count = 60
    """Rounds of sampling and training (docs/decisions/0007-ppo.md)."""
    episodes: Count = 256
    """Responses an update (docs/decisions/0007-ppo.md)."""
    samples_per_prompt: Count = 1
    """Responses a question within an update."""
    epochs: Count = 2
    """Passes over an update's episodes (2 in ReFT, arXiv:2401.08967)."""
    mini_batch_size: Count = 64
    """Episodes an optimiser step, over gradient accumulation and processes."""
    device_batch_size: BatchSize = 64
    """Episodes a device takes at once, at most, those of like length together; the rest of a mini-batch is accumulated
    (docs/decisions/0007-ppo.md)."""
    learning_rate: Positive = 1e-4
    """Of the policy, for the tiny base (docs/decisions/0007-ppo.md); ReFT has 3e-7 for 7 B weights, 3e-6 for 125 M."""
    critic_learning_rate: Positive = 3e-4
    """Of the critic (docs/decisions/0007-ppo.md)."""
    schedule: Literal["constant", "linear"] = "constant"
    """`linear` lets both rates fall to 0 at the last update; constant in ReFT."""
    warmup_ratio: Share = 0.0
    """Share of the updates in which the rates rise."""
    adam_epsilon: Positive = 1e-5
    """ε of Adam (1e-5 in Ziegler et al. 2019, arXiv:1909.08593: smaller ones take wild first steps)."""
    max_grad_norm: Positive = 1.0
    """Norm that gradients are clipped to, the policy's and the critic's each by itself."""
    max_new_tokens: TokenLimit = 64
    """Response tokens, at most. `auto`: as `evaluate.max_new_tokens=auto` has it."""
    engine: Literal["transformers", "bfloat16", "vllm"] = "transformers"
    """What draws the responses. `transformers`: the policy itself. `bfloat16`: a copy of it in bfloat16, which takes its weights
    before each update: quicker where such products are quick, and another distribution. `vllm`: vLLM, on a GPU, which takes them
    likewise; it was not run yet (docs/decisions/0043-engines.md)."""
    engine_memory: Annotated[float, Field(gt=0.0, lt=1.0), NotInKey()] = 0.3
    """Share of each GPU's memory that vLLM takes for its weights and cache beside the training (TRL's default)."""
    engine_url: Annotated[str, NotInKey()] = ""
    """Address of a vLLM server that draws instead, on other GPUs: http://127.0.0.1:8000. Empty: vLLM runs within the stage."""
    sampler_correction: bool = True
    """Whether tokens that another engine than the policy drew are weighted by min(p_policy / p_engine, C)
    (https://fengyao.notion.site/off-policy-rl)."""
    sampler_correction_cap: Annotated[float, Field(ge=1.0, allow_inf_nan=False)] = 3.0
    """C of those weights (TRL's default)."""
    sample_batch_size: BatchSize = 512
    """Responses drawn together, at most."""
    temperature: Positive = 1.0
    """Of the samples; the logits of policy and reference are divided by it wherever a probability is computed."""
    kl_coef: NotNegative = 0.01
    """β of the KL from the reference (0.01 for programs, 0.05 for natural language in ReFT; without any it collapsed)."""
    kl_in: Literal["reward", "loss"] = "reward"
    """`reward`: k1 of each token is subtracted from its reward (arXiv:2203.02155); `loss`: k3 is added to the loss."""
    kl_controller: Literal["fixed", "adaptive"] = "fixed"
    """`adaptive` moves β towards `kl_controller_target` (section 2.2 of arXiv:1909.08593)."""
    kl_controller_target: Positive = 6.0
    """KL of a response that the adaptive controller aims at, nats (6 in arXiv:1909.08593)."""
    kl_controller_horizon: Positive = 10_000.0
    """Episodes in which the adaptive controller moves β (10,000 in arXiv:1909.08593)."""
    clip_range: Positive = 0.2
    """ε of eq. 7 in arXiv:1707.06347."""
    value_clip_range: Positive = 0.2
    """How far a value may move in an update, in units of the reward."""
    value_coef: NotNegative = 1.0
    """Weight of the value loss; what it shares with the policy depends on `critic`. ReFT has 5 for its shared trunk."""
    critic: Literal["separate", "shared"] = "separate"
    """`separate`: a network of its own; `shared`: a linear head on the policy's last hidden state (cheaper, and weaker on the
    tiny world)."""
    critic_from: Literal["auto", "policy", "reward_model"] = "auto"
    """What a separate critic starts as: `reward_model` where `ppo.reward` is one (arXiv:2203.02155), else the `policy`."""
    gamma: Share = 1.0
    """γ of eq. 16 in arXiv:1506.02438; 1 in ReFT's code (its paper prints it and λ swapped)."""
    gae_lambda: Share = 0.95
    """λ of eq. 16 in arXiv:1506.02438."""
    whiten_advantages: bool = True
    """Advantages get mean 0 and deviation 1 over an update's response tokens."""
    mean_over: Literal["tokens", "responses"] = "tokens"
    """What a loss is a mean over; `responses` takes weight from the tokens of long ones."""
    entropy_coef: NotNegative = 0.0
    """Weight of the entropy bonus."""
    target_kl: NotNegative = 0.0
    """KL between the sampling policy and the trained one, nats a token, at which an update ends early; 0: never."""
    reward_scale: Literal["none", "running"] = "none"
    """`running` divides scores by their standard deviation so far."""
    reward_centre: Annotated[float, Field(allow_inf_nan=False)] = 0.0
    """Subtracted from every score: a reward model's mean on reference demonstrations."""
    reward_clip: Positive = 10.0
    """Largest absolute score after centring and scaling."""
    reward_seconds: Positive = 120.0
    """Time limit of the reward for one update's responses; a reward that hangs ends the run. Judges go by `judge.timeout`; a
    reward model takes the time that it needs."""
    missing_eos: Literal["keep", "subtract", "replace"] = "keep"
    """What becomes of the score of a response that was cut off: see `missing_eos_penalty`."""
    missing_eos_penalty: NotNegative = 1.0
    """Subtracted from the score, or put (negated) in its place."""
    old_logprobs: Literal["auto", "sampler", "recomputed"] = "auto"
    """Where the sampled tokens' log-probabilities come from. `auto`: from the sampler where that is the policy in float32, else
    computed again, since in bfloat16 sampling and training round differently."""
    ratio_tolerance: Positive = 1e-3
    """Nats by which training and sampling may differ on the first mini-batch; in bfloat16 rounding alone gives 0.05."""
    sampler_tolerance: Positive = 0.1
    """Nats a token by which the sampler may differ on average where old log-probabilities are computed again; `ratio_tolerance`
    where another engine draws and nothing is corrected."""
    min_finished: Share = 0.5
    """Share of the first update's responses that must end with EOS, or PPO does not start: SFT teaches to stop, PPO cannot."""
    patience: Count = 5
    """Updates over which a collapse, and the best checkpoint, are judged."""
    max_length_growth: Annotated[float, Field(gt=1.0)] = 3.0
    """Growth of the mean response length at which the run stops."""
    checkpoint_every: Count = 10
    """Updates between checkpoints, from which an interrupted run goes on."""
    samples_every: Count = 20
    """Updates between tables of sample completions."""

    @property
    def samples_itself(self) -> bool:
        """Whether the policy draws its responses itself."""
        return self.engine == "transformers"

    @model_validator(mode="after")
    def _engine_is_no_policy(self) -> Self:
        if self.old_logprobs == "sampler" and not self.samples_itself:
            raise ValueError(
                f"engine={self.engine} is another distribution than the policy, so log-probabilities are computed again. Leave "
                "old_logprobs out"
            )
        if self.engine_url and not self.engine_url.startswith(("http://", "https://")):
            raise ValueError(f"engine_url must begin with http:// or https://, got {self.engine_url}")
        if self.engine_url and self.engine != "vllm":
            raise ValueError(f"engine_url names a vLLM server, and engine={self.engine} asks none. Say ppo.engine=vllm too")
        return self

    @model_validator(mode="after")
    def _sizes_divide(self) -> Self:
        if self.episodes % self.samples_per_prompt:
            raise ValueError(
                f"episodes must be a multiple of samples_per_prompt ({self.samples_per_prompt}), got {self.episodes}"
            )
        if self.episodes % self.mini_batch_size:
            raise ValueError(f"episodes must be a multiple of mini_batch_size ({self.mini_batch_size}), got {self.episodes}")
        return self
