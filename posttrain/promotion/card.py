"""The card of a model: what a stranger must know of a version, as Markdown with the metadata that Hugging Face reads.

The front matter is YAML whose texts are JSON strings, which YAML reads as they are. Its fields are those of
https://huggingface.co/docs/hub/model-cards and of `model-index` there.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from posttrain.methods import METHODS
from posttrain.report.pipeline import ROWS, headline, result_rows
from posttrain.report.unchecked import FIGURES
from posttrain.statistics.intervals import INTERVALS_COVER

CONFIDENCE = 0.95
UNKNOWN = "unknown"
"""The licence of a model of which nobody said one; also Hugging Face's word for it."""
LABELS = {row.key: row.label for row in ROWS} | {figure.key: figure.label for figure in FIGURES}
"""What the metrics of a model are called, by key; `{start}` in them is the model that the method started from."""
LIMITS = (
    "It was measured on held-out questions of the dataset above, and on nothing else: not on other tasks or languages, and not "
    "for harm, bias or facts.",
    "It is the model of one seed. Another seed, machine or number of threads gives another model, which may be several points "
    "better or worse.",
    "Nothing but the questions was held out: what the base had read before is not known here.",
)


@dataclass(frozen=True)
class Origin:
    """What a report does not say of a model, and its card must.

    Attributes:
        base: the base in words, such as `tiny` or an id of the hub.
        hub_id: the base's id on the hub; "" for one that is not there.
        license: identifier of the licence; "" where nobody said one.
        simulated: sentences on what stood in for people, servers or data; none where nothing did.
        usage: Markdown on how this model is used, where that is not as usual.
        is_chat: plain-text prompts were one user message in the chat template.
        system: content of the system message before that one; None for none.
    """

    base: str
    hub_id: str = ""
    license: str = ""
    simulated: Sequence[str] = ()
    usage: str = ""
    is_chat: bool = False
    system: str | None = None


def model_card(report: Mapping[str, Any], origin: Origin) -> str:
    """Return the card of the version that a pipeline's report names.

    Args:
        report: from `posttrain.report.pipeline.build_report`, of a registered model.
        origin: what else there is to say.
    """
    model, method = report["model"], METHODS[report["method"]]
    lines = [
        *_front_matter(report, origin),
        f"# {model['name']}, version {model['version']}",
        "",
        headline(report),
        "",
        "## Results",
        "",
        f"On the held-out questions of `{report['dataset']}`. In brackets: {INTERVALS_COVER}.",
        "",
        *_table(["", *report["models"]], result_rows(report)),
        "",
        "## How it was made",
        "",
        *_table(["", ""], _making(report, origin, learns_from=f"{method.title}: learns from {method.learns_from.says}")),
        "",
        "Its stages, each with the key that names its inputs, settings and code:",
        "",
        *_table(["stage", "key"], [[stage["name"], f"`{stage['key']}`"] for stage in report["stages"]]),
        "",
        *_use(origin),
        "",
        *_listed("What was simulated", origin.simulated or ("Nothing: data and feedback are those that were imported.",)),
        *(_listed("What else to know", report["notes"]) if report["notes"] else ()),
        *_listed("Limits", [*LIMITS, *report["warnings"]]),
        *_licence(origin),
    ]
    return "\n".join(lines) + "\n"


def _front_matter(report: Mapping[str, Any], origin: Origin) -> list[str]:
    """Return the metadata; a base that is not on the hub is left out, since its id would lead to a stranger's model."""
    name = f"{report['model']['name']}-{report['model']['version']}"
    return [
        "---",
        *([f"base_model: {_text(origin.hub_id)}"] if origin.hub_id else ()),
        f"license: {_text(origin.license or UNKNOWN)}",
        "library_name: transformers",
        "pipeline_tag: text-generation",
        "tags:",
        "- posttrain",
        f"- {_text(report['method'])}",
        "model-index:",
        f"- name: {_text(name)}",
        "  results:",
        "  - task:",
        "      type: text-generation",
        "    dataset:",
        f"      name: {_text(report['dataset'])}",
        f"      type: {_text(report['dataset'])}",
        "      split: held_out",
        f"      revision: {_text(report['data_md5'])}",
        "    metrics:",
        *_metrics(report),
        "---",
        "",
    ]


