"""How often `make monitor` raises an alarm where nothing has drifted, and which drifts it sees: docs/decisions/0024-drift.md.

    python -m benchmarks.drift [repetitions=200] [prompts=50,100,200,500,1000] [training=1000] [permutations=199] [only=power]

Each repetition draws training, held-out and new prompts anew. A row is a kind of prompt or a shift, a column a number of new
prompts; a cell is the share of checks that raise an alarm, %, and in the tables of power the mean AUC.

False alarms, for prompts that are alike: stories of the default world; templates, of which each prompt is one of forty sentences
with other words in it; texts in families, of which each is asked in three nearly equal forms. "p alone" is without
`monitor.min_auc`, which makes alarms rarer still: that one must be at most 5 %.

Power, for stories of the world of which a part is replaced or changed: foreign prompts, another language, larger numbers, longer
stories, a new verb, a system prompt before each.

`only=classifier` sets the ridge regression beside a logistic one on the same folds: AUC of each, and seconds for one labelling.
"""

import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from random import Random

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from posttrain.data.world import NAMES, draw_problem
from posttrain.drift.check import check, draw
from posttrain.drift.similarity import Array, centred, similarity
from posttrain.drift.two_sample import auc_within, folds_of, out_of_fold, relabelled
from posttrain.records import Question
from posttrain.settings.monitor import MonitorSettings

Make = Callable[[Random], str]
NEAR_DUPLICATE = 0.8
PENALTIES = (1.0, 10.0, 100.0)
"""Of the logistic regression that the ridge regression is set beside: C, the inverse of its penalty."""
HELD_OUT = 200
"""Held-out prompts of each dataset; they calibrate."""
WORDS = (
    *("account", "order", "invoice", "parcel", "refund", "password", "browser", "printer", "update", "licence", "contract"),
    *("meeting", "report", "budget", "flight", "ticket", "hotel", "recipe", "garden", "engine", "battery", "screen", "camera"),
    *("market", "lesson", "exam", "river", "bridge", "winter", "summer", "doctor", "window"),
)


# --- prompts that are alike -------------------------------------------------------------------------------------------


def story(random: Random) -> str:
    """Return a story of the default world."""
    return draw_problem(random).text


TEMPLATES = [" ".join(Random(f"template {number}").choices([*WORDS, "{}", "{}"], k=12)) + " {}?" for number in range(40)]


def template(random: Random) -> str:
    """Return one of forty sentences with words of its own in it."""
    one = random.choice(TEMPLATES)
    return one.format(*(random.choice(WORDS) for _ in range(one.count("{}"))))


def family_of_three(random: Random) -> list[str]:
    """Return one question in three forms that are nearly equal."""
    words = random.choices(WORDS, k=30)
    return [" ".join([*words, ending]) for ending in ("please", "now", "today")]


# --- shifts -----------------------------------------------------------------------------------------------------------


def german(random: Random) -> str:
    """Return a story of the same kind in another language."""
    name, thing, start, more = random.choice(NAMES), random.choice(("Äpfel", "Münzen", "Karten")), *random.sample(range(2, 99), 2)
    return f"{name} hat {start} {thing}, {random.choice(('kauft', 'findet', 'verliert'))} {more}. Wie viele sind es?"


def foreign(random: Random) -> str:
    """Return a prompt of another kind altogether, in the same language."""
    one, other = random.sample(WORDS, 2)
    return f"Write a short {random.choice(('mail', 'note', 'poem'))} about the {one} and the {other}."


def larger(random: Random) -> str:
    """Return a story whose first number is beyond those of training."""
    problem = draw_problem(random)
    return problem.text.replace(f" {problem.start} ", f" {problem.start + random.randint(100, 800)} ", 1)


def longer(random: Random) -> str:
    """Return a story of at least three steps, which two in five of training have."""
    while len((problem := draw_problem(random)).steps) < 3:
        pass
    return problem.text


