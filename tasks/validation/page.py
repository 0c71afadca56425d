"""The data gate's page: one self-contained HTML file for people, light and dark, that needs no network."""

from html import escape

from posttrain.data.lengths import LONG, at_most
from tasks.validation.report import QUARANTINE, RoleReport, ValidationReport
from tasks.validation.suite import Example, Outcome, percent

_STYLE = """
:root{color-scheme:light dark;--page:#f6f7f9;--card:#fff;--ink:#1c2330;--soft:#5d6675;--line:#e1e5eb;--good:#1a7f4b;
--good-back:#e4f5ec;--bad:#b3261e;--bad-back:#fdeceb;
--warn:#8a5a00;--warn-back:#fff3dc;--code:#f0f2f5}
@media(prefers-color-scheme:dark){:root{--page:#12161d;--card:#1a202a;--ink:#e6e9ef;--soft:#9aa4b4;--line:#2c3442;--good:#67d39a;
--good-back:#16301f;--bad:#ff8f86;--bad-back:#3a1a18;--warn:#f2c063;--warn-back:#362a10;--code:#232a36}}
*{box-sizing:border-box}
body{margin:0;background:var(--page);color:var(--ink);font:15px/1.5 system-ui,-apple-system,"Segoe UI",Roboto,sans-serif}
main{max-width:1000px;margin:0 auto;padding:32px 20px 64px}
h1{font-size:24px;margin:0 0 4px}h2{font-size:18px;margin:36px 0 10px}p{margin:4px 0}.soft{color:var(--soft)}
.verdict{border-radius:10px;padding:14px 18px;margin:18px 0;font-weight:600}
.verdict p{font-weight:400}
.open{background:var(--good-back);color:var(--good)}.closed{background:var(--bad-back);color:var(--bad)}
.card{background:var(--card);border:1px solid var(--line);border-radius:10px;overflow-x:auto}
table{border-collapse:collapse;width:100%}
th,td{text-align:left;padding:8px 14px;border-top:1px solid var(--line);vertical-align:top}
tr:first-child>*{border-top:0}tbody:not(:first-child)>tr:first-child>*{border-top:1px solid var(--line)}
thead th{color:var(--soft);font-weight:600;font-size:13px}
.n{text-align:right;font-variant-numeric:tabular-nums;white-space:nowrap}
.tag{display:inline-block;border-radius:20px;padding:0 9px;font-size:12.5px;font-weight:600;white-space:nowrap}
.critical{background:var(--bad-back);color:var(--bad)}.warning{background:var(--warn-back);color:var(--warn)}
.held{background:var(--good-back);color:var(--good)}
details{margin:6px 0 2px}summary{cursor:pointer;color:var(--soft);font-size:13.5px}
.row{border-left:3px solid var(--line);padding:2px 0 2px 12px;margin:10px 0}
dl{display:grid;grid-template-columns:max-content 1fr;gap:2px 12px;margin:4px 0}dt{color:var(--soft);font-size:13px}

dd{margin:0;background:var(--code);border-radius:4px;padding:1px 6px;white-space:pre-wrap;
overflow-wrap:anywhere;font:13px/1.5 ui-monospace,monospace}
"""


def page(report: ValidationReport) -> str:
    """Return the report as a complete HTML document."""
    title = f"Data gate: {escape(report.dataset)}"
    roles = "".join(_role(role) for role in report.roles)
    stray = "".join(f'<p class="soft">{escape(name)} is not read: no role has that name.</p>' for name in report.stray_files)
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        f"<title>{title}</title><style>{_STYLE}</style></head><body><main>\n<h1>{title}</h1>\n"
        f'<p class="soft">May these records be trained on? A prompt and its completion may have'
        f" {report.context:,} tokens together.</p>\n"
        f"{_verdict(report)}{stray}{_overview(report)}{roles}</main></body></html>\n"
    )


def _verdict(report: ValidationReport) -> str:
    aside = sum(report.quarantined.values())
    rows = f"{aside:,} of {sum(report.rows.values()):,} rows were put aside"
    if report.passed:
        told = f"{rows}, see {QUARANTINE}." if aside else "No row was put aside."
        return f'<div class="verdict open">The gate is open<p>{told}</p></div>\n'
    closed = ", ".join(escape(role.file) for role in report.roles if not role.is_open)
    return f'<div class="verdict closed">The gate is closed<p>Because of {closed}. {rows}, see {QUARANTINE}.</p></div>\n'


