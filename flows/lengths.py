"""How long a response may be: `max_new_tokens=auto` becomes a number once the data gate has said how long answers are.

That happens in one place: from here on the run's settings hold the number, so that stage keys, parameters in MLflow, reports and
whatever compares two evaluations read it and never the word.
"""

from collections.abc import Iterator

from flows.run import Run
from posttrain.data.lengths import LONG, SLACK, Lengths, at_most
from posttrain.settings.config import Config
from posttrain.settings.section import tokens_of
from tasks.validation.lengths import LENGTHS, lengths_in
from tasks.validation.suite import percent

WORDS = {
    "demonstrations": "demonstrations",
    "preferences": "preferences (the longer completion of each)",
    "rankings": "rankings (the longest completion of each)",
    "ratings": "rated completions",
    "held_out": "held-out references",
}
"""What the references are called, by role."""


def limits_of(config: Config) -> dict[str, str]:
    """Return the settings that limit a response's tokens in a method, each with its section."""
    named = {"evaluate.max_new_tokens": "evaluate", "ppo.max_new_tokens": "ppo"}
    return named if config.row.is_rewarded else {"evaluate.max_new_tokens": "evaluate"}


def with_limits(config: Config, lengths: Lengths, *, context: int) -> Config:
    """Return the settings with a number for each `max_new_tokens=auto`.

    Args:
        config: as it was asked for.
        lengths: of the rows that the gate let through.
        context: tokens of prompt and response together, at most.
    """
    changed = {
        section: getattr(config, section).model_copy(update={"max_new_tokens": lengths.limit(context)})
        for section in ("evaluate", "ppo")
        if getattr(config, section).max_new_tokens == "auto"
    }
    return config.model_copy(update=changed)


def resolve_limits(run: Run) -> None:
    """Decide `max_new_tokens=auto` for the rest of a run whose data the gate has let through, and say what does not fit.

    A walk that only looks for stages (`flows.probe`) leaves `auto` where the gate has not been yet.
    """
    if not (run.data.path / LENGTHS).is_file():
        return
    before, lengths = run.config, lengths_in(run.data.path)
    run.config = with_limits(before, lengths, context=run.network["context"])
    run.limits, run.cut_off = list(decided(before, run.config, lengths)), list(beyond(run.config, lengths))
    for line in (*run.limits, *run.cut_off):
        run.say(line)


def decided(asked: Config, config: Config, lengths: Lengths) -> Iterator[str]:
    """Yield what `auto` has become, and why, a line a setting.

    Args:
        asked: the settings before.
        config: the settings now.
        lengths: that decided.
    """
    for name, section in limits_of(config).items():
        if getattr(asked, section).max_new_tokens != "auto":
            continue
        limit = tokens_of(getattr(config, section).max_new_tokens)
        why = "no completion tells how long answers are"
        if lengths.rows:
            long = f"{at_most(lengths.references, LONG):,}"
            why = f"{LONG:.0%} of the {lengths.rows:,} {WORDS[lengths.role]} have at most {long} tokens, and {SLACK - 1:.0%} more"
        if limit < lengths.wanted:
            why += f"; the context leaves no more beside {LONG:.0%} of the prompts ({at_most(lengths.prompts, LONG):,} tokens)"
        yield f"{name}=auto is {limit:,}: {why}"


def beyond(config: Config, lengths: Lengths) -> Iterator[str]:
    """Yield which share of the references is longer than a response may be, a line a setting; nothing where all fit."""
    for name, section in limits_of(config).items():
        limit = getattr(config, section).max_new_tokens
        if limit != "auto" and (rows := lengths.beyond(limit)):
            yield (
                f"{rows:,} of the {lengths.rows:,} {WORDS[lengths.role]} ({percent(rows / lengths.rows)}) have more tokens than "
                f"{name}={limit}, EOS included: a model that imitates them is cut off"
            )
