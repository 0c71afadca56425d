"""Profiles: each number is one that its setting takes, from somewhere, and gives way to params.yaml and the command line."""

from itertools import product
from operator import attrgetter
from pathlib import Path

import pytest

from posttrain.errors import RequestError
from posttrain.methods import METHODS
from posttrain.settings.config import Config, flat, merge, model_of, origins
from posttrain.settings.merging import setting_names, tree_of
from posttrain.settings.profiles import LEARNING, SIZES, SMALL_MODEL, TINY_MODEL, Profile, name_for
from posttrain.settings.profiles_page import profiles_page

ROOT = Path(__file__).resolve().parents[3]
REGENERATE = (
    '.venv/bin/python -c "from posttrain.settings.profiles_page import profiles_page; '
    "print(profiles_page(), end='')\" > docs/profiles.md"
)
YES_NO = (False, True)
PROFILES = [Profile(name, is_lora=lora, has_gpu=gpu) for name, lora, gpu in product(("small", "large"), YES_NO, YES_NO)]
SMALL = Profile("small", weights=134_515_008)


def title(profile):
    return f"{profile.title}, {'GPU' if profile.has_gpu else 'CPU'}"


@pytest.mark.parametrize("row", (*LEARNING, *SIZES), ids=attrgetter("setting"))
def test_each_number_is_one_that_its_setting_takes_and_says_where_it_is_from(row):
    default = attrgetter(row.setting)(Config())
    cells = [cell for cell in row.cells if cell]
    assert cells
    for cell in cells:
        found = attrgetter(row.setting)(tree_of(Config, {"ppo.mini_batch_size": 16, row.setting: cell.value}))
        assert found == cell.value and (type(cell.value) is type(default) or cell.value == "auto")
        assert len(cell.source) > 3 and "\n" not in cell.source


def test_a_setting_has_one_row():
    names = [row.setting for row in (*LEARNING, *SIZES)]
    assert len(set(names)) == len(names)


@pytest.mark.parametrize("profile", PROFILES, ids=title)
def test_the_numbers_of_a_profile_fit_each_other_and_every_method(profile):
    config = merge({}, profile=profile)
    assert config.profile is profile
    assert {name: attrgetter(name)(config) for name in profile.numbers()} == {
        name: number.value for name, number in profile.numbers().items()
    }
    for method in METHODS.values():
        size = getattr(getattr(config, method.trainer), "num_generations", 1) if method.loop else 1
        assert config.ppo.episodes % size == 0
    assert config.ppo.max_new_tokens == config.evaluate.max_new_tokens == "auto"
    assert config.kto.batch_size % 2 == 0 and config.dpo.device_batch_size <= config.dpo.batch_size


def test_tiny_is_the_defaults():
    assert all(not Profile("tiny", is_lora=lora, has_gpu=gpu).numbers() for lora, gpu in product(YES_NO, YES_NO))
    assert merge({}, profile=Profile()) == Config() and Config().profile == Profile()
    assert Profile().sentence == ""


def test_columns_are_told_apart():
    """A rate under LoRA is larger, a large model's smaller; a CPU is asked for less than a GPU."""
    numbers = {title(profile): merge({}, profile=profile) for profile in PROFILES}
    names = ("small, full, CPU", "small, LoRA, CPU", "small, full, GPU", "large, full, CPU")
    full, lora, gpu, large = (numbers[name] for name in names)
    for rate in ("sft", "dpo", "kto", "reward_model", "ppo"):
        of = attrgetter(f"{rate}.learning_rate")
        assert of(large) < of(full) < of(lora) and of(gpu) == of(full), rate
    assert (full.ppo.learning_rate, lora.ppo.learning_rate, large.ppo.learning_rate) == (3e-6, 3e-5, 3e-7)
    assert (full.dpo.beta, large.dpo.beta) == (0.5, 0.1)
    assert full.ppo.updates < gpu.ppo.updates == Config().ppo.updates and full.ppo.updates == lora.ppo.updates
    assert full.evaluate.max_questions == 200 and gpu.evaluate.max_questions == 0
    assert large.sft.device_batch_size < full.sft.device_batch_size <= Config().sft.device_batch_size


