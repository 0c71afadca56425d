"""What a manifest may say: read back as it was written, and nothing outside our stores."""

import json

import pytest

from posttrain.errors import DataError
from posttrain.keeping.manifest import (
    Manifest,
    Stored,
    differences,
    is_inside,
    is_of_a_backup,
    named_versions,
    read_manifest,
)

FILES = {"mlflow/store/mlflow.db": Stored(7, "a" * 64), "reports/p.json": Stored(3, "b" * 64)}
MANIFEST = Manifest(
    made="2026-11-29T03:00:00+00:00",
    version="0.1.0",
    host="here",
    root="/repository",
    is_all=False,
    files=FILES,
    links={"reports/compare/latest.html": "c1/index.html"},
    contents={"runs": 2},
    left_out=("models:/posttrain-world/1: its files are gone",),
)


def test_it_is_read_as_it_was_written() -> None:
    assert read_manifest(MANIFEST.as_text(), shown="b") == MANIFEST
    assert MANIFEST.size == 10


def changed(**fields: object) -> str:
    return json.dumps({**json.loads(MANIFEST.as_text()), **fields})


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "its manifest is no JSON object with a schema"),
        ("[]", "its manifest is no JSON object with a schema"),
        (MANIFEST.as_text()[:-40], "its manifest is no JSON object with a schema"),
        (changed(schema="other/1"), "its manifest has the schema 'other/1', not posttrain.backup/1"),
        (changed(files=None), "its manifest lacks a field or has a wrong one"),
        (changed(files={"reports/a": [1]}), "its manifest lacks a field or has a wrong one"),
        (changed(files={"flows/__main__.py": [1, "x"]}), "it names 'flows/__main__.py', which no backup holds"),
        (changed(files={"reports/../flows/a.py": [1, "x"]}), "it names 'reports/../flows/a.py', which no backup holds"),
        (changed(links={"reports/x": "../flows"}), "it names 'reports/x', which no backup holds"),
        (changed(links={"reports/x": "/etc"}), "it names 'reports/x', which no backup holds"),
        (changed(links={"reports/p.json": "x"}), "it names 'reports/p.json', which no backup holds"),
        (changed(links={"mlflow/store": "x"}), "it names 'mlflow/store', which no backup holds"),
    ],
)
def test_a_damaged_one_is_told(text: str, told: str) -> None:
    with pytest.raises(DataError) as error:
        read_manifest(text, shown="b")
    assert str(error.value).startswith(f"b is damaged or no backup: {told}")
    assert str(error.value).endswith(". Nothing was touched. Take another backup, or copy this one again")


def test_one_of_a_newer_version_is_told() -> None:
    with pytest.raises(DataError) as error:
        read_manifest(changed(schema="posttrain.backup/2", version="9.0", files="another form"), shown="b")
    assert str(error.value) == (
        "b was made by a newer posttrain (9.0): its schema is posttrain.backup/2, and this one reads posttrain.backup/1. Nothing "
        "was touched. Update this repository: git pull && make setup; then run again"
    )


@pytest.mark.parametrize(
    ("found", "told"),
    [
        (
            {**FILES, "reports/p.json": Stored(3, "c" * 64)},
            "1 of its 2 files are not as they were written, the first is reports/p.json",
        ),
        (
            {**FILES, "reports/p.json": Stored(4, "b" * 64)},
            "1 of its 2 files are not as they were written, the first is reports/p.json",
        ),
        ({"reports/p.json": FILES["reports/p.json"]}, "1 of its 2 files are missing, the first is mlflow/store/mlflow.db"),
        ({**FILES, "reports/q.json": Stored(1, "")}, "1 of its 2 files are not in its manifest, the first is reports/q.json"),
    ],
)
def test_other_files_are_told(found: dict[str, Stored], told: str) -> None:
    with pytest.raises(DataError, match=told):
        differences(MANIFEST, found, shown="b")


def test_the_same_files_pass() -> None:
    differences(MANIFEST, dict(reversed(FILES.items())), shown="b")


@pytest.mark.parametrize(
    ("path", "is_one"),
    [
        ("mlflow/store/artifacts/a/b", True),
        (".posttrain/prefect/prefect.db", True),
        ("people.jsonl", True),
        ("labels/people.jsonl.annotators.json", True),
        ("params.yaml", True),
        ("databases/mlflow.dump", True),
        ("databases/other.dump", False),
        ("flows/verbs.py", False),
        (".git/hooks/post-commit", False),
        (".dvc/config", False),
        ("../people.jsonl", False),
        ("a/../../people.jsonl", False),
        ("/people.jsonl", False),
        ("", False),
    ],
)
def test_only_our_stores_may_lie_in_a_backup(path: str, is_one: bool) -> None:
    assert is_of_a_backup(path) is is_one


def test_inside() -> None:
    assert (
        is_inside("a/b.json")
        and not is_inside("a/../b")
        and not is_inside("a//b")
        and not is_inside("./a")
        and not is_inside("a\0b")
        and not is_inside("a\\b")
    )


def test_versions_that_texts_name() -> None:
    texts = ['{"uri": "models:/posttrain-world/6"}', "ppo.reward=model:models:/posttrain-x.y-reward/12", "models:/a@champion"]
    assert named_versions(texts) == {("posttrain-world", "6"), ("posttrain-x.y-reward", "12")}
