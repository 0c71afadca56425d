"""Profiles: defaults that fit a model's size and how it is trained. `docs/profiles.md` is made of this table.

The defaults that stand beside the settings were chosen for the tiny base of 0.15 M weights: they are the profile `tiny`. A larger
model gets the numbers below in their place. `params.yaml` and the command line go before both.

How a model learns (`LEARNING`) depends on its size and on LoRA. How much is asked of a run (`SIZES`) depends on its size and on
whether there is a GPU: on a CPU a run with a model of real size must end within the hour.
"""

from dataclasses import dataclass
from typing import Literal

Name = Literal["tiny", "small", "large"]
TINY_MODEL, SMALL_MODEL = 10_000_000, 1_000_000_000
"""Weights up to which a model is tiny, and small. Between 0.15 M, where our defaults were measured, and 125 M, the smallest
model of which papers tell their numbers, nobody has measured any: 10 M lies between them."""


@dataclass(frozen=True)
class Number:
    """What a profile sets, and where that comes from."""

    value: float | int | str
    source: str


@dataclass(frozen=True)
class Row:
    """What the profiles have for one setting; where a cell is None, the default stays.

    Attributes:
        setting: its dotted name.
        cells: of `small` and of `large`, two each. In `LEARNING`: all weights trained, LoRA. In `SIZES`: on a CPU, on a GPU.
    """

    setting: str
    cells: tuple[Number | None, Number | None, Number | None, Number | None]

    def of(self, name: Name, *, is_second: bool) -> Number | None:
        """Return the number of a profile: the second of its two cells where `is_second`."""
        return None if name == "tiny" else self.cells[2 * (name == "large") + is_second]


@dataclass(frozen=True)
class Profile:
    """The profile of a run.

    Attributes:
        name: of the size.
        is_lora: LoRA adapters are trained, not all weights.
        has_gpu: sizes are those of a GPU.
        weights: of the base, counted; 0 where they were not asked for, because the profile is named or the base is tiny.
        has_bfloat16: there is no GPU, and the processor has instructions for products in bfloat16.
        trouble: why the weights could not be counted, a sentence; then the defaults stand, and no run may start.
    """

    name: Name = "tiny"
    is_lora: bool = False
    has_gpu: bool = False
    weights: int = 0
    has_bfloat16: bool = False
    trouble: str = ""

    @property
    def title(self) -> str:
        """What it is called: "small, LoRA"."""
        return f"{self.name}, {'LoRA' if self.is_lora else 'full'}"

    @property
    def sentence(self) -> str:
        """What a run says of it; empty for the defaults."""
        if self.name == "tiny":
            return ""
        counted = f"the base has {_shown(self.weights)} weights" if self.weights else "named by model.profile"
        where = "a GPU" if self.has_gpu else "a CPU"
        return f"profile {self.title}, sizes for {where}: {counted} (make settings lists the values; docs/profiles.md)"

    def numbers(self) -> dict[str, Number]:
        """Return what it sets, by the setting's dotted name; nothing for `tiny`."""
        found = {row.setting: row.of(self.name, is_second=self.is_lora) for row in LEARNING}
        found |= {row.setting: row.of(self.name, is_second=self.has_gpu) for row in SIZES}
        if self.has_bfloat16 and self.name != "tiny":
            found["model.dtype"] = BFLOAT16
        return {name: number for name, number in found.items() if number is not None}


BFLOAT16 = Number(
    "bfloat16",
    "ours: such instructions do twice the products of float32; how much a run gains, `python -m benchmarks.sampling` says",
)
"""`model.dtype` on a CPU that has the instructions; without them bfloat16 is right and slow (docs/decisions/0034-sampling.md)."""


def name_for(weights: int) -> Name:
    """Return the profile of a model with so many weights, an embedding that is the output layer too counted once."""
    if weights <= TINY_MODEL:
        return "tiny"
    return "small" if weights <= SMALL_MODEL else "large"


def _shown(weights: int) -> str:
    return f"{weights / 1e9:.1f} B" if weights >= 1e9 else f"{weights / 1e6:.0f} M"


# --- how a model learns -------------------------------------------------------------------------------------------------


