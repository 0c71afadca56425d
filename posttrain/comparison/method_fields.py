"""What the record of a comparison says of one method: levels, costs, what it saw, curves, and where its runs are."""

from typing import Any

from pydantic import Field

from posttrain.comparison.fields import Bounds, Count, Number, Part, SeedBounds


class Costs(Part):
    """What a run used; null where nobody counted."""

    train_seconds: Number | None = None
    """Of training, computed now or once, in seconds."""
    generated_tokens: Number | None = None
    """Tokens that were sampled for training."""
    trained_tokens: Number | None = None
    """Tokens with a gradient in the policy."""
    critic_tokens: Number | None = None
    """Tokens with a gradient in the critic."""
    forward_tokens: Number | None = None
    """Tokens through a model without a gradient."""
    flops: Number | None = None
    """Floating-point operations: 6·N a trained token, 2·N a forward one."""
    labels: Number | None = None
    """Labels that somebody gave."""
    peak_rss_mb: Number | None = None
    """Most memory of the process, MB."""
    evaluate_seconds: Number | None = None
    """Of the evaluation, in seconds."""


class SeedCosts(Costs):
    """What one run used."""

    seed: int
    """Of the run."""


class Saw(Part):
    """What a method learned from; null where nobody counted."""

    demonstrations: Count | None = None
    """Demonstrations of SFT, shots in a prompt included."""
    questions: Count | None = None
    """Questions that responses were sampled to."""
    gold_answers: Count | None = None
    """Right answers that it was told, by a grader or as demonstrations of its own."""
    labels: Count | None = None
    """Labels."""
    labels_by: str | None = None
    """Who gave them, in words; null where there are none."""
    judge: str | None = None
    """AI judge that scored or labelled; null where there is none."""


class Yardsticks(Part):
    """What more samples at inference are worth, from the sampled answers; keys are k, samples used a question. Shares."""

    majority: dict[str, Bounds] = Field(default_factory=dict)
    """Share of questions whose most frequent final answer among k is right, ties shared; {} where none was extracted."""
    best_of: dict[str, Bounds] | None = None
    """Share right of the sample that a reward model scores highest of k; null without scores."""
    best_of_by: str | None = None
    """Whose scores."""
    passed: dict[str, Bounds] = Field(default_factory=dict, alias="pass")
    """pass@k: share of questions with a right sample among k."""


class LearningPoint(Part):
    """A point of a learning curve; null where it was not counted."""

    step: Number | None = None
    """Update of the trainer."""
    trained_tokens: Number | None = None
    """Until here."""
    generated_tokens: Number | None = None
    """Until here."""
    seconds: Number | None = None
    """Until here."""
    labels: Number | None = None
    """Until here."""
    value: Number | None = None
    """Of `what`."""
    what: str | None = None
    """What the curve shows, in words."""


class Learning(Part):
    """The learning curve of one run."""

    seed: int
    """Of the run."""
    points: list[LearningPoint]
    """In order."""


class ProxyPoint(Part):
    """Proxy and gold reward at one distance from the start."""

    sqrt_kl: Number
    """√KL from the starting model, √nats."""
    proxy: Number | None = None
    """What the method optimised, in standard deviations of the starting model's samples."""
    gold: Number | None = None
    """What a program that knows the answers says, likewise."""


class BestOfN(ProxyPoint):
    """The same where the best of n samples is taken."""

    n: Count
    """Samples."""


class Proxy(Part):
    """What a reward was worth, one run."""

    seed: int
    """Of the run."""
    points: list[ProxyPoint] = Field(default_factory=list)
    """Along training."""
    best_of_n: list[BestOfN] = Field(default_factory=list)
    """Of the starting model's samples."""


class Tuned(Part):
    """How the settings of a method were chosen, on a split that is neither trained on nor reported."""

    trials: Count
    """Tried."""
    chosen: dict[str, Any]
    """Settings by name."""
    development: Number | None = None
    """The metric of the chosen ones on the development split."""


class BudgetUsed(Part):
    """How much of the budget a seed used, on average."""

    amount: Number
    """In the unit of the budget."""
    share: Number
    """Of the budget's amount, 0..1, above 1 where it went over."""


class Run(Part):
    """Where one run is; null where it does not apply."""

    seed: int
    """Of the run."""
    pipeline_id: str | None = None
    """Name of its report."""
    run_id: str | None = None
    """In MLflow."""
    command: str | None = None
    """Makes it again."""
    report: str | None = None
    """Its page, a path from the repository; for logs the file that was read."""
    git_commit: str | None = None
    """Of the code."""
    data_md5: str | None = None
    """Version of the data."""
    model_uri: str | None = None
    """Registered model."""
    stages: dict[str, str] = Field(default_factory=dict)
    """Key of each stage by its name."""


class MethodPart(Part):
    """One method, or one system of another tool."""

    name: str
    """Unique; `pairs`, `groups` and `answers` refer to it."""
    title: str
    """As people call it."""
    learns_from: str
    """In words."""
    is_reference: bool
    """The others are compared with it."""
    simulated: list[str]
    """What stood in for people or servers."""
    when_to_use: str
    """One sentence; "" where nobody wrote one."""
    seeds: list[int]
    """That finished, ascending."""
    scores: list[SeedBounds]
    """The primary metric of each seed, in its own direction."""
    accuracy: list[SeedBounds] | None = None
    """The same list where the metric is `accuracy`, else null."""
    mean: Bounds
    """Over seeds; its interval covers what `design.covers` says."""
    sampled: list[SeedBounds] | None = None
    """Share of right samples of each seed; null without samples."""
    mean_sampled: Bounds | None = None
    """The same over seeds."""
    costs: Costs
    """Mean over the seeds that counted."""
    costs_per_seed: list[SeedCosts]
    """Of each."""
    saw: Saw
    """What it learned from; counts are means over seeds, rounded."""
    response_tokens: Number | None = None
    """Mean length of sampled responses, tokens."""
    finished: Number | None = None
    """Share of sampled responses that ended with EOS."""
    kl: Number | None = None
    """KL of a whole response from the model that the method started from, nats; null for a prompted model."""
    win_rate: Bounds | None = None
    """Share of sample pairs won against that model, ties half. Means over seeds of estimate and bounds: questions only."""
    yardsticks: Yardsticks | None = None
    """What more samples at inference are worth; null without samples."""
    learning: list[Learning]
    """Curves, one a seed that has one."""
    proxy: list[Proxy] | None = None
    """For methods with a reward; null for others."""
    tuned: Tuned | None = None
    """How its settings were chosen; null where they are the defaults."""
    budget_used: BudgetUsed | None = None
    """Null where the budget is `defaults`."""
    runs: list[Run]
    """Where each run is."""
