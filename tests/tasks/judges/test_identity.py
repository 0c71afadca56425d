"""Which judge is meant: its template, and what identifies its weights, its server and its code."""

import pytest

from posttrain.errors import RequestError
from posttrain.settings.judge import JudgeSettings
from tasks.judges.identity import judge_digest, judge_identity, read_template
from tests.tasks.edited_code import edit
from tests.tasks.judge_sources import TEMPLATES


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            {"template": "revew"},
            "judge.template=revew: there is no such template; did you mean review? There are constitution, review; "
            "docs/judges.md",
        ),
        (
            {"template": "mine.yaml"},
            "judge.template=mine.yaml: there is no such template. Give the path of a file of the form in docs/judges.md",
        ),
    ],
)
def test_a_template_that_is_not_there_is_told(settings, message):
    with pytest.raises(RequestError) as caught:
        read_template(JudgeSettings(**settings), folder=TEMPLATES)
    assert str(caught.value) == message


def test_a_template_that_is_no_yaml_is_told(tmp_path):
    broken = tmp_path / "broken.yaml"
    broken.write_text("pairwise: [1, 2\n")
    with pytest.raises(RequestError, match=r"broken\.yaml: the file is no YAML: .* Correct it$"):
        read_template(JudgeSettings(template=str(broken)), folder=TEMPLATES)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            {"backend": "openai"},
            "judge.model=base is a model here, and judge.backend=openai asks a server: set judge.model to the name that the "
            "server knows, or judge.backend=local",
        ),
        (
            {"base_url": "http://there/v1"},
            "judge.base_url=http://there/v1 is a server's, and judge.backend=local loads a model here: set judge.backend=openai, "
            "or leave judge.base_url empty",
        ),
    ],
)
def test_settings_that_contradict_each_other_are_told(settings, message):
    with pytest.raises(RequestError) as caught:
        judge_digest(JudgeSettings(**settings), base_digest="b")
    assert str(caught.value) == message


def test_another_judge_is_identified_and_keyed_by_itself(tiny_world):
    settings = [
        {},
        {"model": str(tiny_world.base / "model")},
        {"backend": "openai", "model": "m"},
        {"backend": "openai", "model": "n"},
        {"backend": "openai", "model": "m", "base_url": "http://there/v1"},
    ]
    identities = {judge_identity(JudgeSettings(**told), base_digest="b") for told in settings}
    assert len(identities) == 5 and "b" in identities, "the base is known by its weights"
    digests = {judge_digest(JudgeSettings(**told), base_digest="b") for told in settings}
    assert len(digests) == 5 and not digests & identities


@pytest.mark.parametrize(
    ("edited", "changed"),
    [
        ("tasks.judges.local", {"local"}),
        ("models.options", {"local"}),
        ("tasks.judges.remote", {"openai"}),
        ("tasks.judges.wire", {"openai"}),
        ("tasks.judges.cache", {"local", "openai"}),
        ("tasks.judges.check", set()),
    ],
)
def test_a_judge_is_keyed_by_its_own_backends_code(monkeypatch, edited, changed):
    judges = {"local": JudgeSettings(), "openai": JudgeSettings(backend="openai", model="m")}
    digests = {name: judge_digest(told, base_digest="b") for name, told in judges.items()}
    identities = {name: judge_identity(told, base_digest="b") for name, told in judges.items()}
    edit(monkeypatch, edited)
    assert {name for name, told in judges.items() if judge_digest(told, base_digest="b") != digests[name]} == changed
    assert {name: judge_identity(told, base_digest="b") for name, told in judges.items()} == identities, "answers are kept"