def _learning(
    setting: str,
    small: Number,
    *,
    small_lora: Number | None = None,
    large: Number | None = None,
    large_lora: Number | None = None,
) -> Row:
    """Return a row: LoRA has what full training has, and large what small has, unless it is said otherwise."""
    return Row(setting, (small, small_lora or small, large or small, large_lora or large or small_lora or small))


TRL = "TRL's default"
SMOLLM2 = "SmolLM2's recipe for 135 M and 360 M weights (alignment-handbook)"
ZEPHYR = "Zephyr-7B's recipe (alignment-handbook)"
ZEPHYR_QLORA = "Zephyr-7B's QLoRA recipe (alignment-handbook)"
REFT = "ReFT (arXiv:2401.08967)"
KTO = "KTO's authors (arXiv:2402.01306)"
WITHOUT_REGRET = "LoRA Without Regret (Thinking Machines Lab 2025)"
TEN_TIMES = f"ten times the rate of full training, {WITHOUT_REGRET}"

_SFT_EPOCHS = Number(3.0, f"{TRL}; 2 in {SMOLLM2}, 1 to 10 in {REFT}")
_SFT_RATES = {
    "small": Number(3e-4, f"{SMOLLM2} has 1e-3 at 128 rows a step: by the square root of the batch (arXiv:2205.10287) at 16"),
    "small_lora": Number(1e-3, f"{WITHOUT_REGRET}: 5e-4 · (2000 / width)^0.78, 1.3e-3 at SmolLM2's width of 576"),
    "large": Number(2e-5, f"{TRL}; {ZEPHYR}"),
    "large_lora": Number(2e-4, "QLoRA at 7 B weights (arXiv:2305.14314, table 9)"),
}

LEARNING = (
    _learning("model.context", Number(1024, f"{TRL} of max_length")),
    _learning("sft.learning_rate", **_SFT_RATES),
    _learning("sft.epochs", _SFT_EPOCHS),
    _learning("self_training.learning_rate", **_SFT_RATES),
    _learning("self_training.epochs", _SFT_EPOCHS),
    _learning(
        "dpo.learning_rate",
        Number(1e-6, f"{SMOLLM2}; {TRL}"),
        small_lora=Number(1e-5, TEN_TIMES),
        large=Number(5e-7, ZEPHYR),
        large_lora=Number(5e-6, ZEPHYR_QLORA),
    ),
    _learning("dpo.beta", Number(0.5, SMOLLM2), large=Number(0.1, f"{TRL}; 0.1 to 0.5 in arXiv:2305.18290")),
    _learning("dpo.epochs", Number(2.0, SMOLLM2), large=Number(1.0, ZEPHYR)),
    _learning("dpo.batch_size", Number(16, f"a device's share in {SMOLLM2}: 2 pairs × 8"), large=Number(16, f"{ZEPHYR}: 8 × 2")),
    _learning(
        "kto.learning_rate",
        Number(5e-6, f"{KTO}: 5e-7 to 5e-6"),
        small_lora=Number(5e-5, TEN_TIMES),
        large=Number(5e-7, f"{KTO}: 5e-7 to 5e-6"),
        large_lora=Number(5e-6, TEN_TIMES),
    ),
    _learning("kto.beta", Number(0.1, f"{KTO}; {TRL}")),
    _learning("kto.epochs", Number(1.0, KTO)),
    _learning("kto.batch_size", Number(16, f"{KTO}: 8 to 128")),
    _learning(
        "reward_model.learning_rate",
        Number(1e-4, TRL),
        small_lora=Number(1e-3, TEN_TIMES),
        large=Number(1e-5, "9e-6 at 6 B weights in InstructGPT (arXiv:2203.02155)"),
        large_lora=Number(1e-4, TEN_TIMES),
    ),
    _learning(
        "reward_model.epochs",
        Number(2.0, "ours, not measured: between the tiny base's 12 and the 1 of large models"),
        large=Number(1.0, "InstructGPT (arXiv:2203.02155), where more overfit"),
    ),
    _learning(
        "ppo.learning_rate",
        Number(3e-6, f"{REFT} at 125 M weights"),
        small_lora=Number(3e-5, TEN_TIMES),
        large=Number(3e-7, f"{REFT} at 7 B weights"),
        large_lora=Number(3e-6, TEN_TIMES),
    ),
    _learning("ppo.critic_learning_rate", Number(1e-5, "9e-6 in InstructGPT (arXiv:2203.02155)")),
    _learning("ppo.critic", Number("shared", f"{REFT}: as good as a separate one there, with half the memory")),
    _learning("ppo.value_coef", Number(5.0, f"{REFT}, for its shared trunk")),
    _learning("ppo.kl_coef", Number(0.05, f"{REFT}, for natural language")),
    _learning(
        "judge.template", Number("constitution", "ours: the default is the form of the reviews that the tiny base has read")
    ),
)

