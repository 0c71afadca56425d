"""Old names of settings: taken, told, and never beside the new ones."""

import pytest

from posttrain.errors import RequestError
from posttrain.settings.config import Config, merge, renamed
from posttrain.settings.merging import setting_names
from posttrain.settings.renamed import SETTINGS, VALUES


def test_every_new_name_is_a_setting_and_no_old_one_is():
    names = set(setting_names(Config))
    assert set(SETTINGS.values()) <= names and not set(SETTINGS) & names
    assert {name for name, _ in VALUES} <= names


def is_taken(name, value):
    section, leaf = name.split(".")
    try:
        return getattr(getattr(merge({section: {leaf: value}}), section), leaf) == value
    except RequestError:
        return False


@pytest.mark.parametrize(("old", "new"), sorted(SETTINGS.items()))
def test_an_old_name_sets_what_the_new_one_sets_and_is_told(old, new):
    section, leaf = new.split(".")
    value = getattr(getattr(Config(), section), leaf)
    other = next(one for one in ("pairwise", "openai", 0.25, 128, 3.5) if one != value and is_taken(new, one))
    in_file = {section: {old.split(".")[1]: other}}
    assert merge(in_file) == merge({section: {leaf: other}}) != Config()
    assert renamed(in_file) == [f"{old} is called {new} now; the old name is still taken"]
    assert renamed({section: {leaf: other}}) == []
    if section != "split":  # which params.yaml alone may change
        assert merge({}, [f"{old}={other}"]) == merge(in_file)


def test_both_names_at_once_are_refused():
    with pytest.raises(RequestError, match=r"^sft\.warmup is called .*, and both are given: leave sft\.warmup out$"):
        merge({"sft": {"warmup": 0.1}}, ["sft.warmup_ratio=0.2"])


def test_an_old_value_is_taken():
    assert merge({}, ["labels.source=FILE"]).labels.source == "people"
    assert renamed({}, ["labels.source=file"]) == [
        "labels.source=file is called labels.source=people now; the old name is still taken"
    ]


def test_direct_rlaif_is_a_method():
    assert merge({}, ["method=rlaif", "rlaif.direct=true"]).method == "drlaif"
    assert merge({"method": "RLAIF", "rlaif": {"direct": True}}).method == "drlaif"
    assert merge({}, ["method=rlaif", "rlaif.direct=false"]).method == "rlaif"
    assert merge({}, ["method=dpo", "rlaif.direct=true"]).method == "dpo", "it never meant anything there"
    assert renamed({}, ["rlaif.direct=no"]) == ["rlaif.direct is METHOD=drlaif now; the old setting is still taken"]
    with pytest.raises(RequestError, match=r"^rlaif\.direct must be true or false, got maybe; it is METHOD=drlaif now$"):
        merge({}, ["rlaif.direct=maybe"])


def test_what_dvc_versions_is_refused_under_its_old_name_too():
    with pytest.raises(RequestError, match=r"^split\.max_held_out decides what the data are"):
        merge({}, ["split.most_held_out=3"])
