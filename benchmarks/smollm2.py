"""The study on a real model: SmolLM2-135M on the ReFT authors' SVAMP programs, on the default world, and on real pairs.

    python -m benchmarks.smollm2 svamp data=FOLDER         train_program.json and test.json of the ReFT authors (arXiv:2401.08967)
    python -m benchmarks.smollm2 world
    python -m benchmarks.smollm2 preferences data=FILE     pairs of any format that `make import` reads
    python -m benchmarks.smollm2 pages                     writes the page from the kept records again

Further words: `seeds=0,1`, `methods=dpo,reft` (of those of the part), `keep=FOLDER`, `base=…`, and settings
(`sft.max_steps=20`) in front of which stand those of the part.

Each part is one `make compare` in a copy of the repository that stays in `keep` (below the system's folder for temporary files
where it is left out) until the part is finished: killed, the same command goes on, with the sources of that copy. Its record
goes into `KEPT`, and the page `PAGE` is made of it. On a CPU a part takes hours; what was cut for that stands in `CUT`, and
on the page. On a GPU the same command does the whole.
"""

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks import study_pages
from benchmarks.pipeline import fresh_copy, in_world
from benchmarks.study import DOCS, ROOT, rounded, study_of
from benchmarks.worlds import REPORTED
from posttrain.finite import is_finite

KEPT, PAGE = DOCS / "smollm2.json", DOCS / "results-smollm2.md"
COPY_OF = "posttrain-smollm2.commit"
"""The file in a copy that says of which commit it is."""


@dataclass(frozen=True)
class Part:
    """One comparison of the study.

    Attributes:
        title: its head on the page.
        dataset: that it runs on.
        methods: that are compared.
        settings: of the part, whatever the machine.
        cut: settings that make it fit a CPU, each with what it cuts, for the page.
        about: what is compared, for the page.
    """

    title: str
    dataset: str
    methods: str
    settings: tuple[str, ...]
    cut: Mapping[str, str]
    about: str


OTHERWISE = "everything else has the sizes that the profile gives on a CPU (docs/profiles.md)"
PARTS = {
    "svamp": Part(
        title="Word problems as programs (SVAMP)",
        dataset="svamp",
        methods="few_shot sft self_training reft grpo",
        settings=(),
        cut={
            "sft.max_steps=40": "SFT stops after 40 steps of 16 programs, a fifth of an epoch",
            "self_training.max_steps=20": "self-training stops after 20 steps",
            "evaluate.max_questions=100": "100 of the 1,000 test questions are asked, the same ones of every model",
            "sample.max_questions=100": "self-training samples answers to 100 questions",
            "ppo.updates=8": "ReFT and GRPO end after 8 updates",
        },
        about=(
            "The ReFT authors' own training programs (3,043) and test questions (1,000) of SVAMP, Apache-2.0. A response is a "
            "Python program; it is run in a sandbox, and what it returns is compared with the answer. Their model of this size, "
            "Galactica-125M, went from 35.6 % after SFT to 39.4 % after ReFT (arXiv:2401.08967)."
        ),
    ),
    "world": Part(
        title="The default world",
        dataset="world",
        methods="sft dpo grpo reft rlaif rlhf",
        settings=(),
        cut={
            "evaluate.max_questions=100": "100 of the 1,000 held-out questions are asked",
        },
        about="The world of README.md, with a second real base. Annotators and judge are simulated.",
    ),
    "preferences": Part(
        title="Pairs that people wrote",
        dataset="pairs",
        methods="sft dpo rlhf",
        settings=("model.context=2048", "validation.max_critical_share=0.06"),
        cut={
            "model.context=1024": "rows of more than 1,024 tokens are put aside, a third of the pairs",
            "validation.max_critical_share=0.4": "the data gate lets that pass",
            "sft.max_steps=10": "SFT stops after 10 steps",
            "dpo.max_steps=10": "DPO stops after 10 steps of 16 pairs",
            "reward_model.max_steps=10": "the reward model learns for 10 steps",
            "ppo.updates=1": "PPO makes one update",
            "ppo.max_new_tokens=64": "of responses of at most 64 tokens",
            "ppo.min_finished=0": "whether they end or not, so the RLHF policy is no more than started",
            "evaluate.max_questions=20": "responses to 20 held-out prompts are sampled",
            "evaluate.max_new_tokens=64": "of at most 64 tokens",
            "evaluate.samples=1": "one each",
        },
        about=(
            "English pairs of answers of which one was preferred. No program can check them: held-out pairs are "
            "ranked by each model's own probabilities, beside those of the model that it started from, and by RLHF's "
            "reward model, which holds pairs of its own back."
        ),
    ),
}


# --- running ------------------------------------------------------------------------------------------------------------


