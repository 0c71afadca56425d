"""The published study as Markdown: README.md's parts and docs/results.md, made of docs/study.json.

The study is a record of `make compare` (docs/study.json, form `posttrain.study/1`): the fields that `benchmarks.study` keeps
of it, under their own names. Shares are written in per cent, differences of shares in points.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from posttrain.comparison import numbers
from posttrain.methods import METHODS
from posttrain.printable import counted

Study = Mapping[str, Any]
BEGIN, END = "<!-- study: {name}; made by benchmarks.study -->\n", "<!-- end of {name} -->"
COSTS = (
    ("labels", "labels"),
    ("generated_tokens", "generated tokens"),
    ("trained_tokens", "trained tokens"),
    ("critic_tokens", "critic tokens"),
    ("forward_tokens", "forward tokens"),
    ("flops", "FLOPs"),
    ("train_seconds", "minutes"),
    ("peak_rss_mb", "memory, MB"),
)
"""What a method took, as the record names it, and as the page does."""
VERDICTS = {
    "better": "better",
    "worse": "worse",
    "equal": "equal within the margin",
    "undecided": "not told apart",
    "disagree": "the seeds disagree",
}


# --- numbers --------------------------------------------------------------------------------------------------------------


def percent(value: float) -> str:
    """Return a share in per cent."""
    return f"{100 * value:.1f}"


def points(value: float) -> str:
    """Return a difference of shares in points."""
    return f"{100 * value:+.1f}"


def count(value: float | None) -> str:
    """Return a count with separators, a huge one as a power of ten; a dash where nobody counted."""
    if value is None:
        return "–"
    return f"{value:,.0f}" if value < 1e9 else f"{value:.2e}"


def minutes(seconds: float | None) -> str:
    """Return seconds as minutes, as the page of a comparison does."""
    return "–" if seconds is None else numbers.minutes(seconds)


def p_value(p: float | None) -> str:
    """Return a p value with two digits; "< 0.001" below that, a dash where there is none."""
    if p is None:
        return "–"
    return "< 0.001" if p < 0.001 else f"{p:.2g}"


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """Return the lines of a Markdown table; a bar within a cell stays a bar."""
    return ["| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in (head, ["---"] * len(head), *rows)]


# --- what the record says -------------------------------------------------------------------------------------------------


def gains(study: Study) -> dict[str, Mapping[str, Any]]:
    """Return each method's comparison with the reference, by the method's name."""
    reference = study["design"]["reference"]
    return {pair["a"]: pair for pair in study["pairs"] if pair["family"] == "reference" and pair["b"] == reference}


def by_gain(study: Study) -> list[Mapping[str, Any]]:
    """Return the methods, the largest gain first; the reference stands where its gain of 0 puts it."""
    found = gains(study)
    return sorted(study["methods"], key=lambda method: -found.get(method["name"], {"estimate": 0.0})["estimate"])


def gain_cell(pair: Mapping[str, Any] | None) -> str:
    """Return a gain with its interval, bold where the deciding design tells it from 0.

    Where the record has no interval over seeds, the seeds' own gains stand in its place: from the lowest to the highest.
    """
    if pair is None:
        return "reference"
    gain = points(pair["estimate"])
    gain = f"**{gain}**" if pair["verdict"] in ("better", "worse") else gain
    if pair["low"] is not None:
        return f"{gain} [{points(pair['low'])}, {points(pair['high'])}]"
    seeds = [seed["estimate"] for seed in pair["per_seed"]]
    return f"{gain} (seeds {points(min(seeds))} to {points(max(seeds))})"


def seeds_of(study: Study) -> list[int]:
    """Return the seeds of the study."""
    return list(study["design"]["seeds"])


def title_of(study: Study, name: str) -> str:
    """Return what tables call a method."""
    return next((method["title"] for method in study["methods"] if method["name"] == name), name)


# --- README.md ------------------------------------------------------------------------------------------------------------


def readme_table(study: Study) -> str:
    """Return README's table: a row a method with its gain and its costs; its words are those of posttrain/methods.py."""
    found, reference = gains(study), title_of(study, study["design"]["reference"])
    head = ("method", "learns from", f"gain over {reference}, points", "labels", "minutes", "when to use")
    rows = [
        (
            method["title"],
            METHODS[method["name"]].learns_from.says,
            gain_cell(found.get(method["name"])),
            count(method["costs"].get("labels")),
            minutes(method["costs"].get("train_seconds")),
            METHODS[method["name"]].suits,
        )
        for method in by_gain(study)
    ]
    return "\n".join([*table(head, rows), "", covers(study)]) + "\n"


