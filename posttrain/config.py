"""Every setting, once: its name, default, range and where the default comes from.

The tree is frozen. `Config` goes to a flow, a section (`config.dpo`) to a task, a number to the arithmetic: down only,
one name throughout. Merged as defaults ← `params.yaml` ← command line by `merge`.
"""

import types
from collections.abc import Iterable, Mapping
from typing import Annotated, Any, Literal, Self, Union, get_args, get_origin

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from posttrain.errors import RequestError, did_you_mean

Count = Annotated[int, Field(ge=1)]
WholeNumber = Annotated[int, Field(ge=0)]
Share = Annotated[float, Field(ge=0.0, le=1.0)]
Positive = Annotated[float, Field(gt=0.0, allow_inf_nan=False)]
NotNegative = Annotated[float, Field(ge=0.0, allow_inf_nan=False)]

Method = Literal["sft", "dpo"]

STAGES: dict[Method, tuple[str, ...]] = {
    "sft": ("sft",),
    "dpo": ("sft", "sample", "label", "dpo"),
}
"""Training stages of a method, after data → tokenizer → validate → base and before evaluate → register → report."""


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
    """Share of the corpus that reviews a solution, which makes the base a zero-shot judge."""
    demonstrations: Count = 64
    """Careful demonstrations for SFT."""
    questions: Count = 1_000
    """Questions with answers but without solutions."""
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

    steps: Count = 1_000
    """Optimiser steps; 2.0 M tokens in all."""
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

    per_prompt: Annotated[int, Field(ge=2)] = 8
    """Responses a question (InstructGPT, arXiv:2203.02155, ranked 4–9)."""
    temperature: Positive = 1.0
    """1 samples from the model's own distribution."""
    batch_size: Count = 512
    """Sequences generated together, at most (1,000 were five times as quick as 3,000: docs/decisions/0003-world.md)."""


class LabelSettings(Section):
    """Who prefers what among the samples."""

    source: Literal["auto", "simulated", "dataset"] = "auto"
    """`simulated`: annotators made here, who know the right answer; `dataset`: the imported `preferences.jsonl`; `auto`: the
    dataset's preferences where it has some, else simulated."""
    annotators: Count = 5
    """Simulated annotators; pairs go round."""
    flip_rate: Annotated[float, Field(ge=0.0, lt=0.5)] = 0.05
    """Mean share of labels that a simulated annotator gets wrong (AlpacaFarm, arXiv:2305.14387, used 0.25)."""
    pairs_per_prompt: Count = 4
    """Pairs drawn from one prompt's samples, at most."""
    budget: WholeNumber = 0
    """Labels bought, at most; 0: as many as there are pairs."""
    ties: Literal["drop", "shorter"] = "drop"
    """What becomes of two equally good samples; `shorter` brings a length bias into a study on purpose."""


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
    batch_size: Count = 512
    """Sequences generated together, at most."""


class TrackingSettings(Section):
    """Where results are written."""

    experiment: str = "posttrain"
    """MLflow experiment; runs compare within one."""
    uri: str = ""
    """MLflow server; empty: the SQLite store below `mlflow/`."""


class Config(Section):
    """The whole tree."""

    method: Method = "dpo"
    """What to do after the base is there: `sft`, or SFT and then `dpo` on preferences."""
    seed: Annotated[int, Field(ge=0, le=2**32 - 1)] = 0
    """Seed of everything that training and sampling draw."""
    data: DataSettings = DataSettings()
    world: WorldSettings = WorldSettings()
    split: SplitSettings = SplitSettings()
    validation: ValidationSettings = ValidationSettings()
    model: ModelSettings = ModelSettings()
    tiny: TinySettings = TinySettings()
    pretrain: PretrainSettings = PretrainSettings()
    sft: SFTSettings = SFTSettings()
    sample: SampleSettings = SampleSettings()
    label: LabelSettings = LabelSettings()
    dpo: DPOSettings = DPOSettings()
    evaluate: EvaluateSettings = EvaluateSettings()
    tracking: TrackingSettings = TrackingSettings()


VERSIONED_BY_DVC = ("world", "split")
"""Sections that only `params.yaml` may change: DVC reads them there, so a command line would change the data unseen."""


def setting_names(section: type[BaseModel] = Config, prefix: str = "") -> list[str]:
    """Return the dotted name of every leaf of the tree, in the order of declaration."""
    names = []
    for name, field in section.model_fields.items():
        inner = field.annotation
        if isinstance(inner, type) and issubclass(inner, BaseModel):
            names += setting_names(inner, f"{prefix}{name}.")
        else:
            names.append(f"{prefix}{name}")
    return names


