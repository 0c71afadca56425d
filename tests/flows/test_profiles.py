"""Which profile a request gets, that every verb gets the same, and what a run, a refusal and a retraining say of it."""

import os
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from flows import profiles as subject
from flows.__main__ import configuration
from flows.notes import notes_on_training
from flows.pipeline import check, check_settings
from flows.profiles import profile_for, require_profile
from flows.retrain import command_of
from posttrain.errors import RequestError
from posttrain.settings.config import Config, merge
from posttrain.settings.profiles import Profile
from tasks.base_model.identity import multiplies_bfloat16
from tasks.workspace.paths import Paths
from tests.tasks.base_model.test_counting import folder


@pytest.fixture(autouse=True)
def _here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(subject, "device_type", lambda: "cpu")
    monkeypatch.setattr(subject, "multiplies_bfloat16", lambda: False)
    (tmp_path / "params.yaml").write_text("# nothing differs from the defaults\n")
    before = dict(os.environ)
    yield
    os.environ.clear()
    os.environ.update(before)


def base(name="base", rows=2_000):
    """Write what says of itself that it has `rows` × 10,000 weights."""
    return folder(Path(name), {"a": [rows, 10_000]})


def chosen(*words, **params):
    return profile_for(params, words)


def test_the_tiny_base_has_the_defaults_however_large_it_is_made():
    assert chosen() == Profile() and chosen("model.lora_rank=4") == Profile(is_lora=True)
    assert chosen("tiny.width=4096", "tiny.layers=48") == Profile()
    assert configuration(Paths(Path()), []) == Config()


@pytest.mark.parametrize(("rows", "name"), [(1_000, "tiny"), (1_001, "small"), (100_000, "small"), (100_001, "large")])
def test_the_weights_of_a_directory_choose(rows, name):
    assert chosen(f"model.base=./{base(rows=rows)}").name == name


def test_how_it_is_trained_and_where(monkeypatch):
    here = f"model.base={base()}"
    assert chosen(here) == Profile("small", weights=20_000_000)
    assert chosen(here, model={"lora_rank": 8}) == Profile("small", is_lora=True, weights=20_000_000)
    monkeypatch.setattr(subject, "multiplies_bfloat16", lambda: True)
    assert chosen(here) == Profile("small", weights=20_000_000, has_bfloat16=True)
    assert chosen() == Profile(), "the tiny base is quicker in float32"
    assert configuration(Paths(Path()), [here]).model.dtype == "bfloat16"
    assert configuration(Paths(Path()), [here, "model.dtype=float32"]).model.dtype == "float32"
    monkeypatch.setattr(subject, "device_type", lambda: "cuda")
    assert chosen(here) == Profile("small", has_gpu=True, weights=20_000_000)
    assert configuration(Paths(Path()), [here]).model.dtype == "auto"


@pytest.mark.parametrize(
    ("text", "has"),
    [
        ("processor: 0\nflags\t\t: fpu avx512f avx512_bf16 avx512vl\n", True),
        ("flags : fpu amx_bf16 amx_tile\n", True),
        ("flags : fpu avx2 avx512f avx512_bf16x\nbugs : amx_bf16\n", False),
        ("", False),
        (None, False),
    ],
)
def test_the_flags_of_the_processor_say_whether_it_multiplies_in_bfloat16(text, has, tmp_path):
    if text is not None:
        (tmp_path / "cpuinfo").write_text(text)
    assert multiplies_bfloat16(tmp_path / "cpuinfo") is has


def test_a_profile_that_is_named_is_taken_and_nothing_is_counted(monkeypatch):
    monkeypatch.setattr(subject, "count_weights", lambda *_, **__: pytest.fail("it is counted"))
    assert chosen("model.base=ann/model", "model.profile=large") == Profile("large")
    assert chosen("model.base=ann/model", "model.profile=tiny") == Profile()
    assert chosen("model.profile=small") == Profile("small"), "of the tiny base too"