def test_a_default_gives_way_to_the_profile_that_to_params_and_that_to_the_command_line():
    params = {"dpo": {"beta": 0.3, "epochs": 7}, "sft": None}
    words = ["dpo.beta=0.7"]
    config = merge(params, words, profile=SMALL)
    assert (config.dpo.beta, config.dpo.epochs, config.dpo.learning_rate, config.dpo.nll_weight) == (0.7, 7.0, 1e-6, 1.0)
    places = origins(params, words, profile=SMALL)
    names = ("dpo.beta", "dpo.epochs", "dpo.learning_rate", "dpo.nll_weight")
    assert [places[name] for name in names] == ["command line", "params.yaml", "profile small, full", "default"]
    assert list(places) == setting_names(Config)
    assert set(origins({}, profile=Profile()).values()) == {"default"}


def test_an_old_name_goes_before_the_profile_too():
    assert merge({"ppo": {"mini_batch": 16}}, profile=SMALL).ppo.mini_batch_size == 16
    assert merge({}, ["evaluate.most_questions=7"], profile=SMALL).evaluate.max_questions == 7
    assert origins({}, ["evaluate.most_questions=7"], profile=SMALL)["evaluate.max_questions"] == "command line"


def test_what_fits_only_beside_the_profile_is_taken():
    """32 episodes are no multiple of the default's 64 in a mini-batch, and they are one of the profile's 32."""
    assert merge({}, ["ppo.episodes=32"], profile=SMALL).ppo.episodes == 32
    with pytest.raises(RequestError, match="episodes must be a multiple of mini_batch_size"):
        merge({}, ["ppo.episodes=32"])


@pytest.mark.parametrize(
    ("weights", "name"),
    [(1, "tiny"), (TINY_MODEL, "tiny"), (TINY_MODEL + 1, "small"), (SMALL_MODEL, "small"), (SMALL_MODEL + 1, "large")],
)
def test_the_weights_decide(weights, name):
    assert name_for(weights) == name


def test_a_wrong_name():
    with pytest.raises(RequestError, match=r"^model\.profile must be one of 'auto', 'tiny', 'small' or 'large', got huge$"):
        model_of({}, ["model.profile=huge"])


def test_the_base_is_read_without_the_other_settings():
    """They may fit only beside the profile, which the base decides."""
    model = model_of({"model": {"base": "a", "lora_rank": 4}, "dpo": {"bta": 1}}, ["model.base=b", "ppo.episodes=7"])
    assert (model.base, model.lora_rank, model.profile) == ("b", 4, "auto")


def test_a_name_for_the_profile_enters_no_key():
    """What it sets enters them, value by value."""
    assert flat(merge({}, ["model.profile=large"]).model) == flat(Config().model)
    assert flat(merge({}, profile=SMALL).dpo) != flat(Config().dpo)


def test_a_run_says_which_profile_it_took():
    assert SMALL.sentence == (
        "profile small, full, sizes for a CPU: the base has 135 M weights (make settings lists the values; docs/profiles.md)"
    )
    large = Profile("large", is_lora=True, has_gpu=True, weights=7_241_732_096)
    assert large.sentence.startswith("profile large, LoRA, sizes for a GPU: the base has 7.2 B weights (")
    assert Profile("large").sentence.startswith("profile large, full, sizes for a CPU: named by model.profile (")


def test_the_page_is_current():
    is_current = (ROOT / "docs" / "profiles.md").read_text(encoding="utf-8") == profiles_page()
    assert is_current, f"docs/profiles.md is not what posttrain/settings/profiles.py says. Make it again:\n{REGENERATE}"


@pytest.mark.parametrize("row", (*LEARNING, *SIZES), ids=attrgetter("setting"))
def test_the_page_has_each_number_and_each_source(row):
    lines = profiles_page().splitlines()
    (cells,) = [line.split(" | ")[1:] for line in lines if line.startswith(f"| `{row.setting}` | ")]
    told = [cell.removesuffix(" |").strip() for cell in cells[1:]]
    assert [float(cell) if cell[:1].isdigit() else cell for cell in told] == [cell.value if cell else "" for cell in row.cells]
    (sources,) = [line for line in lines if line.startswith(f"- `{row.setting}`: ")]
    assert all(cell.source in sources for cell in row.cells if cell)
