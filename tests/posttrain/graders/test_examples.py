"""docs/graders.md does not rot: every example in it is run, and every type, setting and flag is on the page."""

import json
import re
from pathlib import Path

import pytest

from posttrain.graders import Sample, build_grader
from posttrain.graders.interface import FLAGS
from posttrain.graders.schema import SPECS
from posttrain.graders.text import METRICS

PAGE = (Path(__file__).parents[3] / "docs" / "graders.md").read_text(encoding="utf-8")
EXAMPLES = [
    (json.loads(spec), [json.loads(line) for line in lines.splitlines()])
    for spec, lines in re.findall(r"```json\n(.*?)\n```\n```jsonl\n(.*?)\n```", PAGE, flags=re.DOTALL)
]


def count_words(calls):
    """The model of the page's examples."""
    words = [len(call.messages[-1][1].split()) for call in calls]
    return [("short" if count <= 2 else "long") if call.labels else count for call, count in zip(calls, words, strict=True)]


@pytest.mark.parametrize(
    ("spec", "samples"), EXAMPLES, ids=[f"{place}-{spec['type']}" for place, (spec, _) in enumerate(EXAMPLES)]
)
def test_an_example(spec, samples):
    grader = build_grader(spec, score_model=count_words)
    for sample in samples:
        record = {name: value for name, value in sample.items() if name not in ("completion", "score")}
        (found,) = grader.grade([Sample(sample["completion"], record)])
        assert found.score == pytest.approx(sample["score"], abs=1e-12), (sample, found)


def test_every_json_on_the_page_is_an_example():
    assert PAGE.count("```json\n") == PAGE.count("```jsonl\n") == len(EXAMPLES)


def test_the_python_on_the_page_runs():
    (source,) = re.findall(r"```python\n(from posttrain.*?)```", PAGE, flags=re.DOTALL)
    exec(compile(source, "docs/graders.md", "exec"), {})


def test_every_type_has_an_example():
    assert {spec["type"] for spec, _ in EXAMPLES} == set(SPECS)


@pytest.mark.parametrize("name", [*FLAGS, *SPECS, *(name for name in METRICS if not name.startswith("rouge"))])
def test_every_name_is_on_the_page(name):
    assert name in PAGE


@pytest.mark.parametrize("kind", SPECS)
def test_every_setting_is_on_the_page(kind):
    for name in SPECS[kind].model_fields:
        assert name in PAGE, f"docs/graders.md does not mention {kind}.{name}"