def flat(config: Config, *sections: str) -> dict[str, Any]:
    """Return the settings of some sections by dotted name."""
    return {f"{section}.{name}": value for section in sections for name, value in getattr(config, section).model_dump().items()}


def merge(params: Mapping[str, Any], overrides: Iterable[str] = ()) -> Config:
    """Return defaults ← `params` (a nested mapping) ← `overrides` ("dpo.beta=0.2").

    Raises:
        RequestError: a name is unknown, a value has the wrong type or is out of range, or an override has no "=".
    """
    values = dict(_leaves(params))
    for override in overrides:
        name, equals, text = override.partition("=")
        name = name.strip()
        if not equals or not name:
            raise RequestError(f"{override!r} is not a setting: write name=value, for example dpo.beta=0.2")
        if name.split(".")[0] in VERSIONED_BY_DVC and name in setting_names():
            raise RequestError(
                f"{name} decides what the data are, which DVC versions: change it in params.yaml, then run make data"
            )
        values[name] = text.strip()
    known = setting_names()
    for name in values:
        if name not in known:
            inside = [setting for setting in known if setting.startswith(f"{name}.")]
            hint = f"; {name} is a section, its settings are {', '.join(inside)}" if inside else did_you_mean(name, known)
            raise RequestError(f"there is no setting {name}{hint}{'' if hint else ' (all are listed in docs/settings.md)'}")
    tree: dict[str, Any] = {}
    for name, value in values.items():
        branch = tree
        *sections, leaf = name.split(".")
        for section in sections:
            branch = branch.setdefault(section, {})
        branch[leaf] = _plain(name, value)
    try:
        return Config.model_validate(tree)
    except ValidationError as error:
        raise RequestError("\n".join(_sentence(problem) for problem in error.errors())) from None


def _leaves(tree: Mapping[str, Any], prefix: str = "") -> Iterable[tuple[str, Any]]:
    for name, value in tree.items():
        if value is None and not prefix and _is_section(name):
            continue
        if isinstance(value, Mapping):
            yield from _leaves(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def _is_section(name: str) -> bool:
    """Return whether a top-level name is a section; one whose lines are all commented out in params.yaml reads as None."""
    return any(setting.startswith(f"{name}.") for setting in setting_names())


def _accepts(name: str, wanted: type) -> bool:
    field_owner: type[BaseModel] = Config
    *sections, leaf = name.split(".")
    for section in sections:
        field_owner = field_owner.model_fields[section].annotation  # type: ignore[assignment]
    annotation = field_owner.model_fields[leaf].annotation
    if get_origin(annotation) in (Union, types.UnionType):
        return wanted in get_args(annotation)
    return annotation is wanted


def _plain(name: str, value: Any) -> Any:
    """Return `value` as its field wants it: YAML and shells hand over "1e-5" and "none" as text, and 2 for a name."""
    if isinstance(value, str) and value.lower() in ("none", "null") and _accepts(name, types.NoneType):
        return None
    if isinstance(value, (int, float)) and not isinstance(value, bool) and _accepts(name, str):
        return str(value)
    if isinstance(value, bool) and not _accepts(name, bool):
        return str(value).lower()
    return value


_RULES = {
    "greater_than_equal": "must be at least {ge}",
    "greater_than": "must be greater than {gt}",
    "less_than_equal": "must be at most {le}",
    "less_than": "must be less than {lt}",
    "multiple_of": "must be a multiple of {multiple_of}",
    "literal_error": "must be one of {expected}",
    "int_parsing": "must be a whole number",
    "int_from_float": "must be a whole number",
    "int_type": "must be a whole number",
    "float_parsing": "must be a number",
    "float_type": "must be a number",
    "string_type": "must be text",
    "finite_number": "must be a finite number",
    "string_pattern_mismatch": "must start with a letter or digit, and go on with those, dot, underscore or hyphen",
}


def _sentence(problem: Mapping[str, Any]) -> str:
    name = ".".join(str(part) for part in problem["loc"])
    value = problem["input"]
    if problem["type"] == "value_error":
        return f"{name}: {problem['ctx']['error']}"
    rule = _RULES.get(problem["type"])
    if name == "method":
        return f"there is no method {value}{did_you_mean(str(value), STAGES)}; methods are {', '.join(STAGES)}"
    text = rule.format(**problem.get("ctx", {})) if rule else problem["msg"].lower()
    return f"{name} {text}, got {value}"
