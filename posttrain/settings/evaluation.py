"""How models are evaluated, and where runs are tracked."""

from typing import Annotated, Literal

from pydantic import Field

from posttrain.settings.section import BatchSize, Count, NotInKey, Positive, Section, TokenLimit, WholeNumber


class EvaluateSettings(Section):
    """Evaluation on held-out questions."""

    max_questions: WholeNumber = 0
    """Held-out questions used, at most; 0: all. One alone has no interval."""
    part: Literal["all", "development", "reported"] = "all"
    """Which held-out questions models are measured on. `development`: those on which a search chooses settings (TUNE);
    `reported`: the others, which then chose nothing. Families of nearly equal questions are parted as a whole
    (posttrain/data/parts.py)."""
    development_share: Annotated[float, Field(gt=0.0, lt=1.0)] = 0.2
    """Share of the held-out families that are for development, where the questions are parted. A fifth leaves reported intervals
    12 % wider, by 1/√0.8."""
    samples: Count = 8
    """Sampled responses a question, beside the greedy one. With 2, intervals of sampled accuracy are a quarter wider, and pass@k
    ends at k = 2. On the tiny base 8 take 2.4 times the sampling time of 2, greedy answers included."""
    temperature: Positive = 1.0
    """Of the sampled responses."""
    max_new_tokens: TokenLimit = 64
    """Response tokens, at most; the same limit holds when samples are drawn for labelling. `auto`: what 95 % of the dataset's
    completions have at most and a quarter more, 256 without completions, within the context (docs/prompts.md)."""
    batch_size: BatchSize = 512
    """Sequences generated together, at most; it decides nothing about the figures."""
    judge: Annotated[bool, NotInKey()] = False
    """The judge of `judge.*` compares held-out answers with those of the model that the method started from, pairwise and in both
    orders (docs/judges.md): a win rate where no program can check. It takes two questions to the judge for each held-out one."""
    tasks: Annotated[str, NotInKey()] = ""
    """Tasks of lm-evaluation-harness that every model is asked as well, words between spaces: `arc_easy hellaswag`, or files of
    yours, `./folder/task.yaml`. They show what a method costs elsewhere, beside the model that it started from. They need the
    extra `.[tasks]`, and the hub where a task's data lie there (docs/use.md)."""
    task_questions: Annotated[int, Field(ge=0), NotInKey()] = 0
    """Questions of each task, at most; 0: all."""


class TrackingSettings(Section):
    """Where results are written."""

    experiment: str = "posttrain"
    """MLflow experiment; runs compare within one."""
    uri: str = ""
    """MLflow server; empty: the SQLite store below `mlflow/`."""
    register_model: bool = True
    """The final model becomes a version of the registered model, and its challenger unless a better one is (docs/promotion.md).
    Trials and pilots of `make compare` turn it off."""
    model_license: str = ""
    """Of the models that are made, as the card of a version has it: an identifier of Hugging Face's list, such as `apache-2.0`;
    empty: `unknown`. Nothing here can tell which licence base and data allow."""