def copy_of(folder: Path) -> str:
    """Make a copy of the sources in the reported world where there is none; return the commit that it is of."""
    from flows.pipeline import git_commit  # Prefect takes seconds to load, and pages are made without it

    if not folder.is_dir():
        begun = folder.with_name(f"{folder.name}.{os.getpid()}")
        begun.mkdir(parents=True)
        in_world(fresh_copy(begun), REPORTED.seed)
        (begun / COPY_OF).write_text(git_commit(ROOT), encoding="utf-8")
        begun.rename(folder)
    return (folder / COPY_OF).read_text(encoding="utf-8")


def imported(folder: Path, name: str, data: str) -> None:
    """Import the dataset of a part into the copy, where it is not there yet.

    Raises:
        SystemExit: the part needs data and none are given, or the import failed.
    """
    part = PARTS[name]
    if part.dataset == "world" or (folder / "data" / part.dataset / "dvc.lock").is_file():
        return
    if not data:
        raise SystemExit(f"this part needs data: python -m benchmarks.smollm2 {name} data=…")
    source = Path(data).expanduser().resolve()
    words = [f"file={source}"]
    if name == "svamp":
        words = ["format=reft", f"file={source / 'train_program.json'}", f"held_out={source / 'test.json'}"]
    command = [sys.executable, "-m", "flows", "import", *words, f"name={part.dataset}"]
    if code := subprocess.run(command, cwd=folder, check=False).returncode:
        raise SystemExit(f"the import ended with {code}")


def measure(name: str, *, data: str, seeds: str, base: str, methods: str, keep: Path, settings: Iterable[str]) -> int:
    """Run a part in its copy, keep its record, and write the page; return the comparison's exit code."""
    import torch

    part, on_gpu = PARTS[name], torch.cuda.is_available()
    commit = copy_of(keep)
    imported(keep, name, data)
    asked = [f"model.base={base}", *part.settings, *(() if on_gpu else part.cut), *settings]
    words = [f"METHODS={methods}", f"SEEDS={seeds}", f"DATA={part.dataset}", f"SET={' '.join(asked)}"]
    print(f"{name} runs in {keep}; killed, the same command goes on", file=sys.stderr)
    code = subprocess.run([sys.executable, "-m", "flows", "compare", *words], cwd=keep, check=False).returncode
    latest = keep / "reports" / "compare" / "latest.json"
    if code not in (0, 3) or not latest.is_file():  # 3: a run failed, the others are compared
        print(f"the comparison ended with {code}; what is finished stays in {keep}", file=sys.stderr)
        return code or 1
    comparison = json.loads(latest.read_text(encoding="utf-8")) | {"git_commit": commit}
    world = REPORTED.seed if part.dataset == "world" else None
    study = study_of(comparison, keep / "reports", world=world)
    left_out = [one for one in part.methods.split() if one not in methods.split()]
    cut = [*([f"not run: {', '.join(left_out)}"] if left_out else []), *([] if on_gpu else [*part.cut.values(), OTHERWISE])]
    study |= {"base_model": base, "settings": asked, "cut": cut}
    study |= {"unchecked": list(unchecked_of(comparison, keep / "reports"))}
    text = json.dumps(rounded({**kept(), name: study}), indent=1, ensure_ascii=False, allow_nan=False)
    KEPT.write_text(f"{text}\n", encoding="utf-8")
    write_page()
    print(f"{PAGE.relative_to(ROOT)} has the figures; the copy {keep} can go once they are yours", file=sys.stderr)
    return code


def unchecked_of(comparison: Mapping[str, Any], reports: Path) -> Iterable[dict[str, Any]]:
    """Yield what each pipeline says of its models beside accuracy: held-out pairs ranked right, held-out loss."""
    told = set()
    for method in comparison["methods"]:
        for run in method["runs"]:
            path = reports / f"{run['pipeline_id']}.json"
            report = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
            for model, figures in {**report.get("models", {}), **_of_reward_model(report)}.items():
                for figure in ("preference_accuracy", "reference_loss"):
                    found = figures.get(figure)
                    if (
                        isinstance(found, Mapping)
                        and is_finite(found["estimate"])
                        and (key := (run["seed"], model, figure)) not in told
                    ):
                        told.add(key)
                        bounds = {end: found.get(end) for end in ("estimate", "low", "high")}
                        yield {"seed": run["seed"], "model": model, "figure": figure, **bounds}


def _of_reward_model(report: Mapping[str, Any]) -> dict[str, Any]:
    """Return the share of its own held-out pairs that a pipeline's reward model ranks right, as if it were one of its models."""
    quality = (report.get("audit") or {}).get("reward_model")
    if not quality:
        return {}
    bounds = {"estimate": "accuracy", "low": "accuracy_low", "high": "accuracy_high"}
    return {"reward model": {"preference_accuracy": {end: quality.get(name) for end, name in bounds.items()}}}


def kept() -> dict[str, Any]:
    """Return what is in `KEPT`: the record of each part that was run."""
    found: dict[str, Any] = json.loads(KEPT.read_text(encoding="utf-8")) if KEPT.is_file() else {}
    return found


# --- the page -----------------------------------------------------------------------------------------------------------


