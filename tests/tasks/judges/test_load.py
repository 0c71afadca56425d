"""A judge as an argument of stages: what enters its digest, and which backend is loaded."""

import json
import subprocess
import sys
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from posttrain.errors import RequestError
from posttrain.settings.judge import JudgeSettings
from tasks.judges.load import DECIDING
from tasks.judges.local import LocalJudge
from tasks.judges.remote import ServerJudge
from tests.tasks.judge_sources import judge_of, server_of

ROOT = Path(__file__).resolve().parents[3]
OTHER = {
    "backend": "openai", "model": "n", "mode": "pairwise", "reasoning": True, "samples": 3, "max_tokens": 9, "budget": 7,
    "max_flips": 0.5, "min_conviction": 0.2, "max_unreadable": 0.3, "max_questions": 4,
}  # fmt: skip
"""Another value of each setting that decides."""


@pytest.fixture
def template(tmp_path):
    """A template that one may think aloud under."""
    mode = {"question": "{prompt} {response}", "think": "So:", "ending": "Score:", "options": {" 1": 1, " 2": 2}}
    pair = mode | {"question": "{prompt} {first} {second}", "options": [" A", " B"]}
    file = tmp_path / "mine.yaml"
    file.write_text(json.dumps({"pointwise": mode, "pairwise": pair}))  # JSON is YAML
    return file


def test_a_digest_follows_every_setting_that_decides_and_no_other(tmp_path, tiny_world, template):
    def digest(**settings):
        return judge_of(tiny_world, tmp_path, **({"template": str(template)} | settings)).digest

    told = {digest()}
    for name in DECIDING:
        more = {"model": "m"} if name == "backend" else {"backend": "openai"} if name == "model" else {}
        told.add(digest(**more, **{name: OTHER[name]}))
    assert len(told) == 1 + len(DECIDING)
    same = {"timeout": 3.0, "retries": 1, "batch_size": 2, "concurrency": 9, "price_prompt": 4.0, "own_questions": 1}
    assert {digest(**{name: value}) for name, value in same.items()} == {digest()}
    assert set(same).isdisjoint(DECIDING) and set(DECIDING) | set(same) <= set(JudgeSettings.model_fields)


def test_a_digest_follows_weights_prompt_mode_and_context(tmp_path, tiny_world, template):
    judge = judge_of(tiny_world, tmp_path, template=str(template))
    others = [
        replace(judge, base_digest="c"),
        replace(judge, mode="pairwise"),
        replace(judge, context=judge.context - 1),
        replace(judge, model=judge.model.model_copy(update={"dtype": "bfloat16"})),
    ]
    assert len({judge.digest, *(other.digest for other in others)}) == 5
    assert replace(judge, mode="pointwise").digest == judge.digest, "which is what judge.mode says"
    assert replace(judge, cache=tmp_path / "elsewhere", base=tmp_path, tokenizer=tmp_path).digest == judge.digest
    before = judge.digest
    template.write_text(template.read_text().replace("Score:", "Mark:"))
    assert replace(judge).digest != before


@pytest.mark.parametrize(
    ("settings", "kind"),
    [({}, LocalJudge), ({"backend": "openai", "model": "m", "base_url": "http://127.0.0.1:1/v1"}, ServerJudge)],
)
def test_the_backend_of_the_settings_is_opened(tmp_path, tiny_world, settings, kind):
    with closing(judge_of(tiny_world, tmp_path / "cache", **settings).open()) as judge:
        assert isinstance(judge, kind) and judge.size.weights == 0, "nothing is loaded before something is asked"


def test_a_directory_that_is_no_model_is_refused_by_the_judges_setting(tmp_path, tiny_world):
    with pytest.raises(RequestError, match=r"^judge\.model=/no/such/folder"):
        judge_of(tiny_world, tmp_path, model="/no/such/folder").open()


def test_a_server_is_asked_without_a_framework_and_a_digest_needs_none():
    """A cached run waits for neither torch nor transformers, and a judge behind a server never needs them."""
    script = (
        "import sys; from pathlib import Path; from tests.tasks.judge_sources import server_of\n"
        "judge = server_of(Path('nowhere'), 'http://127.0.0.1:1/v1'); judge.digest; judge.identity\n"
        "import tasks.judges.remote\n"
        "print(sorted({'torch', 'transformers', 'trl'} & set(sys.modules)))"
    )
    told = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True)
    assert told.stdout.strip() == "[]"


def test_how_models_are_loaded_here_decides_nothing_about_a_server(tmp_path, tiny_world, monkeypatch):
    server, local = server_of(tmp_path, "http://a/v1"), judge_of(tiny_world, tmp_path)
    before = server.digest, local.digest
    assert replace(server, context=7, model=local.model.model_copy(update={"dtype": "bfloat16"})).digest == server.digest
    monkeypatch.setattr("tasks.judges.load.device_type", lambda: "another")
    assert (replace(server).digest == before[0], replace(local).digest == before[1]) == (True, False)


def test_two_servers_are_two_judges(tmp_path):
    assert server_of(tmp_path, "http://a/v1").digest != server_of(tmp_path, "http://b/v1").digest