# --- how much is asked of a run -----------------------------------------------------------------------------------------


def _size(
    setting: str,
    cpu: float | str | None,
    gpu: float | str | None,
    large_cpu: float | str | None,
    large_gpu: float | str | None,
    *,
    why: str,
) -> Row:
    """Return a row of values that have one reason."""
    cells = (None if value is None else Number(value, why) for value in (cpu, gpu, large_cpu, large_gpu))
    return Row(setting, tuple(cells))  # type: ignore[arg-type]


TIME = "ours: with SmolLM2-135M the default world takes 30 to 40 minutes on two cores without AVX-512 (decision 30)"
MEMORY = "ours: what short rows take beside weights and optimiser, within 6 GB on a CPU and 24 GB on a GPU"
CACHE = "ours: keys and values of so many responses, within 1 GB on a CPU and 16 GB on a GPU"
ANSWERS = "a real tokenizer's responses are as long as its dataset's: half of GSM8K's take 85 tokens, one in ten more than 149"
PAIRS = "ours: all pairs of the four responses, since a reward model reads each response once"
STEPS = "ours: twice as many steps as the default takes of as many labels"

SIZES = (
    _size("sft.device_batch_size", 4, 8, 2, 4, why=MEMORY),
    _size("self_training.device_batch_size", 4, 8, 2, 4, why=MEMORY),
    _size("dpo.device_batch_size", 2, 8, 1, 4, why=MEMORY),
    _size("kto.device_batch_size", 4, 8, 2, 4, why=MEMORY),
    _size("reward_model.device_batch_size", 8, 32, 4, 16, why=MEMORY),
    _size("reward_model.score_batch_size", 32, 64, 8, 32, why=MEMORY),
    _size("ppo.device_batch_size", 4, 16, 2, 8, why=MEMORY),
    _size("judge.batch_size", 16, 64, 4, 32, why=MEMORY),
    _size("sample.batch_size", 64, 256, 16, 64, why=CACHE),
    _size("ppo.sample_batch_size", 64, 256, 16, 64, why=CACHE),
    _size("evaluate.batch_size", 64, 256, 16, 64, why=CACHE),
    _size("ppo.max_new_tokens", "auto", "auto", "auto", "auto", why=ANSWERS),
    _size("evaluate.max_new_tokens", "auto", "auto", "auto", "auto", why=ANSWERS),
    _size("sample.max_questions", 400, None, 60, None, why=TIME),
    _size("sample.per_prompt", 4, None, 4, None, why=f"{TIME}; 4 to 9 in InstructGPT (arXiv:2203.02155)"),
    _size("labels.pairs_per_prompt", 6, None, 6, None, why=PAIRS),
    _size("judge.max_questions", 120, None, 60, None, why=TIME),
    _size("judge.own_questions", 50, None, 25, None, why=TIME),
    _size("reward_model.equal_labels", "left_out", None, "left_out", None, why=TIME),
    _size("reward_model.batch_size", 4, None, 4, None, why=STEPS),
    _size("self_training.max_steps", 20, None, 20, None, why=TIME),
    _size("dpo.max_steps", 20, None, 20, None, why=TIME),
    _size("kto.max_steps", 20, None, 20, None, why=TIME),
    _size("ppo.updates", 10, None, 6, None, why=TIME),
    _size("ppo.episodes", 32, None, 32, None, why=TIME),
    _size("ppo.mini_batch_size", 16, None, 16, None, why=TIME),
    _size("evaluate.samples", 2, None, 2, None, why=TIME),
    _size("evaluate.max_questions", 200, None, 100, None, why=TIME),
)
