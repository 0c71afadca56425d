"""What is another since a model was made: by stage, told in words, and the fingerprint of a whole retraining."""

from dataclasses import replace

import pytest

from posttrain.retraining.changes import Changes, Made, Stage, changes, fingerprint

FILES = {"demonstrations": "a1", "questions": "b1", "held_out": "c1"}
DPO = {"dpo.beta": 0.1, "dpo.epochs": 3, "seed": 0, "device": "cpu", "context": 128}


def made(**other):
    """Return a pipeline of three stages; the digest of one is an input of the next."""
    stages = (
        Stage("validate", "k-validate", {"validation.min_characters": 1}, {"data": "d1", "expectations": "e1"}, "r-validate"),
        Stage("base", "k-base", {"model.dtype": "float32"}, {"base": "tiny", "data": "r-validate"}, "r-base"),
        Stage("dpo", "k-dpo", dict(DPO), {"data": "r-validate", "start": "r-base", "reward": "w1"}, "r-dpo"),
    )
    how = {"method": "dpo", "data_md5": "1" * 32, "files": FILES, "stages": stages, "versions": {"torch": "2.12", "trl": "1.16"}}
    return Made(**(how | other))


def with_stage(then, name, **other):
    return replace(then, stages=tuple(replace(one, **other) if one.name == name else one for one in then.stages))


def test_equal_keys_are_no_change_whatever_else_is_told():
    now = made(data_md5="2" * 32, files={}, versions={"torch": "9"})
    found = changes(made(), now, recoded={"dpo"})
    assert found == Changes() and not found and found.kinds == ()
    assert found.says == "nothing that matters has changed"
    # a stage that the champion's pipeline had beside these asks for nothing
    assert not changes(made(), replace(now, stages=now.stages[:2]))


def test_a_setting_is_named_with_both_values():
    now = with_stage(made(), "dpo", key="k2", settings=DPO | {"dpo.beta": 0.2, "context": 64, "seed": 1})
    found = changes(made(), now)
    assert found.settings == (("dpo.beta", 0.1, 0.2), ("seed", 0, 1)) and found.stages == ("dpo",)
    assert found.kinds == ("settings",) and found.says == "settings (dpo.beta 0.1 → 0.2, seed 0 → 1)"
    assert found.as_record()["settings"] == {"dpo.beta": ["0.1", "0.2"], "seed": ["0", "1"]}


def test_a_limit_that_the_gate_has_not_decided_yet_is_no_other_setting():
    then = with_stage(made(), "dpo", settings=DPO | {"evaluate.max_new_tokens": "96", "model.dtype": "float32"})
    now = with_stage(made(), "dpo", key="k2", settings=DPO | {"evaluate.max_new_tokens": "auto", "model.dtype": "auto"})
    assert changes(then, now).settings == (("model.dtype", "float32", "auto"),)


def test_a_setting_as_json_keeps_it_is_the_same_setting():
    then = with_stage(made(), "dpo", settings=DPO | {"dpo.layers": ["a", "b"], "dpo.note": None})
    now = with_stage(made(), "dpo", key="k2", settings=DPO | {"dpo.layers": ("a", "b"), "dpo.note": None})
    assert changes(then, now).settings == ()


def test_roles_whose_files_are_others_are_named():
    now = made(data_md5="2" * 32, files={**FILES, "questions": "b2", "pairs": "p"})
    now = with_stage(
        with_stage(now, "validate", key="k2", digest="r2", inputs={"data": "d2", "expectations": "e1"}), "dpo", key="k3"
    )
    found = changes(made(), now)
    assert found.data == ("pairs", "questions") and found.kinds == ("data",)
    assert found.says == "data (pairs, questions; 11111111 → 22222222)"
    # results of a stage that is another are no inputs from outside
    moved = with_stage(now, "dpo", inputs={"data": "r2", "start": "r-base", "reward": "w1"})
    assert changes(made(), moved).inputs == ()


def test_data_of_which_no_file_is_known_is_told_by_its_version():
    now = with_stage(made(data_md5="2" * 32), "validate", key="k2")
    found = changes(made(files={}), now)
    assert found.says == "data (11111111 → 22222222)" and found.as_record()["data"] == []