def test_params_and_command_line_go_before_it():
    Path("params.yaml").write_text(f"model:\n  base: ./{base()}\ndpo:\n  beta: 0.3\n")
    config = configuration(Paths(Path()), ["dpo.epochs=5"])
    assert (config.dpo.beta, config.dpo.epochs, config.dpo.learning_rate) == (0.3, 5.0, 1e-6)
    assert config.profile == Profile("small", weights=20_000_000)


@pytest.fixture
def is_loadable(monkeypatch):
    """Let a base pass whose files are headers alone."""
    for name in ("locate_base", "check_prompts"):
        monkeypatch.setattr(f"flows.pipeline.{name}", lambda *_: None)


def test_one_line_of_a_run_names_it_and_so_does_its_report(is_loadable):
    config = configuration(Paths(Path()), ["method=sft", f"model.base=./{base()}"])
    assert check(config, Paths(Path())) == [config.profile.sentence]
    assert config.profile.sentence.startswith("profile small, full, sizes for a CPU: the base has 20 M weights")
    assert check(configuration(Paths(Path()), ["method=sft"]), Paths(Path())) == []

    feedback = SimpleNamespace(labels=None, reward_model=None, samples=None)
    outcomes = SimpleNamespace(feedback=feedback, models={}, reward=None, audit=None)

    def notes_of(config):
        return notes_on_training(SimpleNamespace(config=config, done=[], has_run=lambda name: False), outcomes)

    assert config.profile.sentence in notes_of(config)
    assert not any("profile" in line for line in notes_of(merge({}, ["method=sft"])))


def test_a_base_that_nobody_can_count_stops_training_and_nothing_else(monkeypatch, is_loadable):
    def refuse(base, *, revision):
        raise RequestError(f"model.base={base}: no.")

    monkeypatch.setattr(subject, "count_weights", refuse)
    config = configuration(Paths(Path()), ["model.base=ann/model", "model.lora_rank=2"])
    assert config.profile == Profile(is_lora=True, trouble="model.base=ann/model: no.")
    told = (
        "model.base=ann/model: no. So nothing tells which defaults fit it. Name the profile yourself: "
        'SET="model.profile=small" (to 1 B weights) or SET="model.profile=large"'
    )
    for refused in (lambda: require_profile(config), lambda: check_settings(config, Paths(Path()))):
        with pytest.raises(RequestError) as error:
            refused()
        assert str(error.value) == told
    require_profile(configuration(Paths(Path()), ["model.base=ann/model", "model.profile=small"]))


def test_a_wrong_directory_is_told_as_it_always_was():
    config = configuration(Paths(Path()), ["model.base=./nowhere"])
    with pytest.raises(RequestError, match="there is no such directory"):
        check_settings(config, Paths(Path()))


def test_a_wrong_setting_of_the_base_is_refused_as_any():
    with pytest.raises(RequestError, match=r"^model\.lora_rank must be at least 0, got -1$"):
        chosen("model.lora_rank=-1")


def test_the_command_of_a_retraining_does_not_freeze_what_the_profile_sets():
    Path("params.yaml").write_text("dpo:\n  beta: 0.3\n")
    config = configuration(Paths(Path()), [f"model.base=./{base()}", "seed=4"])
    assert command_of(Paths(Path()), config) == "make retrain METHOD=dpo DATA=world SET='seed=4 model.base=./base'"


def test_four_bits_are_refused_before_a_base_is_looked_for(monkeypatch):
    monkeypatch.setattr("models.load.device", lambda: torch.device("cpu"))
    config = configuration(
        Paths(Path()), ["model.base=./none", "model.profile=small", "model.lora_rank=2", "model.quantization=nf4"]
    )
    with pytest.raises(RequestError, match=r"^model.quantization=nf4 saves memory of a GPU, and this machine has none"):
        check(config, Paths(Path()))