def _overview(report: ValidationReport) -> str:
    body = "".join(
        f'<tr><td>{escape(role.file)}</td><td class="n">{role.rows:,}</td><td class="n">{role.quarantined:,}</td>'
        f'<td class="n">{percent(role.critical_share)}</td><td class="n">{percent(role.max_critical_share)}</td>'
        f'<td class="n">{_warnings(role)}</td>'
        f'<td><span class="tag {"held" if role.is_open else "critical"}">{"open" if role.is_open else "closed"}</span></td></tr>'
        for role in report.roles
    )
    head = (
        '<th>file</th><th class="n">rows</th><th class="n">quarantined</th><th class="n">critical</th>'
        '<th class="n">at most</th><th class="n">warnings</th><th>gate</th>'
    )
    return f'<div class="card"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>\n'


def _warnings(role: RoleReport) -> int:
    return sum(not outcome.holds and outcome.expectation.severity == "warning" for outcome in role.outcomes)


def _role(role: RoleReport) -> str:
    if not role.outcomes:
        return f"<h2>{escape(role.file)}</h2><p>The file is empty.</p>"
    failed = sorted(
        (outcome for outcome in role.outcomes if not outcome.holds),
        key=lambda outcome: (not outcome.is_critical, -outcome.unexpected),
    )
    body = "".join(_failed(outcome, role=role) for outcome in failed)
    table = f'<div class="card"><table><tbody>{body}</tbody></table></div>' if body else ""
    held = "".join(f"<li>{_asked(outcome)}</li>" for outcome in role.outcomes if outcome.holds)
    count = len(role.outcomes) - len(failed)
    return (
        f"<h2>{escape(role.file)}</h2>{_lengths(role)}{table}"
        f"<details><summary>{count} of {len(role.outcomes)} expectations hold</summary>"
        f"<ul>{held}</ul></details>\n"
    )


def _lengths(role: RoleReport) -> str:
    """Return how long the rows are that passed, EOS and chat template included."""
    told = [
        f"{name}: {at_most(counts, 0.5):,} tokens in the median, 95 % at most {at_most(counts, LONG):,}, longest {max(counts):,}"
        for name, counts in role.lengths.items()
        if counts
    ]
    return f'<p class="soft">{"; ".join(told)}</p>' if told else ""


def _asked(outcome: Outcome) -> str:
    kwargs = ", ".join(f"{name}={value}" for name, value in outcome.expectation.kwargs.items())
    asked = escape(f"{outcome.expectation.type}: {kwargs}")
    return f'not found: {escape(outcome.expectation.says)} <span class="soft">({asked})</span>'


def _failed(outcome: Outcome, *, role: RoleReport) -> str:
    severity = outcome.expectation.severity
    count = f"{outcome.unexpected:,}" if outcome.unexpected else "–"
    share = percent(outcome.unexpected / role.rows) if outcome.unexpected else f"observed {escape(str(outcome.observed))}"
    examples = "".join(_example(example) for example in outcome.examples)
    lines = ", ".join(str(example.line) for example in outcome.examples)
    more = ", …" if outcome.unexpected > len(outcome.examples) else ""
    shown = f"<details><summary>line {lines}{more}</summary>{examples}</details>" if examples else ""
    return (
        f'<tr><td><span class="tag {severity}">{severity}</span></td><td class="n">{count}</td><td class="n">{share}</td>'
        f'<td style="width:75%">{escape(outcome.expectation.says)}{shown}</td></tr>'
    )


def _example(example: Example) -> str:
    texts = "".join(f"<dt>{escape(name)}</dt><dd>{escape(text)}</dd>" for name, text in example.texts.items())
    detail = f" · {escape(example.detail)}" if example.detail else ""
    return (
        f'<div class="row"><span class="soft">line {example.line} · id {escape(example.id)}{detail}</span><dl>{texts}</dl></div>'
    )