def new_verb(random: Random) -> str:
    """Return a story in which a verb of training is another word."""
    text = story(random)
    return text.replace("buys", "orders").replace("sells", "ships").replace("finds", "spots").replace("lends", "rents out")


def with_system_prompt(random: Random) -> str:
    """Return a story behind a sentence that tells the model how to answer."""
    return f"You are a helpful assistant. Answer briefly.\n{story(random)}"


def mixed(make: Make, share: float) -> Make:
    """Return stories of which a share is of another kind."""
    return lambda random: make(random) if random.random() < share else story(random)


SHIFTS: dict[str, Make] = {
    "foreign, 5 %": mixed(foreign, 0.05),
    "foreign, 10 %": mixed(foreign, 0.10),
    "foreign, 20 %": mixed(foreign, 0.20),
    "foreign, 50 %": mixed(foreign, 0.50),
    "German, 10 %": mixed(german, 0.10),
    "German, 20 %": mixed(german, 0.20),
    "larger numbers, 20 %": mixed(larger, 0.20),
    "larger numbers, all": larger,
    "longer stories, 50 %": mixed(longer, 0.50),
    "longer stories, all": longer,
    "four new verbs, 20 %": mixed(new_verb, 0.20),
    "four new verbs, all": new_verb,
    "a system prompt, 20 %": mixed(with_system_prompt, 0.20),
}


# --- the simulation ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Asked:
    """What is simulated: repetitions, numbers of new prompts, prompts of training, permutations."""

    repetitions: int
    prompts: tuple[int, ...]
    training: int
    permutations: int


