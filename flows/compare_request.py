"""What `make compare` was asked for: methods, seeds, settings and the rest, read from its words, and refused where wrong."""

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from flows.jobs import Job
from posttrain.comparison.budgets import parse_budget
from posttrain.comparison.tuning import parse_trials
from posttrain.errors import RequestError, did_you_mean
from posttrain.methods import METHODS

DEFAULT_METHODS = "sft dpo reft rlhf rlaif ppo"
DEFAULT_SEEDS = "3"
LARGEST_SEED = 2**32 - 1
MOST_SEEDS = 1_000
OWN = ("methods", "seeds", "budget", "tune", "workers", "runner", "dry_run", "logs")
"""Words of the verb that are no settings."""
SETTINGS = {"workers": "compare.workers", "runner": "compare.runner"}
"""Words that are short for a setting."""
DECIDED_BY = {"method": "METHODS", "seed": "SEEDS"}
"""Settings that a word of the verb decides."""


@dataclass(frozen=True)
class Request:
    """A comparison as it was asked for.

    Attributes:
        methods: in the order given.
        seeds: of every method.
        settings: of every pipeline, "dpo.beta=0.2"; and those of the comparison itself.
        budget: what each method may use, as `posttrain.comparison.budgets` reads it; "" for each method's own.
        tune: trials that each method gets.
        logs: files of other tools to compare instead.
        is_dry: nothing is run; what would be is printed.
    """

    methods: tuple[str, ...]
    seeds: tuple[int, ...]
    settings: tuple[str, ...] = ()
    budget: str = ""
    tune: int = 0
    logs: tuple[str, ...] = ()
    is_dry: bool = False

    @property
    def of_pipelines(self) -> tuple[str, ...]:
        """Return the settings that a pipeline reads."""
        return tuple(one for one in self.settings if not one.startswith("compare."))

    def jobs(self, *, reference: str) -> tuple[Job, ...]:
        """Return a job a method and seed, those of the reference first: what they are compared with is needed in any case."""
        methods = dict.fromkeys((reference, *self.methods))
        return tuple(Job(method, seed, self.of_pipelines) for seed in self.seeds for method in methods)

    @property
    def command(self) -> str:
        """Return the command that compares the same again, as one types it."""
        named = {name: [one.partition("=")[2] for one in self.settings if one.startswith(f"{name}=")] for name in ("data.name",)}
        rest = [one for one in self.settings if not one.startswith("data.name=")]
        if self.logs:
            return " ".join(["make compare", f'LOGS="{" ".join(map(shlex.quote, self.logs))}"', *_of_set(rest)])
        words = [f'METHODS="{" ".join(self.methods)}"', f"SEEDS={_seeds_shown(self.seeds)}"]
        words += [f"DATA={value}" for value in named["data.name"][-1:]]
        words += [f"BUDGET={self.budget}"] if self.budget else []
        words += [f"TUNE={self.tune}"] if self.tune else []
        return " ".join(["make compare", *words, *_of_set(rest)])


def _of_set(settings: Sequence[str]) -> list[str]:
    return [f'SET="{" ".join(settings)}"'] if settings else []


def _seeds_shown(seeds: Sequence[int]) -> str:
    return str(len(seeds)) if tuple(seeds) == tuple(range(len(seeds))) else ",".join(map(str, seeds)) + "," * (len(seeds) == 1)


def read_request(words: Sequence[str]) -> Request:
    """Return the request that the words of `python -m flows compare` make, as `flows.verbs.words_of` gives them.

    Raises:
        RequestError: a method or seed is none, is named twice, or a word contradicts another.
    """
    given: dict[str, str] = {}
    settings: list[str] = []
    for word in words:
        name, equals, value = word.partition("=")
        if name in OWN and equals:
            given[name] = value.strip()
        elif name.strip().lower() in DECIDED_BY:
            raise RequestError(
                f"{word}: {DECIDED_BY[name.strip().lower()]} decides that of a comparison; take it out of the settings"
            )
        else:
            settings.append(word)
    settings += [f"{setting}={given[name]}" for name, setting in SETTINGS.items() if given.get(name)]
    logs = tuple(_split(given.get("logs", ""), "LOGS"))
    if logs:
        _refuse_beside_logs(given, settings)
    return Request(
        methods=_methods(given.get("methods", DEFAULT_METHODS)),
        seeds=_seeds(given.get("seeds", DEFAULT_SEEDS)),
        settings=tuple(settings),
        budget=_budget(given.get("budget", "")),
        tune=parse_trials(given.get("tune", "")),
        logs=logs,
        is_dry=_yes(given.get("dry_run", "0"), "DRY_RUN"),
    )


def _refuse_beside_logs(given: Mapping[str, str], settings: Sequence[str]) -> None:
    """Refuse beside LOGS what says how to train: nothing is trained."""
    words = [name for name in OWN if name != "logs" and given.get(name) not in (None, "", "0")]
    of_training = [name.upper() for name in words]
    of_training += [one.partition("=")[0] for one in settings if not one.startswith("compare.")]
    if of_training:
        named = {"data.name": "DATA"}.get(of_training[0], of_training[0])
        raise RequestError(f"LOGS compares results that are there, so {named} has no meaning beside it: leave it out")


def _split(text: str, name: str) -> list[str]:
    try:
        return shlex.split(text)
    except ValueError:
        raise RequestError(f"{name} must close the quotation marks that it opens, got {text}") from None


def _methods(text: str) -> tuple[str, ...]:
    names = text.replace(",", " ").lower().split()
    if not names:
        raise RequestError(f'METHODS must name a method at least: METHODS="{DEFAULT_METHODS}"; methods are {", ".join(METHODS)}')
    for name in names:
        if name not in METHODS:
            raise RequestError(
                f"METHODS: there is no method {name}{did_you_mean(name, METHODS)}; methods are {', '.join(METHODS)}"
            )
        if names.count(name) > 1:
            raise RequestError(f"METHODS names {name} {names.count(name)} times: name each method once")
    return tuple(names)


def _seeds(text: str) -> tuple[int, ...]:
    parts = text.replace(",", " ").split()
    if not parts or not all(part.isdecimal() for part in parts):
        raise RequestError(
            f'SEEDS must be how many seeds (SEEDS=3: 0, 1 and 2) or which (SEEDS="10,11,12"), got {text or "nothing"}'
        )
    if len(parts) == 1 and "," not in text:
        if not 1 <= int(parts[0]) <= MOST_SEEDS:
            raise RequestError(
                f'SEEDS must be between 1 and {MOST_SEEDS:,} seeds, got {parts[0]}; one seed of that name is SEEDS="{parts[0]},"'
            )
        return tuple(range(int(parts[0])))
    seeds = [int(part) for part in parts]
    for seed in seeds:
        if seed > LARGEST_SEED:
            raise RequestError(f"SEEDS: a seed must be at most {LARGEST_SEED}, got {seed}")
        if seeds.count(seed) > 1:
            raise RequestError(f"SEEDS names {seed} {seeds.count(seed)} times; the same seed gives the same result")
    return tuple(seeds)


def _budget(text: str) -> str:
    """Return the budget as it was written, once it is known to be one."""
    return text if parse_budget(text).amounts else ""


def _yes(text: str, name: str) -> bool:
    if text not in ("", "0", "1"):
        raise RequestError(f"{name} must be 1 (print what would be run) or 0, got {text}")
    return text == "1"
