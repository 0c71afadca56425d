"""Bad rows are told together, put aside where the user asked for it, and never imported."""

import json

import pytest

from posttrain.errors import DataError
from tasks.data.importing import import_file
from tests.tasks.datasets import importing_of, lines

GOOD, BAD = '{"prompt": "q%d", "completion": "a"}', '{"prompt": "q%d", "completion": null}'


def skipping(paths, text, **named):
    (paths.root / "in.jsonl").write_text(text)
    return import_file(paths, file="in.jsonl", name="mine", skip_bad=True, **named)


def quarantine(paths):
    return paths.findings("import", "mine") / "quarantine.jsonl"


def rows(good, bad):
    return "\n".join([GOOD % number for number in range(good)] + [BAD % number for number in range(bad)])


def test_the_first_ten_are_told_with_reasons_and_the_others_counted(paths, no_dvc):
    with pytest.raises(DataError) as caught:
        importing_of(paths, rows(3, 12))
    told = str(caught.value).splitlines()
    assert told[0] == "rows that cannot be read:"
    assert told[1:11] == [f"  in.jsonl line {number}: completion is null" for number in range(4, 14)]
    assert told[11:] == [
        "  and 2 more",
        "in.jsonl: 12 of 15 rows cannot be read as trl, so nothing was imported. "
        "Correct or drop them, then import again; or put them aside: SKIP_BAD=1",
    ]
    assert not (paths.data / "mine").exists()


def test_the_remedy_of_all_rows_is_said_at_the_end(paths, no_dvc):
    with pytest.raises(DataError) as caught:
        importing_of(paths, '{"prompt": "q", "completion": "a", "score": 1}\n' * 2)
    assert str(caught.value).splitlines()[-1] == (
        "in.jsonl: 2 of 2 rows cannot be read as trl, so nothing was imported. Give the ends of the scale, "
        'MAP="low=1 high=5", or fields low and high; or leave it out on purpose: MAP="ignore=score"'
    )


def test_bad_rows_are_put_aside_with_their_reasons(paths, no_dvc):
    report = skipping(paths, rows(3, 11) + "\nbroken\n")
    assert report.kinds == {"demonstration": 3}
    assert len(lines(paths.data / "mine" / "records.jsonl")) == 3
    put_aside = lines(quarantine(paths))
    assert len(put_aside) == 12
    assert put_aside[0] == {
        "source": "in.jsonl",
        "line": 4,
        "reason": "in.jsonl line 4: completion is null",
        "row": {"prompt": "q0", "completion": None},
    }
    assert put_aside[-1]["reason"].startswith("in.jsonl line 15: broken JSON at column 1")
    assert report.notes[1] == (
        "12 of 15 rows were put aside, each with its reason, into .posttrain/import/mine/quarantine.jsonl:"
    )
    assert report.notes[2:13] == (*(f"  in.jsonl line {number}: completion is null" for number in range(4, 14)), "  and 2 more")


def test_an_import_without_bad_rows_leaves_no_quarantine_of_the_last_one(paths, no_dvc):
    skipping(paths, rows(3, 1))
    assert quarantine(paths).exists()
    report = skipping(paths, rows(3, 0))
    assert not quarantine(paths).exists()
    assert report.notes == ("no FORMAT was given: the rows of in.jsonl are read as FORMAT=trl",)


def test_a_refused_import_leaves_the_quarantine_of_the_dataset_that_stays(paths, no_dvc):
    skipping(paths, rows(3, 1))
    before = quarantine(paths).read_bytes()
    with pytest.raises(DataError):
        skipping(paths, rows(0, 2))
    with pytest.raises(DataError):
        importing_of(paths, rows(3, 2))
    assert quarantine(paths).read_bytes() == before


def test_nothing_but_bad_rows_is_refused_even_where_they_may_be_skipped(paths, no_dvc):
    with pytest.raises(DataError, match="2 of 2 rows cannot be read as trl, so nothing was imported"):
        skipping(paths, rows(0, 2))
    assert not (paths.data / "mine").exists()


def test_a_wrong_format_is_said_before_a_large_file_is_read_to_its_end(paths, no_dvc):
    with pytest.raises(DataError, match=r"none of the first 1,000 rows can be read as gsm8k, so nothing was imported"):
        importing_of(paths, rows(1_500, 0), form="gsm8k")


def test_what_an_import_left_aside_is_said(paths, no_dvc):
    text = "\n".join(json.dumps({"prompt": f"q{n}", "source": "web", "lang": "en"}) for n in range(3))
    report = skipping(paths, text, format="TRL")
    assert report.notes == (
        "3 rows: a question that has nothing to check an answer against",
        "fields that are not read: lang, source",
    )


def test_names_of_fields_reach_the_terminal_harmless_and_few(paths, no_dvc):
    rows = [{"text": "t", "a\x1b[2J": 1}, *({"text": "t", f"z{number:03}": 1} for number in range(500))]
    report = skipping(paths, "\n".join(map(json.dumps, rows)), format="trl")
    (told,) = report.notes
    assert told.startswith(r"fields that are not read: a\x1b[2J, z000, z001, ")
    assert told.endswith(", z018 and 80 more")


def test_a_mapping_goes_with_the_import(paths, no_dvc):
    (paths.root / "in.csv").write_text("The question,stars\nHow?,2\n")
    columns = "prompt='The question' answer=stars"
    assert import_file(paths, file="in.csv", name="mine", columns=columns).kinds == {"question": 1}
    assert lines(paths.data / "mine" / "records.jsonl")[0]["answers"] == ["2"]
