"""Settings: defaults ← params.yaml ← command line, and every refusal with its exact sentence."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from posttrain.errors import RequestError
from posttrain.methods import METHODS
from posttrain.settings.config import VERSIONED_BY_DVC, Config, flat, merge
from posttrain.settings.merging import setting_names
from posttrain.settings.renamed import SETTINGS

NAMES = setting_names(Config)

ANY_VALUE = {  # names of each kind with values that they take
    "seed": st.integers(0, 2**31),
    "method": st.sampled_from(sorted(METHODS)),
    "data.name": st.from_regex(r"\A[A-Za-z0-9][A-Za-z0-9_.-]{0,9}\Z"),
    "validation.max_critical_share": st.floats(0, 1),
    "model.context": st.integers(1, 10_000),
    "model.revision": st.one_of(st.none(), st.from_regex(r"\A[a-mA-M][a-z0-9]{4}\Z")),
    "model.dtype": st.sampled_from(["auto", "float32", "bfloat16"]),
    "sft.learning_rate": st.floats(1e-9, 1),
    "sft.epochs": st.floats(0.1, 100),
    "dpo.beta": st.floats(1e-6, 10),
    "dpo.nll_weight": st.floats(0, 10),
    "kto.desirable_weight": st.one_of(st.none(), st.floats(1e-6, 10)),
    "labels.flip_rate": st.floats(0, 0.49),
    "labels.ties": st.sampled_from(["equal", "forced", "shorter"]),
    "evaluate.samples": st.integers(1, 64),
}
SOME_VALUES = st.fixed_dictionaries({}, optional=ANY_VALUE)


def value_of(config, name):
    for part in name.split("."):
        config = getattr(config, part)
    return config


def nested(values):
    tree = {}
    for name, value in values.items():
        *sections, leaf = name.split(".")
        branch = tree
        for section in sections:
            branch = branch.setdefault(section, {})
        branch[leaf] = value
    return tree


def refusal(params, *overrides):
    with pytest.raises(RequestError) as caught:
        merge(params, overrides)
    return str(caught.value)


def test_without_anything_the_defaults_stand():
    assert merge({}) == Config()


def test_every_leaf_is_listed_once_and_can_be_read():
    assert len(set(NAMES)) == len(NAMES)
    assert {"seed", "method", "dpo.beta", "world.careful_share"} <= set(NAMES)
    for name in NAMES:
        value_of(Config(), name)


def test_the_command_line_wins_over_params_and_params_over_defaults():
    config = merge({"dpo": {"beta": 0.7, "epochs": 3}}, ["dpo.beta=0.2"])
    assert (config.dpo.beta, config.dpo.epochs, config.dpo.batch_size) == (0.2, 3.0, 64)


def test_the_last_of_two_overrides_wins():
    assert merge({}, ["seed=1", "seed=2"]).seed == 2


def test_white_space_around_name_and_value_is_no_part_of_them():
    assert merge({}, [" dpo.beta = 0.2 "]).dpo.beta == 0.2


def test_a_value_may_hold_an_equals_sign():
    assert merge({}, ["tracking.uri=http://host:5000/?a=b"]).tracking.uri == "http://host:5000/?a=b"


def test_the_exponent_that_yaml_reads_as_text_is_a_number():
    assert merge({"sft": {"learning_rate": "1e-5"}}).sft.learning_rate == 1e-5
    assert merge({}, ["sft.learning_rate=1e-5"]).sft.learning_rate == 1e-5


def test_a_number_is_taken_for_a_name_where_a_name_is_wanted():
    config = merge({"data": {"name": 2024}, "model": {"revision": 2}})
    assert (config.data.name, config.model.revision) == ("2024", "2")


@pytest.mark.parametrize("nothing", ["none", "null", "None"])
def test_none_is_nothing_only_where_nothing_is_allowed(nothing):
    assert merge({"model": {"revision": "v1"}}, [f"model.revision={nothing}"]).model.revision is None
    assert merge({}, [f"model.base={nothing}"]).model.base == nothing


@given(SOME_VALUES)
def test_what_goes_in_nested_comes_out_by_name(values):
    config = merge(nested(values))
    for name in NAMES:
        assert value_of(config, name) == (values[name] if name in values else value_of(Config(), name))


@given(SOME_VALUES)
def test_the_command_line_says_the_same_as_params(values):
    assert merge({}, [f"{name}={value}" for name, value in values.items()]) == merge(nested(values))


@given(SOME_VALUES)
def test_a_config_survives_being_written_and_merged_again(values):
    config = merge(nested(values))
    assert merge(config.model_dump(mode="json")) == config


def test_flat_names_the_settings_of_one_section_and_no_others():
    told = flat(merge({}, ["dpo.beta=0.2"]).dpo)
    assert told["dpo.beta"] == 0.2
    assert {name for name in NAMES if name.startswith("dpo.")} - set(told) == {"dpo.device_batch_size"}, "it decides nothing"
    assert all(name.startswith("dpo.") for name in told)


def test_a_batch_size_that_decides_nothing_is_in_no_stage_key():
    def keys(*overrides):
        config = merge({}, overrides)
        return {**flat(config.evaluate), **flat(config.sample)}

    assert {name for name in NAMES if name.startswith(("evaluate.", "sample."))} - set(keys()) == {
        "evaluate.batch_size",
        "evaluate.judge",
        "evaluate.tasks",
        "evaluate.task_questions",
        "sample.batch_size",
    }, "and what is asked beside the questions, by a judge or of other tasks: stages of their own"
    assert keys("evaluate.batch_size=3", "sample.batch_size=7") == keys()
    assert keys("evaluate.temperature=0.5") != keys() != keys("sample.per_prompt=4")
    assert "sft.batch_size" in flat(merge({}).sft), "a batch of training decides what is learnt"


def test_the_tree_is_frozen():
    with pytest.raises(ValidationError, match="frozen"):
        Config().dpo.beta = 1.0
    with pytest.raises(ValidationError, match="frozen"):
        Config().seed = 1


@pytest.mark.parametrize(
    ("override", "sentence"),
    [
        ("dpo.bta=1", "there is no setting dpo.bta; did you mean dpo.beta?"),
        ("kl=1", "there is no setting kl (all are listed in docs/settings.md)"),
        ("seed", "'seed' is not a setting: write name=value, for example dpo.beta=0.2"),
        ("=3", "'=3' is not a setting: write name=value, for example dpo.beta=0.2"),
        ("method=dop", "there is no method dop; did you mean dpo?; methods are " + ", ".join(METHODS)),
        ("seed=-1", "seed must be at least 0, got -1"),
        ("seed=1.5", "seed must be a whole number, got 1.5"),
        ("dpo.beta=0", "dpo.beta must be greater than 0.0, got 0"),
        ("dpo.beta=much", "dpo.beta must be a number, got much"),
        ("dpo.beta=inf", "dpo.beta must be a finite number, got inf"),
        ("dpo.beta=nan", "dpo.beta must be a finite number, got nan"),
        ("sft.warmup_ratio=1.1", "sft.warmup_ratio must be at most 1.0, got 1.1"),
        ("sft.warmup_ratio=nan", "sft.warmup_ratio must be at most 1.0, got nan"),
        ("labels.flip_rate=0.5", "labels.flip_rate must be less than 0.5, got 0.5"),
        ("tiny.width=20", "tiny.width must be a multiple of 8, got 20"),
        ("tiny.heads=5", "tiny: width must be a multiple of twice heads (10), got 64"),
        ("labels.source=x", "labels.source must be one of 'auto', 'simulated', 'dataset', 'judge' or 'people', got x"),
        (
            "world.seed=1",
            "world.seed decides what the data are, which DVC versions: change it in params.yaml, then run make data",
        ),
        (
            "split.held_out=0.2",
            "split.held_out decides what the data are, which DVC versions: change it in params.yaml, then run make data",
        ),
    ],
)
def test_a_refused_override_says_name_value_and_rule(override, sentence):
    assert refusal({}, override) == sentence


@pytest.mark.parametrize("name", ["../secrets", "/etc", "", ".hidden", "a b", "ä"])
def test_a_dataset_name_cannot_leave_its_folder(name):
    assert refusal({}, f"data.name={name}").startswith("data.name must ")


def test_a_section_given_a_value_is_told_its_settings():
    listed = ", ".join(name for name in NAMES if name.startswith("data."))
    assert refusal({"data": "world"}) == f"there is no setting data; data is a section, its settings are {listed}"


def test_every_wrong_value_is_told_in_one_go():
    assert refusal({}, "seed=-1", "dpo.beta=0") == "seed must be at least 0, got -1\ndpo.beta must be greater than 0.0, got 0"


def test_a_true_in_yaml_is_no_number():
    assert refusal({"seed": True}) == "seed must be a whole number, got true"


def test_params_may_change_what_the_command_line_may_not():
    assert set(VERSIONED_BY_DVC) == {"world", "split"}
    assert merge({"world": {"seed": 3}, "split": {"held_out": 0.2}}).world.seed == 3


@given(st.text(alphabet=st.characters(codec="utf-8", exclude_characters="="), min_size=1).filter(lambda name: name.strip()))
def test_whatever_the_name_a_refusal_is_a_request_error(name):
    if name.strip() not in (*NAMES, *SETTINGS):
        assert re.match(r"there is no setting ", refusal({}, f"{name}=1"))


def test_a_part_of_a_section_gives_what_its_key_holds_and_what_decides_nothing():
    part = merge({}, ["judge.practice_steps=7"]).judge.only("practice_steps", "slip_share")
    assert flat(part) == {"judge.practice_steps": 7, "judge.slip_share": 0.1}
    assert part.practice_steps == 7 and part.concurrency == 4
    with pytest.raises(AttributeError, match=r"^JudgeSettings\.mode is not among the settings in this stage's key: "):
        _ = part.mode
    for name in ("concurrency", "practise"):
        with pytest.raises(TypeError, match=rf"^JudgeSettings has no deciding setting {name}$"):
            merge({}).judge.only(name)
