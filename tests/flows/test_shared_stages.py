"""Two workers in checkouts of their own, in folders of different users, share stages by one address."""

import pytest

from tests.flows.houses import new_house, report, run

pytest.importorskip("obstore", reason="obstore is not installed here: the extra store")
pytestmark = pytest.mark.slow


def test_another_checkout_trains_nothing_that_is_there(tmp_path):
    uri = (tmp_path / "shared").as_uri()
    houses = []
    for folder in (tmp_path / "ann" / "work", tmp_path / "ben" / "elsewhere" / "copy"):
        folder.mkdir(parents=True)
        houses.append(new_house(folder))
    one, two = houses
    run(one, "pipeline", "method=sft", f"store.uri={uri}")
    run(two, "pipeline", "method=sft", f"store.uri={uri}")
    made, taken = (report(house)["stages"] for house in houses)
    assert [(stage["name"], stage["key"]) for stage in made] == [(stage["name"], stage["key"]) for stage in taken]
    assert not any(stage["cached"] for stage in made) and all(stage["cached"] for stage in taken)
    told = [report(house)["models"]["sft"] for house in houses]
    assert told[0] == told[1]
    # another seed shares what does not depend on it, and puts the rest there
    run(two, "pipeline", "method=sft", f"store.uri={uri}", "seed=1")
    fresh = {stage["name"] for stage in report(two)["stages"] if not stage["cached"]}
    assert "sft" in fresh and "tokenizer" not in fresh
    uploaded = {path.parent.parent.name for path in (tmp_path / "shared").rglob("made.json")}
    assert {"tokenizer", "validate", "base", "sft"} <= uploaded
