"""Cards beside the files of versions: there, kept, and no damage."""

import hashlib
import json
from pathlib import Path

from tasks.promotion.card_files import has_card, usage_of, write_card
from tasks.tracking.ledger import Ledger
from tasks.tracking.registry import WEIGHTS_TAG, RegisteredModel, digest_of_files, local_path, register, trouble_of
from tests.tasks.promotion.versions import NAME, model_folder, start

CARD = "---\nlicense: unknown\n---\n\n# A model\n"
KEY = {"posttrain.stage_key": "k" * 64}


def put(ledger: Ledger, folder: Path) -> RegisteredModel:
    return register(ledger, name=NAME, folder=folder, run_id=start(ledger), tags=KEY, metrics={})


def test_a_card_is_no_damage_and_outlives_a_repair(ledger: Ledger, tmp_path: Path) -> None:
    folder = model_folder(tmp_path / "model", 1.0)
    model = put(ledger, folder)
    there = Path(model.path)
    wanted = digest_of_files(there)
    assert write_card(ledger, NAME, "1", CARD) and has_card(there)
    assert trouble_of(there, wanted) == "" and digest_of_files(there) == wanted
    assert sorted(file.name for file in there.parent.iterdir()) == [there.name], "nothing lies beside the folder"
    assert not write_card(ledger, NAME, "1", CARD.replace("A model", "Another")), "it keeps its first"

    (there / "README.md").write_text(f"{CARD}A word by hand.\n")
    assert local_path(ledger, model.uri) == there
    (there / "model.safetensors").write_bytes(b"noise")
    again = put(ledger, folder)
    assert (again.version, again.is_new) == ("1", False)
    assert trouble_of(there, wanted) == "" and (there / "README.md").read_text().endswith("A word by hand.\n")


def test_what_a_stage_says_of_its_model_gives_way_to_the_card_and_can_be_put_into_it(ledger: Ledger, tmp_path: Path) -> None:
    folder = model_folder(tmp_path / "model", 1.0)
    (folder / "README.md").write_text("# Few-shot prompting\n\nPut it before.\n")
    there = Path(put(ledger, folder).path)
    assert usage_of(folder) == (there / "README.md").read_text() and not has_card(there)
    assert write_card(ledger, NAME, "1", CARD) and has_card(there)
    assert usage_of(there) == "" and usage_of(tmp_path) == ""
    assert local_path(ledger, f"models:/{NAME}/1") == there


def test_a_version_of_before_whose_digest_counts_its_card_stays_as_it_is(ledger: Ledger, tmp_path: Path) -> None:
    folder = model_folder(tmp_path / "model", 1.0)
    (folder / "README.md").write_text("# Few-shot prompting\n")
    there = Path(put(ledger, folder).path)
    counted = sorted((file.name, hashlib.sha256(file.read_bytes()).hexdigest()) for file in there.iterdir())
    of_before = hashlib.sha256(json.dumps(counted).encode()).hexdigest()
    ledger.client.set_model_version_tag(NAME, "1", WEIGHTS_TAG, of_before)
    assert trouble_of(there, of_before) == ""
    assert not write_card(ledger, NAME, "1", CARD)
    assert local_path(ledger, f"models:/{NAME}/1") == there
