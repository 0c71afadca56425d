"""What a check says in words: names of its samples, its figures as sentences, and its sections for page and Markdown."""

from collections.abc import Mapping, Sequence
from typing import Any

from posttrain.comparison.cells import Cell, Table, columns, number, words
from posttrain.comparison.numbers import NOTHING, count, percent, probability
from posttrain.comparison.sections import Section

Record = Mapping[str, Any]

SAMPLES = {"training": "training", "new": "new", "held_out": "held out"}
"""By name in the record: what a sample is called."""
KEYS = {
    "separation": "Bars: the AUC of permuted labels, which is what chance gives. Lines: the AUC of new and of held-out prompts.",
    "lengths": "Thin line: 5 to 95 % of the prompts. Thick line: the middle half. Diamond: the median.",
}
"""By figure: what its marks mean."""
MOST_SCRIPTS = 8
SIDES = {"fresh": "fresh questions", "gate": "held-out questions of its evaluation"}
"""Of a score: what the champion was asked."""


def decimals(value: float) -> str:
    """Return an AUC or an index: "0.83"."""
    return f"{value:.2f}"


def headline(record: Record) -> str:
    """Return what was checked, in one line: file, prompts, dataset, day."""
    counted = record["prompts"]["new"]
    return " · ".join(
        (
            record["file"],
            f"{counted['compared']:,} of {counted['different']:,} different prompts",
            f"dataset {record['dataset']['name']}",
            record["created"][:10],
            f"check {record['id']}",
        )
    )


def sentence_of(record: Record) -> str:
    """Return what was decided of prompts and, where there is one, of the score, without a full stop; an alarm stands first."""
    told = [(record["is_drift"], record["verdict"])]
    if score := record.get("score"):
        told.append((score["is_alarm"], score["says"]))
    return ". ".join(says for _, says in sorted(told, key=lambda one: not one[0]))


def compared_samples(record: Record) -> list[str]:
    """Return the names of the samples that there are figures of, the training prompts first."""
    return [name for name in SAMPLES if name in record["figures"]]


def says_separation(record: Record) -> str:
    """Return the figure of the test in words."""
    test, calibration = record["test"], record["calibration"]
    told = (
        f"Permuted labels give an AUC up to {test['critical']:.2f} in all but {record['settings']['monitor.level'] * 100:g} % of "
        f"{sum(bar['count'] for bar in record['permuted']):,} permutations; new prompts have {test['auc']:.2f}"
    )
    if calibration is None:
        return f"{told}."
    return f"{told}, held-out prompts {calibration['auc']:.2f} (of their own permutations {calibration['critical']:.2f})."


def says_lengths(record: Record) -> str:
    """Return the figure of lengths in words."""
    parts = []
    for name in compared_samples(record):
        found = record["figures"][name]["length"]
        parts.append(f"{SAMPLES[name]} {found['50']:,.0f} ({found['25']:,.0f} to {found['75']:,.0f})")
    return f"Median characters of a prompt, and the middle half: {'; '.join(parts)}."


SAYS = {"separation": says_separation, "lengths": says_lengths}


def sections_of(record: Record) -> list[Section]:
    """Return the sections of a check's page, in order."""
    score = _score(record) if record.get("score") else _no_score(record)
    others = [_unlike(record), _words(record), _lengths(record), _scripts(record), _prompts(record), _how(record)]
    return [_test(record), *([score] if score else []), *others]


def _test(record: Record) -> Section:
    samples = ["new", *(["held_out"] if record["calibration"] else [])]
    places = {"new": "/test", "held_out": "/calibration"}
    rows = [
        (
            words(f"{SAMPLES[name]} against training"),
            number(record, f"{places[name]}/compared", count),
            number(record, f"{places[name]}/training", count),
            number(record, f"{places[name]}/auc", decimals),
            number(record, f"{places[name]}/p", probability),
            number(record, f"{places[name]}/critical", decimals),
            number(record, f"{places[name]}/foreign_share", percent),
        )
        for name in samples
    ]
    heads = columns("", "#prompts", "#of training", "#AUC", "#p", "#AUC by chance, at most", "#as if foreign, %")
    note = (
        "AUC: chance that a new prompt gets a higher score than one of training, by a classifier that saw neither; 0.5 is no "
        "difference. p: share of permuted labels that do as well. As if foreign: share of prompts that would give this AUC, if "
        "these were always recognised and the others never."
    )
    return Section(
        "test",
        "Told apart or not",
        figure="separation",
        says=says_separation(record),
        items=tuple(f"Warning: {text}" for text in record["warnings"]),
        tables=(Table("test", "The test, and the same for held-out prompts of the dataset", heads, tuple(rows), note),),
    )