def write_page() -> None:
    """Write `PAGE` from `KEPT`."""
    PAGE.write_text(page(kept()), encoding="utf-8")


def page(studies: Mapping[str, Any]) -> str:
    """Return the page: a section a part, in the order of `PARTS`."""
    head = [
        "# A real model: SmolLM2-135M",
        "",
        "Made by `python -m benchmarks.smollm2` from [smollm2.json](smollm2.json); do not edit it by hand.",
        "",
        "`model.base=smollm2` is a model of 135 M weights that was trained on 2 T tokens and on instructions "
        "(Apache-2.0, [decision 29](decisions/0029-gguf-bases.md)). It has met word problems in its own training, so these "
        "figures say what post-training adds to it, not what a fresh model learns.",
    ]
    parts = [head, *(section(name, studies[name]) for name in PARTS if name in studies)]
    return "\n\n".join("\n".join(part) for part in parts) + "\n"


def section(name: str, study: Mapping[str, Any]) -> list[str]:
    """Return the lines of a part."""
    verdict = ["", f"**{study['verdict']}**"] if study["verdict"] else []
    cut = [f"- {what}" for what in study["cut"]]
    lines = [f"## {PARTS[name].title}", "", PARTS[name].about, *verdict]
    if cut:
        lines += ["", "What was cut to fit two cores:", "", *cut]
    lines += ["", "### Gains", "", *study_pages.gain_lines(study)] if study["pairs"] else []
    lines += ["", "### Every seed", "", *study_pages.seed_lines(study)] if study["pairs"] else []
    lines += ["", "### Held-out pairs and completions", "", *_unchecked_lines(study)] if study["unchecked"] else []
    lines += ["", "### What each took", "", *study_pages.cost_lines(study)]
    settings = " ".join(study["settings"])
    made = [
        f"Made by `python -m benchmarks.smollm2 {name}`",
        f"at commit `{study['git_commit'][:12]}`" if study["git_commit"] else "",
        f"with `{settings}`, that is `{study['command']}`",
        # stages that were there already cost it nothing: what each took is in the table
        f"in {study['seconds'] / 3600:.1f} hours" if (study["seconds"] or 0) >= 3_600 / 20 else "",
        f"on {study_pages.machine(study['machine'])}" if study["machine"] else "",
    ]
    failed = [
        f"- {study_pages.title_of(study, one['method'])}, seed {one['seed']}, failed: {one['error']}" for one in study["failed"]
    ]
    return [*lines, "", " ".join(filter(None, made)) + ".", *(["", *failed] if failed else [])]


_FIGURES = {
    "preference_accuracy": ("held-out pairs ranked right, %", study_pages.percent),
    "reference_loss": ("loss of held-out completions, nats a token", "{:.3f}".format),
}


def _unchecked_lines(study: Mapping[str, Any]) -> list[str]:
    rows = []
    for one in study["unchecked"]:
        title, shown = _FIGURES[one["figure"]]
        cell = shown(one["estimate"])
        if one["low"] is not None and one["high"] is not None:
            cell += f" [{shown(one['low'])}, {shown(one['high'])}]"
        rows.append((title, study_pages.title_of(study, one["model"]), str(one["seed"]), cell))
    told = "In brackets 95 % intervals over held-out pairs or completions; they do not cover another training."
    return [told, "", *study_pages.table(("figure", "model", "seed", "value"), sorted(rows))]


def main(words: list[str]) -> int:
    """Run a part, or write the page again."""
    if words == ["pages"]:
        write_page()
        return 0
    given = {name: value for name, equals, value in (word.partition("=") for word in words) if equals}
    named = [word for word in words if "=" not in word]
    if len(named) != 1 or named[0] not in PARTS:
        raise SystemExit(f"name one part of {', '.join(PARTS)}, or pages; got {' '.join(named) or 'none'}")
    own = ("data", "seeds", "methods", "keep", "base")
    all_methods = PARTS[named[0]].methods.split()
    asked = given.get("methods", ",".join(all_methods)).split(",")
    if unknown := [one for one in asked if one not in all_methods]:
        raise SystemExit(f"methods= takes those of {named[0]}, {','.join(all_methods)}; got {', '.join(unknown)}")
    settings = [f"{name}={value}" for name, value in given.items() if name not in own]
    keep = Path(given.get("keep") or Path(tempfile.gettempdir(), f"posttrain-smollm2-{named[0]}")).expanduser().resolve()
    seeds = given.get("seeds", "0,1")
    seeds += "" if "," in seeds else ","  # one seed of that name, for SEEDS= takes a number alone for how many
    base = given.get("base", "smollm2")
    if shutil.which("git") is None:
        raise SystemExit("git is needed to copy the sources")
    return measure(
        named[0], data=given.get("data", ""), seeds=seeds, base=base, methods=" ".join(asked), keep=keep, settings=settings
    )


if __name__ == "__main__":
    os.environ.setdefault("DO_NOT_TRACK", "true")
    sys.exit(main(sys.argv[1:]))
