"""The base that a pipeline starts from, and how the tiny one is made."""

from typing import Annotated, Literal, Self

from pydantic import Field, PrivateAttr, model_validator

from posttrain.settings.section import Count, NotInKey, Positive, Section, WholeNumber


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
    """`tiny`; `smollm2`, a real model of 135 M weights that needs no hub; a GGUF file; a local Hugging Face
    directory; or a hub id. Weights are read from safetensors and GGUF only; code in the model's folder is never run."""
    revision: str | None = None
    """Branch, tag or commit of a hub id."""
    profile: Annotated[Literal["auto", "tiny", "small", "large"], NotInKey()] = "auto"
    """Which defaults fit the base (docs/profiles.md). `auto`: by its weights, which are counted and not loaded: `tiny` to 10 M,
    `small` to 1 B, `large` beyond."""
    context: Count = 512
    """Tokens of prompt and response together, at most; a model with a shorter context lowers it."""
    prompt_format: Literal["auto", "chat", "plain"] = "auto"
    """How a model reads a plain-text prompt. `chat`: as one user message in the base's chat template; `plain`: on a line of its
    own; `auto`: `chat` where the base's tokenizer brings a template of its own, so that an instruct model is met in the form
    that it was trained in. A prompt of messages goes through the template in any case."""
    system: str | None = None
    """Content of the system message that stands before a plain-text prompt in the chat template; none: what the template writes
    by itself. Prompts of messages bring their own."""
    dtype: Literal["auto", "float32", "bfloat16"] = "auto"
    """`auto`: bfloat16 on a GPU that has it, float32 elsewhere. bfloat16 pays on a CPU with AVX-512 BF16 or AMX only."""
    lora_rank: WholeNumber = 0
    """0 trains all weights; else the rank of LoRA adapters (arXiv:2106.09685) on every linear layer."""
    lora_alpha: Positive = 32.0
    """LoRA scale: the update is multiplied by `lora_alpha / lora_rank` (arXiv:2106.09685, section 4.1)."""
    quantization: Literal["none", "nf4"] = "none"
    """`nf4`: the frozen weights under LoRA adapters are kept in 4 bits while they are trained (QLoRA, arXiv:2305.14314), on a GPU
    and with the extra `quantization`. What is saved is whole, and everything else than training computes with whole weights."""
    gradient_checkpointing: Annotated[Literal["auto", "on", "off"], NotInKey()] = "auto"
    """Whether training keeps each block's input alone and computes the rest again in the backward pass (arXiv:1604.06174): less
    memory, a third more time, the same gradients. `auto`: on a GPU, in SFT, DPO and KTO; `on`: in every training, of policy,
    critic and reward model too."""
    processes: Annotated[Count, NotInKey()] = 1
    """Processes that train a stage together on this machine, each with a copy of the weights (DDP): on GPUs one a GPU, on a CPU
    they share its cores. Batches stay what they are, so the result is that of one process up to the order of sums."""
    sharding: Annotated[Literal["none", "fsdp", "deepspeed"], NotInKey()] = "none"
    """How several processes share weights, gradients and the optimiser's state. `none`: each has all of them (DDP); `fsdp`: each
    keeps its part and gathers a block when it computes it (PyTorch's FSDP2); `deepspeed`: the same by ZeRO-3, with the extra
    `deepspeed`. The result is that of `none` up to the order of sums."""
    _folder: str = PrivateAttr(default="")

    @model_validator(mode="after")
    def _quantized_under_adapters(self) -> Self:
        if self.quantization != "none" and not self.lora_rank:
            raise ValueError(
                f"quantization={self.quantization} keeps frozen weights in 4 bits, and without adapters none are frozen: "
                "say model.lora_rank=16 too"
            )
        return self

    @property
    def source(self) -> str:
        """What weights and tokenizer are loaded from: `base`, or the directory that a GGUF file was converted into."""
        return self._folder or self.base

    def load_from(self, folder: str) -> None:
        """Say which directory `base` was converted into. It is no setting: whoever starts a run finds it again."""
        self._folder = folder


class PretrainSettings(Section):
    """Pretraining of the tiny base."""

    steps: Count = 1_300
    """Optimiser steps; 2.7 M tokens in all (docs/decisions/0003-world.md)."""
    batch_tokens: Count = 2_048
    """Tokens a step, padding included."""
    learning_rate: Positive = 4e-3
    """Peak of a one-cycle schedule (docs/decisions/0003-world.md)."""
