"""The facts of a situation: what the data hold, how large the base is, what the machine has, what the settings name."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from math import ceil

from posttrain.graders.answer import final_answers
from posttrain.graders.choices import reference_choice
from posttrain.graders.numbers import number_in
from posttrain.methods import Method

KINDS = ("number", "choice", "text")
"""What a final answer can be."""
LONG_ANSWER = 5
"""Words above which an answer that is no number is prose: a program that compares it word for word tells little."""


def kind_of_answer(answer: str) -> str:
    """Return what a final answer is: `number`, `choice` (a letter of several options) or `text`."""
    final = final_answers((answer,))[0]
    if number_in(final) is not None:
        return "number"
    return "choice" if reference_choice(final) else "text"


def percentile(values: list[int], share: float) -> int:
    """Return the smallest of the values that at least `share` of them do not exceed; 0 where there are none."""
    return sorted(values)[max(1, ceil(share * len(values))) - 1] if values else 0


@dataclass(frozen=True)
class Base:
    """The base model, as its configuration has it; no weights are loaded for it.

    Attributes:
        name: as `model.base` has it.
        is_tiny: it is made here, and no pretrained language model.
        weights: how many, an embedding that is the output layer too counted once.
        adapter_width: inputs and outputs of its linear layers, added: a LoRA adapter of rank r has r times as many weights.
        layers: transformer blocks.
        width: of the hidden state.
        cache_width: numbers that one token leaves in a layer's cache, keys and values together.
        vocabulary: rows of its output layer.
        context: tokens of prompt and response together, at most, in a pipeline.
    """

    name: str = "tiny"
    is_tiny: bool = True
    weights: int = 150_000
    adapter_width: int = 3_000
    layers: int = 3
    width: int = 64
    cache_width: int = 128
    vocabulary: int = 300
    context: int = 512


@dataclass(frozen=True)
class Machine:
    """Where training would run.

    Attributes:
        has_gpu: whether there is one that can be used.
        memory: bytes of the GPU, or of the machine where there is none.
        weight_bytes: bytes of a weight that is not trained: 2 in bfloat16, 4 in float32.
        process: bytes that a process takes of that memory beside its tensors.
    """

    has_gpu: bool = False
    memory: int = 16 * 2**30
    weight_bytes: int = 4
    process: int = 0


@dataclass(frozen=True)
class Asked:
    """What the settings ask for, as far as a rule reads it.

    Attributes:
        reward: `ppo.reward`.
        is_graded: that reward is a program which checks a response against the question's answers.
        partial_credit: `ppo.partial_credit`.
        judge: the judge's name; "base" where none is named, so that the base would judge itself.
        is_practised: the judge is the tiny base after practice on simulated reviews.
        max_questions: `evaluate.max_questions`; 0: all.
        max_new_tokens: `evaluate.max_new_tokens`.
        lora_rank: `model.lora_rank`; 0: all weights are trained.
        is_quantized: the weights under adapters are in 4 bits while they are trained (`model.quantization`).
        has_shared_critic: `ppo.critic` is `shared`.
        has_sampling_copy: a copy of the policy in bfloat16 draws its responses (`ppo.engine`).
        reward_models: networks of the reward model.
        device_rows: by stage, sequences that a device takes at once.
        drawn_rows: responses that evaluation and sampling draw at once, at most.
        rollout_rows: the same of PPO's loop.
        is_checkpointed: activations are computed again in the backward pass.
        checkpoints_itself: SFT, DPO and KTO do so where there is a GPU (`model.gradient_checkpointing=auto`).
        processes: that train a stage together (`model.processes`).
        is_sharded: each of them holds a part of the trained networks and the reference, and not all (`model.sharding`).
        engine_share: of a GPU's memory, what vLLM takes for itself beside training (`ppo.engine_memory`); 0: it is not there.
        draws_elsewhere: a server draws the responses (`ppo.engine_url`).
    """

    reward: str = "answer"
    is_graded: bool = True
    partial_credit: float = 0.0
    judge: str = "base"
    is_practised: bool = False
    max_questions: int = 0
    max_new_tokens: int = 64
    lora_rank: int = 0
    is_quantized: bool = False
    has_shared_critic: bool = False
    has_sampling_copy: bool = False
    reward_models: int = 1
    device_rows: Mapping[str, int] = field(default_factory=dict)
    drawn_rows: int = 0
    rollout_rows: int = 0
    is_checkpointed: bool = False
    checkpoints_itself: bool = False
    processes: int = 1
    is_sharded: bool = False
    engine_share: float = 0.0
    draws_elsewhere: bool = False

    @property
    def names_judge(self) -> bool:
        """Whether a judge is named that is not the base itself."""
        return self.judge != "base"


@dataclass(frozen=True)
class Situation:
    """Everything that a rule may ask.

    Attributes:
        dataset: its name.
        demonstrations: prompts with a completion to imitate.
        questions: training prompts.
        answered: of them, those with an answer to check against.
        kinds: of the answered questions, how many have a first answer of each of `KINDS`.
        long_answers: of the answered questions, how many have prose for an answer (more than `LONG_ANSWER` words).
        held_out: questions for evaluation.
        held_out_answered: of them, those with an answer.
        pairs: imported preferences.
        ratings: imported ones.
        rankings: imported ones.
        labels: pairs that the imported feedback makes, of all three kinds.
        annotators: who gave it.
        shared_pairs: of the labelled pairs, those that two annotators or more judged.
        alpha: Krippendorff's α of the annotators; None where no pair has two.
        prompt_tokens: of 95 % of the training prompts, at most.
        response_tokens: mean of the completions to learn from; 0 where there are none.
        long_response_tokens: of 95 % of those completions, at most.
        beyond_limit: share of those completions that are longer than `evaluate.max_new_tokens`.
        shortest_shot: tokens of the shortest demonstration, prompt and completion.
        longest_question: tokens of the longest held-out prompt.
        near_duplicates: share of the training questions that nearly equal an earlier one.
        labels_from: by method that is labelled, who would label: `simulated`, `dataset`, `judge` or `people`.
        refused: by method, why its settings are refused before the data are looked at; absent where they are not.
        asked: what the settings ask for.
        base: the base model.
        machine: where training would run.
    """

    dataset: str = "mine"
    demonstrations: int = 0
    questions: int = 0
    answered: int = 0
    kinds: Mapping[str, int] = field(default_factory=dict)
    long_answers: int = 0
    held_out: int = 0
    held_out_answered: int = 0
    pairs: int = 0
    ratings: int = 0
    rankings: int = 0
    labels: int = 0
    annotators: int = 0
    shared_pairs: int = 0
    alpha: float | None = None
    prompt_tokens: int = 0
    response_tokens: float = 0.0
    long_response_tokens: int = 0
    beyond_limit: float = 0.0
    shortest_shot: int = 0
    longest_question: int = 0
    near_duplicates: float = 0.0
    labels_from: Mapping[str, str] = field(default_factory=dict)
    refused: Mapping[str, str] = field(default_factory=dict)
    asked: Asked = Asked()
    base: Base = Base()
    machine: Machine = Machine()

    @property
    def feedback(self) -> int:
        """Rows of imported feedback, of whatever kind."""
        return self.pairs + self.ratings + self.rankings

    @property
    def choices(self) -> int:
        """Answered questions whose answer is a letter of several options."""
        return self.kinds.get("choice", 0)

    @property
    def limit_needed(self) -> int:
        """Tokens that a response may have so that 95 % of those to learn from fit, EOS included."""
        return self.long_response_tokens + 1

    @property
    def measured(self) -> int:
        """Held-out questions that an evaluation asks."""
        return min(self.held_out, self.asked.max_questions or self.held_out)

    @property
    def sequence_tokens(self) -> int:
        """Tokens of prompt and response of 95 % of the training rows, at most; never more than the context."""
        response = self.long_response_tokens or self.asked.max_new_tokens
        return min(self.base.context, self.prompt_tokens + response)

    @property
    def drawn_tokens(self) -> int:
        """Tokens of the responses of 95 % of the training rows, at most, as `sequence_tokens` counts them."""
        return min(self.sequence_tokens, self.long_response_tokens or self.asked.max_new_tokens)

    def labels_by(self, method: Method) -> str:
        """Return who would label for a method: `simulated`, `dataset`, `judge` or `people`; "" for nobody."""
        return self.labels_from.get(method.name, "")