def _score(record: Record) -> Section:
    score = record["score"]
    rows = [
        (
            words(f"{what[:1].upper()}{what[1:]}"),
            number(record, f"/score/{side}/questions", count),
            number(record, f"/score/{side}/families", count),
            *(number(record, f"/score/{side}/accuracy/{part}", percent) for part in ("estimate", "low", "high")),
            number(record, f"/score/{side}/finished", percent),
        )
        for side, what in SIDES.items()
    ]
    difference = (
        words("Fresh − held out"),
        *(number(record, f"/score/difference/{part}", _points) for part in ("estimate", "low", "high")),
        number(record, "/score/smallest_fall", percent),
    )
    level = 100 * (1 - record["settings"]["monitor.level"])
    note = (
        f"Greedy answers, checked by a program. Intervals of {level:g} %; nearly equal questions count as one draw. "
        "Ended: answers that ended by themselves."
    )
    heads = columns("", "#questions", "#but for near-duplicates", "#right, %", "#from", "#to", "#ended, %")
    margin = 100 * record["settings"]["monitor.score_margin"]
    tables = [
        Table("score", "How many of its answers are right", heads, tuple(rows), note),
        Table(
            "score-difference",
            "Fresh questions against held-out ones",
            columns("", "#difference, points", "#from", "#to", "#fall seen in 80 % of the cases, points"),
            (difference,),
            "Two independent samples of questions (Newcombe 1998). An alarm is raised where the whole interval lies below "
            f"−{margin:g}.",
        ),
    ]
    if score["wrong"]:
        wrong = [(words(one["prompt"]), words(one["answers"]), words(one["response"])) for one in score["wrong"]]
        tables.append(Table("wrong", "Some that it answers wrong", columns("question", "right", "its answer"), tuple(wrong)))
    left_out = f" {score['known']:,} of them stand in the dataset, and were not asked." if score["known"] else ""
    lead = f"{score['says']}. {score['answered']:,} rows of the file have an answer.{left_out}"
    facts = (("champion", f"version {score['version']} of {score['model']}"), ("its evaluation", score["pipeline_id"]))
    return Section(
        "score",
        "The champion on fresh questions",
        (lead,),
        tables=tuple(tables),
        facts=facts,
        items=tuple(f"Warning: {text}" for text in score["warnings"]),
    )


def _no_score(record: Record) -> Section | None:
    reason = record.get("unscored")
    return Section("score", "The champion on fresh questions", (f"There is no score: {reason}.",)) if reason else None


def _points(share: float) -> str:
    return f"{round(100 * share, 1) + 0.0:+.1f}".replace("-", "−")


def _unlike(record: Record) -> Section:
    rows = [
        (
            words(place + 1),
            words(one["prompt"]),
            number(record, f"/unlike/{place}/score", _signed),
        )
        for place, one in enumerate(record["unlike"])
    ]
    lead = (
        "The new prompts that the classifier finds least like training."
        if record["is_drift"]
        else "The new prompts that the classifier finds least like training. Where nothing is told apart, they are chance."
    )
    table = Table("unlike", "The most unlike, first", columns("", "prompt", "#score"), tuple(rows))
    return Section("unlike", "New prompts most unlike training", (lead,), tables=(table,))


def _signed(value: float) -> str:
    return f"{value:+.2f}".replace("-", "−")