def _metrics(report: Mapping[str, Any]) -> list[str]:
    """Return the figures of the method's own model that are defined; the card's table has those of the others beside them."""
    found = report["models"][list(report["models"])[-1]]
    lines = []
    for key, label in LABELS.items():
        value = found.get(key)
        if value is None:
            continue
        bounds = value if isinstance(value, Mapping) else {}
        lines += [
            f"    - type: {_text(key)}",
            f"      name: {_text(_plain(label, report))}",
            f"      value: {json.dumps(float(bounds['estimate'] if bounds else value))}",
        ]
        if bounds:
            args = {"confidence": CONFIDENCE, "low": float(bounds["low"]), "high": float(bounds["high"])}
            lines.append(f"      args: {json.dumps(args)}")
    return lines


def _plain(label: str, report: Mapping[str, Any]) -> str:
    """Return a label without the unit of the table: the metadata have shares, not percent."""
    return label.format(start=report["baseline"]).replace(" (%)", "")


def _making(report: Mapping[str, Any], origin: Origin, *, learns_from: str) -> list[list[str]]:
    return [
        ["method", learns_from],
        ["base", f"`{origin.base}`"],
        ["seed", str(report["seed"])],
        ["dataset", f"`{report['dataset']}`, version `{report['data_md5']}` (DVC)"],
        ["code", f"commit `{report['git_commit']}` of posttrain"],
        ["run", f"`{report['mlflow']['run_id']}` in MLflow, report `{report['pipeline_id']}`"],
        ["made", str(report["created"])],
    ]


def _use(origin: Origin) -> list[str]:
    system = [] if origin.system is None else [{"role": "system", "content": origin.system}]
    messages = json.dumps([*system, {"role": "user", "content": "…"}], ensure_ascii=False)
    chat = (
        f"messages = {messages}",
        'prompt = tokenizer.apply_chat_template(messages, add_generation_prompt=True, return_dict=True, return_tensors="pt")',
    )
    code = (
        "from transformers import AutoModelForCausalLM, AutoTokenizer",
        "",
        'model, tokenizer = (kind.from_pretrained("this folder") for kind in (AutoModelForCausalLM, AutoTokenizer))',
        *(chat if origin.is_chat else ('prompt = tokenizer("…\\n", return_tensors="pt")',)),
        "print(tokenizer.decode(model.generate(**prompt, max_new_tokens=64)[0], skip_special_tokens=True))",
    )
    told = [
        "## How to use it",
        "",
        "```python",
        *code,
        "```",
        "",
        "Every prompt goes through the tokenizer's chat template, a plain-text one as one user message, as in training."
        if origin.is_chat
        else "A plain-text prompt ends with a line break, as in training. A prompt of messages goes through the tokenizer's chat "
        "template.",
    ]
    return [*told, "", _deeper(origin.usage)] if origin.usage else told


def _deeper(text: str) -> str:
    """Return Markdown with its headings two levels lower, as a part of a section."""
    return "\n".join(f"##{line}" if line.startswith("#") else line for line in text.strip().splitlines())


def _listed(title: str, texts: Sequence[str]) -> list[str]:
    return [f"## {title}", "", *(f"- {' '.join(text.split())}" for text in texts), ""]


def _licence(origin: Origin) -> list[str]:
    if origin.license:
        return ["## Licence", "", f"`{origin.license}`, as `tracking.model_license` said when it was made."]
    return [
        "## Licence",
        "",
        "Unknown: nobody said one (`tracking.model_license`). The licences of base and data hold in any case: read them before "
        "you pass the model on.",
    ]


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    cells = [head, ["---"] * len(head), *rows]
    return ["| " + " | ".join(cell.replace("|", "\\|").replace("\n", " ") for cell in row) + " |" for row in cells]


def _text(value: str) -> str:
    return json.dumps(value, ensure_ascii=False)
