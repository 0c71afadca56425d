"""`max_new_tokens=auto` becomes a number behind the gate, in one place; which references do not fit is said with the count."""

import json
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from flows.lengths import beyond, decided, limits_of, resolve_limits, with_limits
from flows.pipeline import check_settings
from posttrain.data.lengths import Lengths
from posttrain.errors import RequestError
from posttrain.settings.config import Config, merge
from posttrain.settings.section import tokens_of
from tasks.validation.lengths import LENGTHS
from tasks.workspace.paths import Paths

SHOWN = Lengths("demonstrations", {20: 95, 74: 4, 300: 1}, {30: 100})
AUTO = ("evaluate.max_new_tokens=auto", "ppo.max_new_tokens=auto")


@dataclass
class Behind:
    """A run whose data gate wrote `lengths.json`."""

    folder: Path
    config: Config
    context: int = 512
    limits: list[str] = field(default_factory=list)
    cut_off: list[str] = field(default_factory=list)
    said: list[str] = field(default_factory=list)

    @property
    def data(self) -> Any:
        return SimpleNamespace(path=self.folder)

    @property
    def network(self) -> dict[str, Any]:
        return {"context": self.context}

    def say(self, line: str) -> None:
        self.said.append(line)


def behind(folder: Path, *words: str) -> Behind:
    counts = {"demonstrations": {"completions": SHOWN.references, "prompts": {}}, "questions": {"prompts": SHOWN.prompts}}
    (folder / LENGTHS).write_text(json.dumps(counts))
    return Behind(folder, merge({}, words))


def test_auto_becomes_the_number_in_both_sections(tmp_path):
    run = behind(tmp_path, "method=reft", *AUTO)
    resolve_limits(run)
    # 95 % have 20 tokens at most, 1.25 × 20 = 25, and the next multiple of 8 is 32
    assert (run.config.evaluate.max_new_tokens, run.config.ppo.max_new_tokens) == (32, 32)
    assert run.config.model_dump() == merge({}, ["method=reft", *(f"{one.partition('=')[0]}=32" for one in AUTO)]).model_dump()
    why = "95% of the 100 demonstrations have at most 20 tokens, and 25% more"
    assert run.limits == [f"evaluate.max_new_tokens=auto is 32: {why}", f"ppo.max_new_tokens=auto is 32: {why}"]
    assert run.cut_off[0] == (
        "5 of the 100 demonstrations (5 %) have more tokens than evaluate.max_new_tokens=32, EOS included: a model that imitates "
        "them is cut off"
    )
    assert run.said == [*run.limits, *run.cut_off] and len(run.cut_off) == 2


def test_a_number_stays_what_it_is_and_a_method_without_rollouts_is_not_told_of_theirs(tmp_path):
    run = behind(tmp_path, "method=dpo", "evaluate.max_new_tokens=300", "ppo.max_new_tokens=auto")
    before = run.config
    resolve_limits(run)
    assert run.config.evaluate == before.evaluate and run.said == []
    assert run.config.ppo.max_new_tokens == 32, "no section is left undecided"


def test_before_the_gate_has_been_nothing_is_decided(tmp_path):
    run = Behind(tmp_path, merge({}, AUTO))
    resolve_limits(run)
    assert run.config.evaluate.max_new_tokens == "auto" and run.said == []


def test_what_no_completion_tells_and_what_the_context_cuts_is_said():
    asked = merge({}, AUTO[:1])
    for lengths, context, told in (
        (Lengths("", {}, {30: 1}), 512, "evaluate.max_new_tokens=auto is 256: no completion tells how long answers are"),
        (
            Lengths("held_out", {80: 1}, {400: 1}),
            450,
            "evaluate.max_new_tokens=auto is 50: 95% of the 1 held-out references have at most 80 tokens, and 25% more; the "
            "context leaves no more beside 95% of the prompts (400 tokens)",
        ),
    ):
        config = with_limits(asked, lengths, context=context)
        assert list(decided(asked, config, lengths)) == [told]
    assert list(beyond(asked, SHOWN)) == [], "nothing is counted against a limit that is not known"


def test_a_limit_that_was_not_decided_is_never_computed_with():
    assert tokens_of(64) == 64
    with pytest.raises(ValueError, match="max_new_tokens=auto is decided after the data gate, and was not"):
        tokens_of(merge({}, AUTO).evaluate.max_new_tokens)


def test_limits_are_those_that_a_method_has():
    assert list(limits_of(merge({}, ["method=sft"]))) == ["evaluate.max_new_tokens"]
    assert list(limits_of(merge({}, ["method=grpo"]))) == ["evaluate.max_new_tokens", "ppo.max_new_tokens"]


def test_a_number_must_be_less_than_the_context_and_auto_always_is():
    paths = Paths(Path.cwd())
    check_settings(merge({}, ["method=reft", *AUTO, "model.context=32"]), paths)
    with pytest.raises(RequestError, match=r"^ppo\.max_new_tokens must be less than model\.context \(32\), got 32$"):
        check_settings(merge({}, ["method=reft", AUTO[0], "ppo.max_new_tokens=32", "model.context=32"]), paths)


@pytest.mark.parametrize("value", ["0", "-3", "1.5", "many", "true", "auto 3", ""])
def test_a_limit_is_auto_or_a_whole_number(value):
    told = f"ppo.max_new_tokens: must be auto or a whole number of at least 1, got {value}"
    with pytest.raises(RequestError) as caught:
        merge({}, [f"ppo.max_new_tokens={value}"])
    assert str(caught.value) == told
    assert merge({"ppo": {"max_new_tokens": 12}}).ppo.max_new_tokens == 12
    assert merge({}, ["ppo.max_new_tokens=Auto"]).ppo.max_new_tokens == "auto"