def _words(record: Record) -> Section:
    rows = [
        (
            words(one["word"]),
            number(record, f"/words/{place}/new", percent),
            number(record, f"/words/{place}/training", percent),
            number(record, f"/words/{place}/z", _signed),
        )
        for place, one in enumerate(record["words"])
    ]
    heads = columns("word", "#of new prompts, %", "#of training prompts, %", "#z")
    note = "z: log odds ratio in standard errors. Words beyond 3 are told; of thousands, a few are by chance."
    unseen = [
        (words(SAMPLES[name]), number(record, f"/figures/{name}/unseen_words", percent))
        for name in compared_samples(record)
        if name != "training"
    ]
    tables = [Table("words", "Words that stand in more prompts of one side", heads, tuple(rows), note)] if rows else []
    tables.append(
        Table("unseen", "Words that none of the compared training prompts has", columns("", "#of all words, %"), tuple(unseen))
    )
    lead = () if rows else ("No word stands much more often on one side.",)
    return Section("words", "Vocabulary", lead, tables=tuple(tables))


def _lengths(record: Record) -> Section:
    rows = []
    for name in compared_samples(record):
        place = f"/figures/{name}"
        quantiles = [number(record, f"{place}/length/{share}", count) for share in record["figures"][name]["length"]]
        rows.append((words(SAMPLES[name]), *quantiles, *_index(record, f"{place}/length_psi")))
    shares = [f"#{share} %" for share in record["figures"]["training"]["length"]]
    heads = columns("", *shares, "#PSI", "#PSI by chance")
    note = (
        "Characters that so many per cent of the prompts are shorter than. PSI: population stability index over deciles of the "
        "training prompts; it decides nothing here. By chance: its mean where samples of this size are alike."
    )
    table = Table("lengths", "Characters of a prompt", heads, tuple(rows), note)
    return Section("lengths", "Length", figure="lengths", says=says_lengths(record), numbers=(table,))


def _index(record: Record, place: str) -> Sequence[Cell]:
    return number(record, place, lambda value: f"{value:.3f}"), number(record, f"{place}_by_chance", lambda value: f"{value:.3f}")


def _scripts(record: Record) -> Section:
    samples = compared_samples(record)
    known = list(dict.fromkeys(script for name in samples for script in record["figures"][name]["scripts"]))
    rows = []
    for script in known[:MOST_SCRIPTS]:
        cells = [number(record, f"/figures/{name}/scripts/{script}", count) for name in samples]
        rows.append((words(script), *(Cell("0") if cell.text == NOTHING else cell for cell in cells)))
    indices = [(words(SAMPLES[name]), *_index(record, f"/figures/{name}/script_psi")) for name in samples if name != "training"]
    note = (
        "The script of most letters of a prompt. Languages that share a script are not told here: the test and the words above "
        f"show them.{f' {len(known) - MOST_SCRIPTS} more scripts are in monitor.json.' if len(known) > MOST_SCRIPTS else ''}"
    )
    heads = columns("script", *(f"#{SAMPLES[name]}" for name in samples))
    return Section(
        "scripts",
        "Scripts",
        tables=(Table("scripts", "Prompts by script", heads, tuple(rows), note),),
        numbers=(
            Table("script-index", "Population stability index over scripts", columns("", "#PSI", "#by chance"), tuple(indices)),
        ),
    )


def _prompts(record: Record) -> Section:
    rows = [
        (
            words(SAMPLES[name]),
            number(record, f"/prompts/{name}/rows", count),
            number(record, f"/prompts/{name}/different", count),
            number(record, f"/prompts/{name}/compared", count),
            number(record, f"/prompts/{name}/families", count),
            number(record, f"/prompts/{name}/in_training", percent) if name != "training" else Cell(NOTHING),
        )
        for name in SAMPLES
    ]
    heads = columns("", "#rows", "#different", "#compared", "#but for near-duplicates", "#stand in training, %")
    note = "Different: but for case, punctuation and spaces. Each different prompt counts once, however often it was asked."
    return Section("prompts", "What was compared", tables=(Table("prompts", "Prompts", heads, tuple(rows), note),))


def _how(record: Record) -> Section:
    dataset, settings = record["dataset"], record["settings"]
    facts = (
        ("again", record["command"]),
        ("file", record["file"]),
        ("dataset", f"{dataset['name']} (md5 {dataset['md5']})"),
        ("settings", ", ".join(f"{name}={value:g}" for name, value in settings.items())),
        ("made by", f"posttrain {record['version']}, {record['created']}"),
    )
    lead = "Prompts are compared, not answers: whether the model still answers well, only its score on fresh questions says."
    return Section("how", "How it was decided", (lead,), facts=facts)
