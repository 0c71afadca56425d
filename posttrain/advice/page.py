"""The page docs/advise.md, made of the rules themselves, so that the two cannot differ."""

from collections.abc import Mapping, Sequence

from posttrain.advice.advise import RULES
from posttrain.advice.rule import Effect, Rule
from posttrain.advice.words import ASSUMED, SCHEMA

PREAMBLE = """\
# Which methods suit my data?

Made of the rules in `posttrain/advice/` by `posttrain/advice/page.py`; change a rule there, not this page.

`make advise DATA=mine` looks at a dataset, the base and the machine, and says which methods are possible, in which order to
try them and why. The first line is the recommendation. The table below it has a row a method: whether it is possible, what
speaks for it (`+`), against it (`-`) or is to be minded (`!`), what is missing, and what a run would cost. `METHODS="sft
dpo"` keeps to some methods, `SET` takes settings as `make pipeline` does (`SET="model.base=<directory>
judge.model=<name>"`), `OUT` names the file for the JSON.

Advice is no result: it says what to try first, and `make compare` measures what helped. The rules are practitioners' rules,
with the figure of your data that triggered each; points are added up, and the largest sum is tried first. They are weights
of ours, not measurements. What is possible is no matter of taste: those rules say what a pipeline would refuse, and a test
holds them against its own checks.

Nothing is trained, and no weights are loaded: a base is counted from its configuration. Times and costs are those of earlier
pipelines on the same dataset and base; without any it says "none has run here yet". Memory is given as two figures: weights,
gradients, optimiser and the networks beside them, below which a method is refused, and with the activations of one device
batch, a rough estimate.
"""
ENDING = f"""\
## How many questions and seeds

{{assumed}}

The formulas are those of a comparison (`posttrain/statistics/planning.py`), with the pair's own degrees between seeds, which
is the careful case. Once a comparison has run, its own figures say what more seeds or questions would show.

## The JSON

`reports/advice/<dataset>.json`, schema `{SCHEMA}`:

| key | what |
|---|---|
| `dataset`, `data_md5` | which data, in which version |
| `recommendation` | the first line |
| `first` | the method to try first, or null |
| `order` | the possible methods in the order in which to try them |
| `methods` | a list: `name`, `title`, `learns_from`, `possible`, `points` (null where impossible), `reasons`, `cost` |
| `reasons`, `warnings` | each `rule`, `effect`, `text`, `remedy`, `source`, `weight`; `warnings` concern every method |
| `cost` | `labels`, `labels_by`, `responses`, `tokens`; `memory_least`, `memory_likely` in bytes |
| | `stages`: seconds by name, null where it has not run; `seconds`: of all; `earlier`: costs of the last run |
| `power` | `assumed`; `needed`: `effect`, `seeds`, `noise`, `questions` (null: more than 20,000) |
| | `sees`: by `seeds` and `noise`, the smallest `effect` that these held-out questions show |
| `comparisons` | of this dataset and base: `id`, `created`, `verdict`, `same_data` |
| `situation` | every fact that a rule may ask |

Exit codes: 0, also where no method is possible; 2 where there is no such dataset, base or method, or the data gate is
closed.
"""


def advice_page() -> str:
    """Return the page as Markdown."""
    return f"{PREAMBLE}\n{rules_table()}\n\n{ENDING.format(assumed=ASSUMED)}"


def rules_table(rules: Sequence[Rule] = RULES) -> str:
    """Return the rules as Markdown, a table an effect, as docs/advise.md has them."""
    titles: Mapping[Effect, str] = {
        Effect.IMPOSSIBLE: "What makes a method impossible",
        Effect.FIRST: "What is measured first",
        Effect.BEFORE: "What is tried sooner",
        Effect.AFTER: "What is tried later",
        Effect.WARN: "What is warned of",
    }
    lines: list[str] = []
    for effect, title in titles.items():
        rows = [rule for rule in rules if rule.effect is effect]
        has_points = effect in (Effect.BEFORE, Effect.AFTER)
        last = "points" if has_points else "seen by" if effect is Effect.IMPOSSIBLE else ""
        lines += ["", f"## {title}", "", f"| rule | concerns | when | source |{f' {last} |' if last else ''}"]
        lines.append("|---|---|---|---|---|" if last else "|---|---|---|---|")
        for rule in rows:
            tail = f" {rule.weight:+d} |" if has_points else f" {rule.seen_by} |" if last else ""
            lines.append(f"| `{rule.name}` | {rule.concerns.says} | {rule.says} | {rule.source} |{tail}")
    return "\n".join(lines[1:])
