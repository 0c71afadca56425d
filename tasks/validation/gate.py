"""The stage `validate`: only rows that Great Expectations lets through reach training."""

import json
from pathlib import Path

from models.encoding import prompt_ids
from models.load import load_tokenizer, prompt_text
from posttrain.errors import DataError
from posttrain.settings.data import ValidationSettings
from tasks.validation.lengths import LENGTHS
from tasks.validation.report import refusal
from tasks.validation.validate import validate
from tasks.workspace.artifacts import Log, Outcome, keep_findings

REPORTS = ("validation.html", "validation.json", "quarantine.jsonl")


def pass_gate(
    out: Path,
    log: Log,
    *,
    data: Path,
    dataset: str,
    tokenizer: Path,
    context: int,
    settings: ValidationSettings,
    expectations: Path,
    findings: Path,
) -> Outcome:
    """Write the rows that passed, the quarantine, the report as a page and as JSON, and `lengths.json`.

    What is counted is what training reads: the chat template where prompts go through it, BOS once, EOS behind a completion. TRL
    cuts a longer row at the context in silence, and its EOS goes first, so the gate puts it aside before that.

    Args:
        out: where to write.
        log: unused; validation has no curve.
        data: the dataset's folder.
        dataset: its name.
        tokenizer: folder of the tokenizer whose tokens are counted.
        context: tokens of prompt and response together.
        settings: when the gate closes.
        expectations: folder of the suites.
        findings: where report and quarantine stay in any case, so that a refusal can be looked into.

    Raises:
        RequestError: the chat template fails on a prompt.
        DataError: more rows of a file are critical than `validation.max_critical_share` allows.
    """
    reader = load_tokenizer(tokenizer)

    def count_tokens(texts: list[str]) -> list[int]:
        return [len(ids) for ids in prompt_ids(reader, texts)]

    report = validate(
        data,
        out,
        settings=settings,
        expectations=expectations,
        count_tokens=count_tokens,
        context=context,
        dataset=dataset,
        prompt_text=lambda prompt: prompt_text(reader, prompt),
        end_tokens=1 - count_tokens([""])[0],  # EOS; BOS and the like stand before the prompt only
    )
    counts = {role.role: role.lengths for role in report.roles if role.lengths}
    (out / LENGTHS).write_text(json.dumps(counts, indent=0) + "\n", encoding="utf-8")
    keep_findings(out, REPORTS, at=findings)
    if not report.passed:
        raise DataError(refusal(report, quarantine=findings / "quarantine.jsonl"))
    rows, quarantined = sum(report.rows.values()), sum(report.quarantined.values())
    found = {"rows": rows, "quarantined": quarantined, "warnings": len(report.warnings)}
    return Outcome(metrics={**found, **report.lengths.figures()})
