"""`make settings`: exactly what a method reads, found out a second way, with each value's origin and reason."""

import shutil

import pytest

from flows import settings_verb as subject
from flows.settings_verb import read_by, settings_lines
from posttrain.methods import METHODS
from posttrain.settings.config import Config, merge, origins
from posttrain.settings.merging import setting_names
from posttrain.settings.profiles import Profile
from tasks.tracking.parameters import parameters_from_stage, parameters_of_request, parameters_of_stage
from tests.flows.test_probe import ROOT, house, prober

__all__ = ["house"]
SMALL = Profile("small", weights=134_515_008)


@pytest.fixture(autouse=True)
def _judges(house):
    shutil.copytree(ROOT / "data" / "judges", house.data / "judges")


@pytest.fixture
def lines(house, monkeypatch):
    """Return what the verb prints, by words."""
    monkeypatch.setattr(subject, "check_settings", lambda config, paths: None)
    monkeypatch.setattr(subject, "bring_up_to_date", lambda paths, name: prober(house).data)

    def printed(*words, profile=SMALL, params=None):
        said = []
        config = merge(params or {}, words, profile=profile)
        found = settings_lines(house, config, origins(params or {}, words, profile=profile), said.append)
        assert said == []
        return found

    return printed


@pytest.mark.parametrize("method", METHODS)
def test_it_lists_the_parameters_of_the_methods_run_and_beside_them_what_decides_nothing(house, lines, method):
    config = merge({}, [f"method={method}"])
    parameters = set(parameters_of_request(config))
    for stage in prober(house).probe(config).stages:
        parameters |= set(parameters_from_stage(parameters_of_stage(stage.settings, config.row)))
    if "question_share" in parameters:
        parameters = parameters - {"question_share"} | {"sample.question_share"}
    if config.row.adjusts:
        replaced = {f"ppo.{name}" for name in type(config.rlhf).model_fields}
        parameters = parameters - replaced | {f"rlhf.{name}" for name in type(config.rlhf).model_fields}
    listed = [line.split()[0] for line in lines(f"method={method}")[3:]]
    free = {name for name in listed if name.rpartition(".")[2] not in deciding(name)}
    assert set(listed) - free == parameters & set(setting_names(Config))
    assert listed == [name for name in setting_names(Config) if name in listed] and len(set(listed)) == len(listed)


def deciding(name):
    section = name.partition(".")[0]
    return type(getattr(Config(), section)).deciding() if "." in name else [section]


ASKED = (
    *("sft.epochs", "dpo.beta", "rlhf.kl_coef", "ppo.kl_coef", "ppo.updates", "reward_model.epochs", "grpo.kl_coef"),
    *("sample.question_share", "evaluate.samples", "labels.overlap", "judge.samples", "few_shot.shots"),
)


@pytest.mark.parametrize("method", ["sft", "rlhf"])
def test_what_is_listed_moves_a_key_and_what_is_not_does_not(house, method):
    """The same question put to the keys: another value of a setting, one at a time."""
    config, asked = merge({}, [f"method={method}"]), prober(house)
    read, before = read_by(config, asked.probe(config)), keys(asked.probe(config))
    for name in ASKED:
        value = 0.3 if "share" in name or "overlap" in name else 7
        changed = keys(asked.probe(merge({}, [f"method={method}", f"{name}={value}"])))
        assert (changed != before) is (name in read), name


def keys(found):
    return [stage.key for stage in found.stages]


def test_a_line_says_value_origin_and_reason(lines):
    told = lines("method=dpo", "dpo.beta=0.7", params={"sft": {"epochs": 4}})
    rows = {line.split()[0]: " ".join(line.split()[1:]) for line in told[2:]}
    assert told[0] == f"METHOD=dpo DATA=world; {SMALL.sentence}" and told[1] == ""
    assert rows["setting"] == "value from why"
    assert rows["dpo.beta"] == "0.7 command line"
    assert rows["sft.epochs"] == "4 params.yaml"
    assert rows["dpo.nll_weight"] == "1 default"
    assert rows["dpo.learning_rate"].startswith("1e-06 profile small, full SmolLM2's recipe")
    assert rows["model.revision"] == "none default" and rows["evaluate.judge"] == "false default"
    assert rows["evaluate.batch_size"].startswith("64 profile small, full ours: ")


def test_the_tiny_base_has_the_defaults(lines):
    told = lines("method=sft", profile=Profile())
    assert told[0] == "METHOD=sft DATA=world; profile tiny, full: the defaults, made for the tiny base"
    assert all(line.split()[-1] in ("default", "line") for line in told[3:])


def test_rlhf_lists_its_own_kl_and_no_method_what_another_is_paid_by(lines):
    rlhf, grpo, sft = ([line.split()[0] for line in lines(f"method={name}")[3:]] for name in ("rlhf", "grpo", "sft"))
    assert "rlhf.kl_coef" in rlhf and "ppo.kl_coef" not in rlhf and "ppo.reward" not in rlhf and "reward_model.epochs" in rlhf
    assert "ppo.reward" in grpo and "grpo.num_generations" in grpo and "reward_model.epochs" not in grpo
    assert {name.partition(".")[0] for name in sft} == {
        "method",
        "seed",
        "data",
        "validation",
        "model",
        "tiny",
        "pretrain",
        "sft",
        "evaluate",
    }