def compare_output(study: Study) -> str:
    """Return the last words of `make compare`, but for its table, which is README's own; nothing where there is no verdict."""
    if not study["verdict"]:
        return ""
    printed = [study["verdict"], f"page       reports/compare/{study['id']}/index.html"]
    return "\n".join(
        ["`make compare` ends with the verdict, here that of the study, and its page:", "", "```", *printed, "```", ""]
    )


def covers(study: Study) -> str:
    """Return the sentence below a table of gains: of what they are, and what the brackets cover."""
    design, reference = study["design"], title_of(study, study["design"]["reference"])
    where = "" if study["world"] is None else f", world {study['world']}"
    told = f"Mean of {counted(len(design['seeds']), 'seed')}, {count(design['questions'])} held-out questions{where}."
    if any(pair["low"] is not None for pair in study["pairs"]):
        told += (
            f" Brackets: {100 * design['confidence']:.0f} % intervals. Bold: different from {reference}, after Holm's correction."
        )
    return told


def readme(text: str, study: Study) -> str:
    """Return README's text with the study's parts put between their marks.

    Raises:
        SystemExit: a mark is missing.
    """
    alternative = study["verdict"] or "What each method reached on held-out questions, a dot a seed"
    picture = f"![{alternative}](docs/{study['picture']})\n"
    parts = {"picture": picture, "output": compare_output(study), "table": readme_table(study)}
    for name, content in parts.items():
        text = between(text, name, content)
    return text


def between(text: str, name: str, content: str) -> str:
    """Return a text with a part put between its two marks.

    Raises:
        SystemExit: a mark is missing.
    """
    begin, end = BEGIN.format(name=name), END.format(name=name)
    before, begun, rest = text.partition(begin)
    _, ended, after = rest.partition(end)
    if not begun or not ended:
        raise SystemExit(
            f"README.md has no place for the study's {name}: the lines {begin.strip()!r} and {end!r} must stand in it"
        )
    return f"{before}{begin}\n{content}\n{end}{after}" if content else f"{before}{begin}{end}{after}"


# --- docs/results.md ------------------------------------------------------------------------------------------------------


def results(study: Study) -> str:
    """Return the page of results."""
    parts = [
        ["# Results", "", *_preamble(study)],
        ["## Gains", "", *gain_lines(study)],
        ["## Every seed", "", *seed_lines(study)],
        _sample_lines(study),
        _feedback_lines(study),
        ["## What each took", "", *cost_lines(study)],
        ["## What the intervals do not cover", "", *_NOT_COVERED],
        ["## What is simulated", "", *_SIMULATED],
        _note_lines(study),
        ["## Make it anew", "", *_again_lines(study)],
    ]
    return "\n\n".join("\n".join(part) for part in parts if part) + "\n"


def _preamble(study: Study) -> list[str]:
    made = "Made by `python -m benchmarks.study` from [study.json](study.json); do not edit it by hand."
    verdict = [f"**{study['verdict']}**", ""] if study["verdict"] else []
    picture = f"![What each method reached, a dot a seed]({study['picture']})"
    world = (
        f"The study runs on the default world of seed {study['world']}, on which no setting was chosen. Settings were chosen "
        "on another world and on other seeds ([decision 3](decisions/0003-world.md), `benchmarks/worlds.py`)."
    )
    return [made, "", *verdict, picture, "", world]


