"""Every setting of every section, once: its name, default, range and where the default comes from (`posttrain.settings.config`)."""

from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

Count = Annotated[int, Field(ge=1)]
WholeNumber = Annotated[int, Field(ge=0)]
Share = Annotated[float, Field(ge=0.0, le=1.0)]
Positive = Annotated[float, Field(gt=0.0, allow_inf_nan=False)]
NotNegative = Annotated[float, Field(ge=0.0, allow_inf_nan=False)]


class NotInKey:
    """Marks a setting that decides nothing about its section's results, only how soon they are there, or what follows them."""


BatchSize = Annotated[int, Field(ge=1), NotInKey()]


class Section(BaseModel):
    """A branch of the tree: frozen, no unknown names, every value checked on the way in."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)


class WorldSettings(Section):
    """The tiny language that the offline default is made of. Changed in `params.yaml` only, since DVC versions what it makes."""

    seed: WholeNumber = 0
    """Seed of every document and problem (independent of the pipeline's `seed`: data stay fixed while training varies)."""
    corpus_documents: Count = 30_000
    """Documents the base is pretrained on."""
    careful_share: Share = 0.25
    """Share of authors who read every verb right (mixture B, docs/decisions/0003-world.md)."""
    drill_share: Share = 0.25
    """Share of the corpus that is plain arithmetic."""
    review_share: Share = 0.10
    """Share of the corpus that reviews a solution, which teaches the base the words that its judge is asked in."""
    demonstrations: Count = 64
    """Careful demonstrations for SFT."""
    questions: Count = 2_000
    """Questions with answers but without solutions; half of them are sampled for, half are PPO's (`sample.question_share`)."""
    held_out: Count = 1_000
    """Held-out questions: 1,000 keep a 95 % interval within ± 3.1 points."""


class SplitSettings(Section):
    """How imported records are split. Changed in `params.yaml` only, since DVC versions the result."""

    held_out: Annotated[float, Field(gt=0.0, lt=1.0)] = 0.1
    """Share of the families that is held out."""
    most_held_out: Count = 2_000
    """Held-out records at most: beyond it intervals hardly narrow while evaluation gets dearer."""
    near_duplicate: Annotated[float, Field(gt=0.0, le=1.0)] = 0.8
    """Jaccard similarity of word 3-grams from which two prompts belong to one family (MinHash; Broder 1997)."""
    seed: WholeNumber = 0
    """Seed of the choice of families."""


class DataSettings(Section):
    """Which dataset."""

    name: str = Field(default="world", pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$")
    """Folder below `data/`: `world`, or a name given to `make import`."""


class ValidationSettings(Section):
    """When the data gate closes."""

    most_critical_share: Share = 0.01
    """Share of a file's rows with a critical finding above which the run stops; below it they are quarantined."""
    shortest_text: Count = 1
    """Characters that a prompt or completion has at least, white space not counted."""
    most_label_share: Share = 0.9
    """Share of one answer among all above which a warning says that the labels are out of balance."""


class TinySettings(Section):
    """The network made here when `model.base=tiny` (docs/decisions/0003-world.md)."""

    layers: Count = 3
    """Transformer blocks."""
    width: Annotated[int, Field(ge=8, multiple_of=8)] = 64
    """Of the hidden state; with 3 layers 0.15 M weights."""
    heads: Count = 4
    """Attention heads."""
    vocabulary: Annotated[int, Field(ge=260)] = 2_000
    """Byte-level BPE tokens, where the data is not the default world (which has its own word list)."""

    @model_validator(mode="after")
    def _heads_divide_width(self) -> Self:
        if self.width % (2 * self.heads):
            raise ValueError(f"width must be a multiple of twice heads ({2 * self.heads}), got {self.width}")
        return self


class ModelSettings(Section):
    """The base model that every method starts from."""

    base: str = "tiny"
    """`tiny`, a local Hugging Face directory, or a hub id. Safetensors only; code in the model's folder is never run."""
    revision: str | None = None
    """Branch, tag or commit of a hub id."""
    context: Count = 512
    """Tokens of prompt and response together, at most; a model with a shorter context lowers it."""
    dtype: Literal["auto", "float32", "bfloat16"] = "auto"
    """`auto`: bfloat16 on a GPU that has it, float32 elsewhere."""
    lora_rank: WholeNumber = 0
    """0 trains all weights; else the rank of LoRA adapters (arXiv:2106.09685) on every linear layer."""
    lora_alpha: Positive = 32.0
    """LoRA scale: the update is multiplied by `lora_alpha / lora_rank` (arXiv:2106.09685, section 4.1)."""


class PretrainSettings(Section):
    """Pretraining of the tiny base."""

    steps: Count = 1_300
    """Optimiser steps; 2.7 M tokens in all (docs/decisions/0003-world.md)."""
    batch_tokens: Count = 2_048
    """Tokens a step, padding included."""
    learning_rate: Positive = 4e-3
    """Peak of a one-cycle schedule (docs/decisions/0003-world.md)."""


class SFTSettings(Section):
    """Supervised fine-tuning on demonstrations, loss on the completion only."""

    epochs: Positive = 10.0
    """Passes over the demonstrations (docs/decisions/0003-world.md); 1–10 in ReFT (arXiv:2401.08967)."""
    batch_size: Count = 16
    """Demonstrations a step, over gradient accumulation and devices."""
    learning_rate: Positive = 3e-4
    """Peak, for the tiny base (docs/decisions/0003-world.md); about 1e-5 suits models of billions of weights."""
    warmup: Share = 0.1
    """Share of the steps in which the learning rate rises; it falls linearly afterwards."""
    most_steps: Count = 400
    """Optimiser steps at most, so that large data stay a matter of minutes on a laptop; raise it where there is a GPU."""
    device_batch_size: Count = 64
    """Rows a device takes at once, at most; the rest of a batch is accumulated."""


class SampleSettings(Section):
    """Completions drawn from the SFT model, to be labelled."""

    question_share: Share = 0.5
    """Share of the training questions that responses are sampled and labelled for. PPO asks the others, under every method, so
    that methods differ in their reward and not in their questions; InstructGPT keeps prompts for each step apart
    (arXiv:2203.02155), as AlpacaFarm does (arXiv:2305.14387). Where a dataset brings labels of its own nothing is sampled, and
    PPO asks all questions that the reward model did not learn from. 0 leaves all to PPO, for a method that needs no labels."""
    per_prompt: Annotated[int, Field(ge=2)] = 8
    """Responses a question (InstructGPT, arXiv:2203.02155, ranked 4–9)."""
    temperature: Positive = 1.0
    """1 samples from the model's own distribution."""
    batch_size: BatchSize = 512
    """Sequences generated together, at most (1,000 were five times as quick as 3,000: docs/decisions/0003-world.md). It decides
    nothing about the samples."""


class LabelSettings(Section):
    """Who prefers what among the samples (docs/feedback.md)."""

    source: Literal["auto", "simulated", "dataset", "judge", "file"] = "auto"
    """`simulated`: annotators made here, who know the right answer; `dataset`: the imported preferences, ratings and rankings;
    `judge`: a model (`judge.*`); `file`: a store of labels that people filled; `auto`: the judge under `rlaif`, else the
    dataset's feedback where it has some, else simulated."""
    file: str = ""
    """Store of labels, JSON lines as docs/feedback.md has them, learnt from where `labels.source=file`. Under a judge it is what
    people say of the same pairs, which the report holds beside what the judge says; nothing is trained on it then."""
    annotators: Count = 5
    """Simulated annotators; pairs go round."""
    flip_rate: Annotated[float, Field(ge=0.0, lt=0.5)] = 0.05
    """Mean share of labels that a simulated annotator gets wrong (AlpacaFarm, arXiv:2305.14387, used 0.25)."""
    pairs_per_prompt: Count = 4
    """Pairs drawn from one prompt's samples, at most."""
    overlap: Share = 0.1
    """Share of the pairs that a second simulated annotator labels too, so that their agreement is known; paid for as any."""
    budget: WholeNumber = 0
    """Labels bought, at most; 0: as many as there are pairs."""
    pairs: Literal["random", "decided"] = "random"
    """Which pairs of samples are labelled, whoever labels them: `random`, any two different responses; `decided`, those of which
    one is better. That takes the right answers, which no team that needs labels has: an option for studies."""
    ties: Literal["equal", "forced", "shorter"] = "equal"
    """What simulated annotators say of two equally good samples: `equal`, that they are; `forced`, one of them by the toss of a
    coin; `shorter`, the shorter, which brings a length bias into a study on purpose."""


class RewardModelSettings(Section):
    """A network with one score, trained on labels so that the preferred response scores higher (Bradley and Terry 1952)."""

    train_share: Annotated[float, Field(gt=0.0, lt=1.0)] = 0.8
    """Share of the labelled prompts that it learns from. The others measure it."""
    epochs: Positive = 12.0
    """Passes over the labels, for the tiny base (docs/decisions/0008-reward-model.md); more than one overfit a large model
    (arXiv:2203.02155)."""
    batch_size: Count = 8
    """Prompts a step; all labels of a prompt stay in one batch (arXiv:2203.02155)."""
    learning_rate: Positive = 2e-3
    """Peak, for the tiny base (docs/decisions/0008-reward-model.md); about 1e-5 suits models of billions of weights."""
    adam_beta2: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.95
    """β₂ of AdamW: 0.999 averages over more steps than there are (docs/decisions/0008-reward-model.md)."""
    warmup: Share = 0.1
    """Share of the steps in which the learning rate rises; it falls linearly afterwards."""
    most_steps: Count = 800
    """Optimiser steps at most, so that large data stay a matter of minutes on a laptop; raise it where there is a GPU."""
    device_batch_size: Count = 128
    """Responses a device takes at once, at most, though never less than those of one prompt; the rest of a batch is
    accumulated."""
    token_weight: NotNegative = 1.0
    """Weight of a second loss, on the mean score of the tokens from the first in which two responses differ: it says where one
    goes wrong, so the score at the end is learnt from fewer labels (docs/decisions/0008-reward-model.md). What scores a response
    is the last token alone."""
    mean_over: Literal["prompts", "labels"] = "prompts"
    """What the loss of a step is a mean over: `prompts`, each with the mean over its own labels, 1 / (K choose 2) in eq. 1 of
    arXiv:2203.02155; `labels`, so that a prompt counts as much as it has labels."""
    margin_weight: NotNegative = 0.0
    """Difference of scores asked for in a unit of a label's margin (eq. 2 of arXiv:2307.09288, with margins of at most 1 or 3);
    0: none, as each annotator has an own unit, and margins make scores surer than the labels are."""
    ensemble: Count = 1
    """Reward models trained on one set of labels from different seeds; their mean is the reward (arXiv:2310.02743)."""
    least_of_agreement: Share = 0.4
    """Share of what annotators agree beyond chance that its accuracy beyond chance must reach, before PPO may use it."""
    most_calibration_error: Share = 0.2
    """Expected calibration error on held-out pairs (arXiv:1706.04599), at most."""
    most_length_correlation: Share = 0.8
    """Correlation of score and length among the responses to a prompt, at most, either way."""
    score_batch: Count = 256
    """Responses scored together, at most."""


class JudgeSettings(Section):
    """An AI judge: a language model that is asked which response is better, or how good one is (docs/feedback.md)."""

    kind: Literal["local", "openai"] = "local"
    """`local`: a model loaded here; `openai`: a server that speaks OpenAI's chat completions."""
    model: str = "base"
    """`base`: the pipeline's own base, on the tiny world after `judge.practice`; a directory or hub id; or, under `openai`, the
    name that the server knows."""
    base_url: str = ""
    """Of the server, such as http://127.0.0.1:8000/v1; empty: the `openai` client's own."""
    key_variable: str = ""
    """Environment variable that holds the key; it is never logged. Empty: OPENAI_API_KEY for OpenAI's own server, and no key for
    any other."""
    must_be_listed: bool = True
    """A server's list of models, where it has one, must hold `judge.model`. False for a server that answers to names beyond its
    list (deployments, suffixes): one small question then tells whether it does."""
    misread_verbs: str = ""
    """Verbs of the tiny world that every reviewer misreads whom the default judge learns from, with commas between them: a
    prejudice, which no number of its labels mends. Empty: none."""
    slip_share: Annotated[float, Field(ge=0.0, lt=0.5)] = 0.1
    """Share of those reviewers' verdicts that say the opposite of what they think."""
    practice: WholeNumber = 600
    """Steps that the tiny base of the world `world` practises on simulated reviews before it is the judge `base`; 0: it judges as
    it is, which is no better than chance (docs/judges.md). No other judge practises."""
    form: Literal["pairwise", "pointwise"] = "pointwise"
    """`pairwise`: which of two is better; `pointwise`: each from 1 to 10, compared afterwards (arXiv:2309.00267). On the tiny
    world pointwise labels lie further from 0.5 and take fewer questions (docs/judges.md)."""
    template: str = "review"
    """Prompt: a name in `data/judges/`, or a file of that form, with the principles to judge by."""
    reasoning: bool = False
    """The judge thinks aloud before it answers (arXiv:2309.00267: helps a little)."""
    samples: Count = 8
    """Answers counted where the server tells no probabilities."""
    max_tokens: Count = 256
    """Tokens of the reasoning, at most."""
    batch_size: Count = 256
    """Questions to a local judge at once, at most."""
    concurrency: Count = 4
    """Questions to a server at once, at most."""
    requests_per_minute: WholeNumber = 0
    """To a server, at most; 0: no limit."""
    timeout: Positive = 60.0
    """Seconds that a server may take to answer once, from the connection to the last byte."""
    retries: WholeNumber = 6
    """Further attempts after no answer, 429 or 5xx, each after a longer pause."""
    budget: WholeNumber = 0
    """Replies asked for, at most; what is in the cache is free; 0: no limit."""
    own_questions: WholeNumber = 300
    """Training questions that the judge's model answers itself, so that the audit can tell whether it prefers its own responses
    (arXiv:2404.13076). 300 keep a share's 95 % interval within ± 6 points; 0: none, nor where `judge.budget` is set."""
    price_prompt: NotNegative = 0.0
    """Of a million prompt tokens, in any currency; counted as `cost/judge`."""
    price_completion: NotNegative = 0.0
    """Of a million completion tokens."""
    most_flips: Share = 0.9
    """Share of pairs whose winner is another when the order is swapped, at most (0.18 for a large judge, 0.56 for a small
    one: arXiv:2309.00267). A judge beyond it looks at the place and not at the text, and its labels are refused."""
    least_conviction: Share = 0.01
    """Mean distance of its labels from 0.5, at least."""
    most_unreadable: Share = 0.1
    """Share of its replies that may be none of the options."""


class RLHFSettings(Section):
    """PPO on feedback: what the methods `rlhf` and `rlaif` have in the place of PPO's own settings of these names."""

    kl_coef: NotNegative = 0.2
    """β in units of the score's deviation. A reward model knows the responses it was trained on: with a weak β the policy leaves
    them within 20 updates, and the score rises while what it means falls (docs/decisions/0008-reward-model.md)."""
    reward_scale: Literal["none", "running"] = "running"
    """A reward model's unit is its own, so scores are divided by their standard deviation so far."""


class RLAIFSettings(Section):
    """Learning from AI feedback."""

    direct: bool = False
    """The judge scores each rollout itself, 1 to 10 (d-RLAIF, arXiv:2309.00267), and there is no reward model."""


class DPOSettings(Section):
    """Direct preference optimisation (arXiv:2305.18290)."""

    beta: Positive = 0.2
    """β of eq. 7; 0.1–0.5 in the paper."""
    learning_rate: Positive = 3e-4
    """For the tiny base (docs/decisions/0003-world.md); the paper has 1e-6 for models of billions of weights."""
    epochs: Positive = 2.0
    """Passes over the pairs (docs/decisions/0003-world.md)."""
    batch_size: Count = 64
    """Pairs a step, over gradient accumulation and devices (64 in the paper)."""
    nll_weight: NotNegative = 1.0
    """Weight of the chosen completion's negative log-likelihood beside the DPO loss (RPO, arXiv:2404.19733)."""
    label_smoothing: Annotated[float, Field(ge=0.0, lt=0.5)] = 0.0
    """Assumed share of flipped labels; above 0 the loss is robust DPO's (arXiv:2403.00409)."""
    warmup: Share = 0.1
    """Share of the steps in which the learning rate rises; it falls linearly afterwards."""
    most_steps: Count = 400
    """Optimiser steps at most, so that large data stay a matter of minutes on a laptop; raise it where there is a GPU."""
    device_batch_size: Count = 64
    """Pairs a device takes at once, at most."""


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
    mini_batch: Count = 64
    """Episodes an optimiser step, over gradient accumulation and processes."""
    device_batch_size: Count = 64
    """Episodes a device takes at once, at most, those of like length together; the rest of a mini-batch is accumulated
    (docs/decisions/0007-ppo.md)."""
    learning_rate: Positive = 1e-4
    """Of the policy, for the tiny base (docs/decisions/0007-ppo.md); ReFT has 3e-7 for 7 B weights, 3e-6 for 125 M."""
    critic_learning_rate: Positive = 3e-4
    """Of the critic (docs/decisions/0007-ppo.md)."""
    schedule: Literal["constant", "linear"] = "constant"
    """`linear` lets both rates fall to 0 at the last update; constant in ReFT."""
    warmup: Share = 0.0
    """Share of the updates in which the rates rise."""
    adam_epsilon: Positive = 1e-5
    """ε of Adam (1e-5 in Ziegler et al. 2019, arXiv:1909.08593: smaller ones take wild first steps)."""
    most_gradient: Positive = 1.0
    """Norm that gradients are clipped to, the policy's and the critic's each by itself."""
    max_new_tokens: Count = 64
    """Response tokens, at most."""
    sample_batch: Count = 512
    """Responses drawn together, at most."""
    temperature: Positive = 1.0
    """Of the samples; the logits of policy and reference are divided by it wherever a probability is computed."""
    kl_coef: NotNegative = 0.01
    """β of the KL from the reference (0.01 for programs, 0.05 for natural language in ReFT; without any it collapsed)."""
    kl_in: Literal["reward", "loss"] = "reward"
    """`reward`: k1 of each token is subtracted from its reward (arXiv:2203.02155); `loss`: k3 is added to the loss."""
    kl_controller: Literal["fixed", "adaptive"] = "fixed"
    """`adaptive` moves β towards `kl_target` (section 2.2 of arXiv:1909.08593)."""
    kl_target: Positive = 6.0
    """KL of a response that the adaptive controller aims at, nats (6 in arXiv:1909.08593)."""
    kl_horizon: Positive = 10_000.0
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
    discount: Share = 1.0
    """γ of eq. 16 in arXiv:1506.02438; 1 in ReFT's code (its paper prints it and λ swapped)."""
    gae_lambda: Share = 0.95
    """λ of eq. 16 in arXiv:1506.02438."""
    whiten_advantages: bool = True
    """Advantages get mean 0 and deviation 1 over an update's response tokens."""
    mean_over: Literal["tokens", "responses"] = "tokens"
    """What a loss is a mean over; `responses` takes weight from the tokens of long ones."""
    entropy_coef: NotNegative = 0.0
    """Weight of the entropy bonus."""
    most_step_kl: NotNegative = 0.0
    """KL between the sampling policy and the trained one, nats a token, at which an update ends early; 0: never."""
    reward_scale: Literal["none", "running"] = "none"
    """`running` divides scores by their standard deviation so far."""
    reward_centre: Annotated[float, Field(allow_inf_nan=False)] = 0.0
    """Subtracted from every score: a reward model's mean on reference demonstrations."""
    reward_clip: Positive = 10.0
    """Largest absolute score after centring and scaling."""
    reward_seconds: Positive = 120.0
    """Time limit of the reward for one update's responses; a reward that hangs ends the run. Judges go by `judge.timeout`."""
    missing_eos: Literal["keep", "subtract", "replace"] = "keep"
    """What becomes of the score of a response that was cut off: see `missing_eos_penalty`."""
    missing_eos_penalty: NotNegative = 1.0
    """Subtracted from the score, or put (negated) in its place."""
    old_logprobs: Literal["auto", "sampler", "recomputed"] = "auto"
    """Where the sampled tokens' log-probabilities come from. `auto`: from the sampler in float32, else computed again, since
    in bfloat16 sampling and training round differently."""
    ratio_tolerance: Positive = 1e-3
    """Nats by which training and sampling may differ on the first mini-batch; in bfloat16 rounding alone gives 0.05."""
    sampler_tolerance: Positive = 0.1
    """Nats a token by which the sampler may differ on average where old log-probabilities are computed again."""
    least_finished: Share = 0.5
    """Share of the first update's responses that must end with EOS, or PPO does not start: SFT teaches to stop, PPO cannot."""
    patience: Count = 5
    """Updates over which a collapse, and the best checkpoint, are judged."""
    longest_growth: Annotated[float, Field(gt=1.0)] = 3.0
    """Growth of the mean response length at which the run stops."""
    checkpoint_every: Count = 10
    """Updates between checkpoints, from which an interrupted run goes on."""
    samples_every: Count = 20
    """Updates between tables of sample completions."""

    @model_validator(mode="after")
    def _sizes_divide(self) -> Self:
        if self.episodes % self.samples_per_prompt:
            raise ValueError(
                f"episodes must be a multiple of samples_per_prompt ({self.samples_per_prompt}), got {self.episodes}"
            )
        if self.episodes % self.mini_batch:
            raise ValueError(f"episodes must be a multiple of mini_batch ({self.mini_batch}), got {self.episodes}")
        return self


class EvaluateSettings(Section):
    """Evaluation on held-out questions."""

    most_questions: WholeNumber = 0
    """Held-out questions used, at most; 0: all. One alone has no interval."""
    samples: Count = 2
    """Sampled responses a question, beside the greedy one."""
    temperature: Positive = 1.0
    """Of the sampled responses."""
    max_new_tokens: Count = 64
    """Response tokens, at most; the same limit holds when samples are drawn for labelling."""
    batch_size: BatchSize = 512
    """Sequences generated together, at most; it decides nothing about the figures."""
    judge: Annotated[bool, NotInKey()] = False
    """The judge of `judge.*` compares held-out answers with those of the model that the method started from, pairwise and in both
    orders (docs/judges.md): a win rate where no program can check. It takes two questions to the judge for each held-out one."""


class TrackingSettings(Section):
    """Where results are written."""

    experiment: str = "posttrain"
    """MLflow experiment; runs compare within one."""
    uri: str = ""
    """MLflow server; empty: the SQLite store below `mlflow/`."""
