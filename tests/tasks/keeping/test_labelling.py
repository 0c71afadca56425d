"""What people were asked and what they said goes into every backup, and no restore takes what is here without being told to."""

import hashlib
import json
from pathlib import Path

import pytest

from posttrain.errors import RequestError
from tasks.keeping.exchange import place_of
from tasks.workspace.paths import Paths
from tests.tasks.keeping.houses import new_house, tree, write
from tests.tasks.keeping.test_backup import FORMS, put_back, save

BATCH, OTHER = "20261129-180501-ab12", "20261130-090000-cd34"


def labelled(paths: Paths, *names: str, word: str = "first") -> None:
    """Put batches of the world there, each with an answer, and the labels of people beside the world."""
    for name in names:
        folder = paths.labelling / "world" / name
        write(folder / "batch.json", json.dumps({"name": name}))
        write(folder / "events.jsonl", f'{{"id": "{word}"}}\n')
    write(paths.data / "world" / "labels.jsonl", f'{{"id": "people/{word}"}}\n')
    write(paths.data / "world" / "labels.jsonl.dvc", "outs: []\n")


@pytest.fixture
def house(tmp_path: Path) -> Paths:
    paths = new_house(tmp_path / "house")
    labelled(paths, BATCH)
    write(paths.labelling / "world" / f".{OTHER}.part" / "batch.json", "half made")
    return paths


@pytest.mark.parametrize("form", FORMS)
def test_batches_and_labels_are_there_and_back_also_of_the_default_world(house: Paths, tmp_path: Path, form: str) -> None:
    manifest, _ = save(house, tmp_path / form)
    ours = [f"labelling/world/{BATCH}/{name}" for name in ("batch.json", "events.jsonl")]
    ours += [f"data/world/labels.jsonl{end}" for end in ("", ".dvc")]
    assert set(ours) <= set(manifest.files) and not any(".part" in path for path in manifest.files)
    assert (manifest.contents["batches"], manifest.contents["datasets"]) == (1, 2)
    put_back(tmp_path / "fresh", tmp_path / form)
    before, fresh = tree(house.root), tree(tmp_path / "fresh")
    assert {path: fresh.get(path) for path in ours} == {path: before[path] for path in ours}
    assert not list((tmp_path / "fresh" / "labelling").glob(".restore-*"))


def test_a_batch_that_lies_here_is_replaced_only_where_that_is_said_and_others_stay(house: Paths, tmp_path: Path) -> None:
    save(house, tmp_path / "backup")
    other = Paths(tmp_path / "other")
    labelled(other, BATCH, OTHER, word="second")
    before = tree(other.root)
    with pytest.raises(RequestError) as told:
        put_back(other.root, tmp_path / "backup")
    assert f"labelling/world/{BATCH}" in str(told.value) and OTHER not in str(told.value)
    assert {path: digest for path, digest in tree(other.root).items() if not path.startswith(".posttrain")} == before
    put_back(other.root, tmp_path / "backup", is_forced=True)
    after = tree(other.root)
    answer = f"labelling/world/{BATCH}/events.jsonl"
    assert after[answer] == hashlib.sha256(b'{"id": "first"}\n').hexdigest() != before[answer]
    kept = f"labelling/world/{OTHER}/events.jsonl"
    assert after[kept] == before[kept], "what the backup does not have stays"


def test_a_batch_is_exchanged_as_a_whole() -> None:
    assert place_of(f"labelling/world/{BATCH}/events.jsonl") == ("labelling", f"world/{BATCH}", False)