def gain_lines(study: Study) -> list[str]:
    found, reference = gains(study), title_of(study, study["design"]["reference"])
    head = ("method", "accuracy, %", f"gain over {reference}, points", "at least", "p, Holm", "verdict")
    rows = []
    for method in by_gain(study):
        pair = found.get(method["name"])
        least = "–" if pair is None or pair["low_decides"] is None else points(pair["low_decides"])
        said = "–" if pair is None or pair["verdict"] is None else VERDICTS[pair["verdict"]]
        rows.append((method["title"], _level(method["mean"]), gain_cell(pair), least, p_value(pair and pair["p_holm"]), said))
    rest = [pair for pair in study["pairs"] if pair["family"] == "best" and pair["words"]]
    best = [f"- {title_of(study, pair['b'])}: {pair['words']}" for pair in rest]
    against = ["", f"{title_of(study, rest[0]['a'])}, the highest mean, beside each of the others:", "", *best] if best else []
    return [
        *table(*_without_empty(head, rows)),
        "",
        f"Accuracy: {study['design']['metric_title']}. {covers(study)}",
        *_least(study),
        *against,
    ]


def _without_empty(head: Sequence[str], rows: Sequence[Sequence[str]]) -> tuple[list[str], list[list[str]]]:
    """Return a table without the columns in which every cell is a dash."""
    kept = [place for place in range(len(head)) if any(row[place] != "–" for row in rows)]
    return [head[place] for place in kept], [[row[place] for place in kept] for row in rows]


def _least(study: Study) -> list[str]:
    if all(pair["low_decides"] is None for pair in study["pairs"]):
        return []
    told = '"At least" is the lower bound of the design that decides; it is wider than the interval that is drawn.'
    return ["", f"{told} {study['design']['covers']}"]


def _level(bounds: Mapping[str, float | None]) -> str:
    estimate, low, high = bounds["estimate"], bounds["low"], bounds["high"]
    assert estimate is not None
    return percent(estimate) if low is None or high is None else f"{percent(estimate)} [{percent(low)}, {percent(high)}]"


def seed_lines(study: Study) -> list[str]:
    found, seeds = gains(study), seeds_of(study)
    base = {one["seed"]: one["estimate"] for one in study["base"]}
    rows = [("base", *(percent(base[seed]) if seed in base else "–" for seed in seeds))] if base else []
    for method in study["methods"]:
        scores = {score["seed"]: score["estimate"] for score in method["scores"]}
        own = {seed["seed"]: seed for seed in found.get(method["name"], {"per_seed": []})["per_seed"]}
        rows.append((method["title"], *(_seed_cell(scores.get(seed), own.get(seed)) for seed in seeds)))
    told = (
        "Held-out questions answered right by greedy decoding, %; in brackets the paired gain over "
        f"{title_of(study, study['design']['reference'])} on the same seed, in points, with its interval over questions."
    )
    return [told, "", *table(("", *(f"seed {seed}" for seed in seeds)), rows)]


def _seed_cell(score: float | None, gain: Mapping[str, float | None] | None) -> str:
    if score is None:
        return "failed"
    if gain is None or gain["estimate"] is None:
        return percent(score)
    low, high = gain["low"], gain["high"]
    reach = "" if low is None or high is None else f" [{points(low)}, {points(high)}]"
    return f"{percent(score)} ({points(gain['estimate'])}{reach})"


def _sample_lines(study: Study) -> list[str]:
    """Return what several samples a question are worth, for the methods that have such figures."""
    sampled = [method for method in study["methods"] if method.get("yardsticks")]
    if not sampled:
        return []
    sizes = sorted({int(k) for method in sampled for k in method["yardsticks"]["pass"]})
    head = ("", *(f"pass@{k}" for k in sizes), *(f"majority of {k}" for k in sizes if k > 1))
    rows = []
    for method in sampled:
        found = method["yardsticks"]
        cells = [_share(found["pass"].get(str(k))) for k in sizes]
        rows.append((method["title"], *cells, *(_share(found["majority"].get(str(k))) for k in sizes if k > 1)))
    told = "Sampled answers, %: one of k is right (pass@k), and the most frequent answer of k is right. Equal k is equal cost."
    return ["## Several samples a question", "", told, "", *table(head, rows)]