def texts(make: Make | None, count: int, random: Random) -> list[str]:
    """Return prompts; None: families of three, twenty at least, since a family counts as one prompt."""
    if make is not None:
        return [make(random) for _ in range(count)]
    return [text for _ in range(max(20, count // 3)) for text in family_of_three(random)]


def one(make: Make | None, new: Make | None, count: int, asked: Asked, repetition: int) -> tuple[bool, bool, float, bool]:
    """Return (alarm, p alone, AUC, whether held-out prompts are told apart) of one check."""
    random = Random(f"{count} {repetition}")
    drawn = {"new": texts(new, count, random), "training": texts(make, asked.training, random)}
    drawn["held_out"] = texts(make, HELD_OUT, random)
    records = {name: [Question(id=str(place), prompt=text) for place, text in enumerate(each)] for name, each in drawn.items()}
    settings = MonitorSettings(permutations=asked.permutations, min_prompts=20)
    record = check(
        *(draw(records[name], name=name, most=settings.max_prompts, seed=repetition) for name in ("new", "training", "held_out")),
        settings=settings,
        near_duplicate=NEAR_DUPLICATE,
        seed=repetition,
    )
    told_apart = record["calibration"]["p"] <= settings.level
    return record["is_drift"], record["test"]["p"] <= settings.level, record["test"]["auc"], told_apart


def false_alarms(asked: Asked, say: Callable[[str], None]) -> Table:
    """Return the table of alarms where nothing has drifted."""
    table = Table("prompts that are alike", title=f"false alarms, %: {asked.repetitions:,} checks a cell; alarm / p alone")
    for count in asked.prompts:
        table.add_column(f"{count:,} new", justify="right")
    kinds: dict[str, Make | None] = {"stories of the world": story, "forty templates": template, "families of three": None}
    for name, make in kinds.items():
        cells = []
        for count in asked.prompts:
            found = [one(make, make, count, asked, repetition) for repetition in range(asked.repetitions)]
            cells.append(f"{_percent(found, 0)} / {_percent(found, 1)}")
            say(f"{name}, {count:,}: {cells[-1]}; held-out prompts told apart in {_percent(found, 3)} %")
        table.add_row(name, *cells)
    return table


def power(asked: Asked, say: Callable[[str], None]) -> Table:
    """Return the table of alarms where something has drifted."""
    table = Table("shift", title=f"alarms, %: {asked.repetitions:,} checks a cell; in brackets the mean AUC")
    for count in asked.prompts:
        table.add_column(f"{count:,} new", justify="right")
    for name, make in SHIFTS.items():
        cells = []
        for count in asked.prompts:
            found = [one(story, make, count, asked, repetition) for repetition in range(asked.repetitions)]
            mean = sum(auc for _, _, auc, _ in found) / len(found)
            cells.append(f"{_percent(found, 0)} ({mean:.2f})")
            say(f"{name}, {count:,}: {cells[-1]}")
        table.add_row(name, *cells)
    return table


def classifiers(asked: Asked, say: Callable[[str], None]) -> Table:
    """Return the AUC of ridge and of logistic regression, the latter at the best of several penalties, by shift."""
    count = asked.prompts[0]
    table = Table(
        "shift", title=f"mean AUC of {asked.repetitions:,} samples: {count:,} new prompts, {asked.training:,} of training"
    )
    for head in ("ridge", *(f"logistic, C={c:g}" for c in PENALTIES), "s, ridge, 200 labellings", "s, logistic, one"):
        table.add_column(head, justify="right")
    for name, make in SHIFTS.items():
        rows = []
        for repetition in range(asked.repetitions):
            random = Random(f"{count} {repetition}")
            drawn = [*texts(story, asked.training, random), *texts(make, count, random)]
            labels = np.arange(len(drawn)) >= asked.training
            rows.append(_both(centred(similarity(drawn)), labels, repetition))
        means = np.mean(rows, axis=0)
        table.add_row(name, *(f"{mean:.3f}" for mean in means))
        say(f"{name}: {' '.join(f'{mean:.3f}' for mean in means)}")
    return table


def _both(kernel: Array, labels: NDArray[np.bool_], seed: int) -> list[float]:
    """Return the AUC by ridge and by each logistic regression, and the seconds of both."""
    from sklearn.linear_model import LogisticRegression

    random = np.random.default_rng(seed)
    family = np.arange(len(labels))
    fold = folds_of(family, 5, random)
    many = relabelled(labels, family, 199, random)
    started = time.perf_counter()
    found = [float(auc_within(out_of_fold(kernel, many, fold), many, fold)[0])]
    seconds = [time.perf_counter() - started]
    # vectors whose scalar products are the kernel: the logistic regression is that on all n-grams
    values, vectors = np.linalg.eigh(kernel)
    features = vectors * np.sqrt(np.maximum(values, 0.0))
    for c in PENALTIES:
        started, scores = time.perf_counter(), np.zeros((len(labels), 1))
        for place in range(5):
            inside = fold == place
            model = LogisticRegression(C=c, max_iter=1_000).fit(features[~inside], labels[~inside])
            scores[inside, 0] = model.decision_function(features[inside])
        found.append(float(auc_within(scores, labels[:, None], fold)[0]))
    return [*found, *seconds, time.perf_counter() - started]


def _percent(found: list[tuple[bool, bool, float, bool]], place: int) -> str:
    return f"{100 * sum(bool(each[place]) for each in found) / len(found):.1f}"


def main(words: list[str]) -> None:
    given = dict(word.partition("=")[::2] for word in words)
    asked = Asked(
        repetitions=int(given.get("repetitions", "200")),
        prompts=tuple(int(count) for count in given.get("prompts", "50,100,200,500,1000").split(",")),
        training=int(given.get("training", "1000")),
        permutations=int(given.get("permutations", "199")),
    )
    console, started = Console(width=140), time.perf_counter()
    for name, make in (("false", false_alarms), ("power", power), ("classifier", classifiers)):
        if given.get("only", name) == name:
            console.print(make(asked, lambda line: print(line, file=sys.stderr, flush=True)))
    print(f"{time.perf_counter() - started:,.0f} s", file=sys.stderr)


if __name__ == "__main__":
    main(sys.argv[1:])