def test_code_is_named_only_where_the_stage_is_another():
    now = with_stage(made(), "dpo", key="k2")
    found = changes(made(), now, recoded={"dpo", "base"})
    assert found.code == ("dpo",) and found.says == "the code of dpo"
    libraries = changes(made(), replace(now, versions={"torch": "2.13", "trl": "1.16", "new": "1"}))
    assert libraries.libraries == (("torch", "2.12", "2.13"),) and libraries.says == "libraries (torch 2.12 → 2.13)"


def test_what_comes_from_outside_is_named_with_its_stage():
    now = with_stage(made(), "base", key="k2", inputs={"base": "other", "data": "r-validate"})
    found = changes(made(), now)
    assert found.inputs == ("base: base",) and found.says == "other inputs (base: base)"
    # a stage whose settings are not known anymore can have been anything, and one that is the same has no other inputs
    assert changes(with_stage(made(), "base", settings=None), now).inputs == ()
    assert changes(made(), with_stage(made(), "base", inputs={"base": "other"})).inputs == ()
    # a stage that is not there yet is stood in for by its key
    to_come = with_stage(with_stage(made(), "base", key="k2", digest="to come: k2"), "dpo", key="k3")
    to_come = with_stage(to_come, "dpo", inputs={"data": "r-validate", "start": "to come: k2", "reward": "w1"})
    assert changes(made(), to_come, recoded={"base"}).inputs == ()


def test_another_method_is_told_and_settings_that_only_one_has_are_not():
    now = with_stage(made(method="kto"), "dpo", key="k2", settings={"kto.beta": 0.1, "seed": 0})
    found = changes(made(), now)
    assert found.method == ("dpo", "kto") and found.settings == () and found.says == "the method (dpo → kto)"


def test_of_a_pipeline_of_which_nothing_is_left_nothing_can_be_named():
    bare = made(stages=tuple(Stage(one.name, f"old {one.key}") for one in made().stages), versions={})
    found = changes(bare, made())
    assert found.kinds == () and found.says == "nothing that can be named"
    assert found and found.stages == ("validate", "base", "dpo")
    # of a champion that no pipeline of this ledger made, neither data nor method are known
    assert changes(Made(method="", data_md5=""), made()).kinds == ()


def test_a_long_list_is_cut_and_counted():
    settings = {f"dpo.s{number}": number for number in range(5)}
    then = with_stage(made(), "dpo", settings=settings)
    now = with_stage(made(), "dpo", key="k2", settings={name: value + 1 for name, value in settings.items()})
    assert changes(then, now).says == "settings (dpo.s0 0 → 1, dpo.s1 1 → 2, dpo.s2 2 → 3, 2 more)"
    del settings["dpo.s4"]
    four = with_stage(made(), "dpo", key="k2", settings={name: value + 1 for name, value in settings.items()})
    assert changes(then, four).says == "settings (dpo.s0 0 → 1, dpo.s1 1 → 2, dpo.s2 2 → 3, 1 more)"
    del settings["dpo.s3"]
    three = with_stage(made(), "dpo", key="k2", settings={name: value + 1 for name, value in settings.items()})
    assert changes(then, three).says == "settings (dpo.s0 0 → 1, dpo.s1 1 → 2, dpo.s2 2 → 3)"


@pytest.mark.parametrize(
    ("other", "how"),
    [
        (with_stage(made(), "dpo", key="k2"), {}),
        (made(), {"champion": "4"}),
        (made(), {"champion": None}),
        (made(), {"gate": {"promotion.margin": 0.01}}),
    ],
)
def test_a_fingerprint_is_another_where_anything_that_decides_is(other, how):
    usual = {"champion": "3", "gate": {"promotion.margin": 0.0}}
    assert fingerprint(made(), **usual) != fingerprint(other, **(usual | how))


def test_a_fingerprint_does_not_depend_on_the_order_of_stages_nor_on_what_decides_nothing():
    other = made(stages=made().stages[::-1], data_md5="2" * 32, files={}, versions={})
    usual = {"champion": "3", "gate": {"a": 1, "b": 2}}
    assert fingerprint(made(), **usual) == fingerprint(other, champion="3", gate={"b": 2, "a": 1})