def _share(bounds: Mapping[str, float] | None) -> str:
    return "–" if bounds is None else percent(bounds["estimate"])


def _feedback_lines(study: Study) -> list[str]:
    if not study["feedback"]:
        return []
    seeds, rows = seeds_of(study), []
    for kind, who in dict.fromkeys((one["kind"], one["who"]) for one in study["feedback"]):
        cells = {one["seed"]: one for one in study["feedback"] if (one["kind"], one["who"]) == (kind, who)}
        name = f"labels of {who}" if kind == "labels" else f"reward model of the labels of {who}"
        rows.append((name, *(_level(cells[seed]) if seed in cells else "–" for seed in seeds)))
    told = (
        "Right about which of two samples is better, where one is, %. Gold is a program that knows the answers. The quality of "
        "the judge is a setting (`judge.practice_steps`, `judge.slip_share`), so it is no result that RLAIF is above or below "
        "RLHF here."
    )
    return ["## What feedback was worth", "", told, "", *table(("", *(f"seed {seed}" for seed in seeds)), rows)]


def cost_lines(study: Study) -> list[str]:
    rows = []
    for method in study["methods"]:
        costs = method["costs"]
        cells = (minutes(costs.get(name)) if name == "train_seconds" else count(costs.get(name)) for name, _ in COSTS)
        rows.append((method["title"], *cells))
    told = (
        "Mean over the seeds: SFT, sampling, labels and reward model where a method needs them, not the base. Every network "
        "counts: 6 FLOPs a weight and token learnt from, 2 a token read. Minutes are those of training, sampling and labelling."
    )
    return [told, "", *table(("", *(title for _, title in COSTS)), rows)]


_NOT_COVERED = (
    "Training noise is the larger part. Another seed, machine or number of threads trains another model: one commit and one "
    "seed, on another machine or with another number of threads, moved SFT by 3 points, DPO by 2, RLHF by 7 and RLAIF by 9. "
    "The interval of one seed covers the choice of held-out questions and nothing else "
    "([decision 9](decisions/0009-intervals.md)).",
    "",
    "The methods differ in what they see. ReFT, GRPO, RLOO, self-training and PPO see right answers; DPO, KTO and RLHF see "
    "labels, some of which are wrong; RLAIF sees a judge ([decision 18](decisions/0018-equal-feedback.md)).",
)
_SIMULATED = (
    "The world, the annotators and the judge are simulated ([what is simulated](simulated.md)). These figures say how the "
    "methods compare on this world. To see how they compare on yours: `make compare DATA=mine`.",
)


def _note_lines(study: Study) -> list[str]:
    notes = [f"- {note}" for note in study["notes"]]
    return ["## Notes", "", *notes] if notes else []


def _again_lines(study: Study) -> list[str]:
    commands = [
        "```",
        "make bench                                            # the study in a fresh copy of the repository; it takes hours",
        ".venv/bin/python -m benchmarks.study from=reports/study/compare/<id>/comparison.json",
        ".venv/bin/python -m benchmarks.study pages            # this page, the picture and README's parts from docs/study.json",
        "```",
    ]
    facts = [
        f"The record was made by `{study['command']}`",
        f"at commit `{study['git_commit'][:12]}`" if study["git_commit"] else "",
        f"in {study['seconds'] / 3600:.1f} hours" if study["seconds"] else "",
        f"on {machine(study['machine'])}" if study["machine"] else "",
    ]
    failed = [f"- {title_of(study, one['method'])}, seed {one['seed']}, failed: {one['error']}" for one in study["failed"]]
    return [*commands, "", " ".join(filter(None, facts)) + ".", *(["", *failed] if failed else [])]


def machine(machine: Mapping[str, Any]) -> str:
    cores = machine.get("cores")
    parts = [
        f"{cores} cores" if cores else "",
        machine.get("cpu"),
        f"Python {machine['python']}" if machine.get("python") else "",
    ]
    parts += [f"torch {machine['torch']}" if machine.get("torch") else "", machine.get("gpu") or "no GPU"]
    return ", ".join(str(part) for part in parts if part)
