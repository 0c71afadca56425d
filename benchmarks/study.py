"""`make bench`: the study that README.md shows, measured here, and made into its pages.

    python -m benchmarks.study [methods=sft,dpo] [seeds=10,11] [words …]   runs `make compare` on the reported world
    python -m benchmarks.study from=reports/study/compare/<id>/comparison.json   publishes a comparison
    python -m benchmarks.study pages                                       writes the pages from docs/study.json again

The first runs in a fresh copy of the repository, below the system's folder for temporary files: every method on every seed of
`benchmarks.worlds.REPORTED`, which takes hours. Other words go to `make compare` as they are (`WORKERS=4`). Killed, the same
command goes on. It prints the page of results, and leaves all reports in `reports/study/`; no page of the repository changes.

The second turns a comparison's record (`posttrain.comparison/1`) into docs/study.json, docs/study.svg, docs/results.md and
README's parts. The base's accuracy and the worth of feedback are in the reports of the single pipelines, two folders above the
record (`reports/<pipeline_id>.json`): the page of a record that was moved alone lacks both.
"""

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from benchmarks import study_pages
from benchmarks.pipeline import fresh_copy, in_world
from benchmarks.worlds import REPORTED
from posttrain.methods import METHODS
from posttrain.report.audit import WHO

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
RECORD, SCHEMA = "posttrain.comparison/1", "posttrain.study/1"
KEPT = (
    *("id", "created", "command", "verdict", "status", "failed", "dataset", "machine", "git_commit", "version", "seconds"),
    *("design", "groups", "notes", "warnings"),
)
OF_METHOD = (
    *("name", "title", "is_reference", "simulated", "seeds", "scores", "mean", "sampled"),
    *("mean_sampled", "costs", "saw", "response_tokens", "finished", "kl", "win_rate", "yardsticks", "tuned", "budget_used"),
)
OF_PAIR = (
    *("a", "b", "family", "estimate", "low", "high", "low_decides", "high_decides", "p", "p_holm", "smallest_effect"),
    *("degrees", "verdict", "words", "per_seed"),
)
"""Fields of a record, of its methods and of its pairs that are kept: no answers, no curves, no address of this machine's runs."""
OF_MACHINE = ("cpu", "cores", "memory_gb", "python", "torch", "gpu", "workers", "threads")
OUR_FOLDERS = re.compile(r"(?<![\w.:/])/[^\s:]*?/(?=\.posttrain/|reports/|data/)")
"""Before a path within a repository, in what a failed run said: where the copy lay is nobody's business."""
FEEDBACK = (
    ("labels", "labels", "accuracy"),
    ("labels", "proxy", "labels_agreement_gold"),
    ("reward model", "reward_model", "accuracy_gold"),
)
"""What feedback was worth: its kind, and the part of a pipeline's audit and the figure in it that say so."""
DIGEST = "of docs/study.json with the sha256"
"""Before the digest in the picture's last line."""
SHOWN = "dpo"
"""The method whose first report's picture docs/how-to.md shows."""


# --- the record that is kept --------------------------------------------------------------------------------------------


def study_of(comparison: Mapping[str, Any], reports: Path | None, *, world: int | None) -> dict[str, Any]:
    """Return what is kept of a comparison.

    Args:
        comparison: the record, of the form `posttrain.comparison/1`.
        reports: folder with the reports of its pipelines; None where there is none.
        world: `world.seed` that it ran on; None on other data.

    Raises:
        SystemExit: the record is of another form, or says of no method what it learns from.
    """
    if comparison.get("schema") != RECORD:
        raise SystemExit(f"the record must be of the form {RECORD}, got {comparison.get('schema')!r}")
    kept = _without_folders({name: comparison.get(name) for name in KEPT})
    kept["machine"] = {name: (kept["machine"] or {}).get(name) for name in OF_MACHINE}
    methods = [{name: method.get(name) for name in OF_METHOD} for method in comparison["methods"]]
    pairs = [{name: pair.get(name) for name in OF_PAIR} for pair in comparison["pairs"] if pair["family"] != "all"]
    return {
        "schema": SCHEMA,
        "world": world,
        "picture": "study.svg",
        **kept,
        "methods": methods,
        "pairs": pairs,
        "base": list(base_of(comparison, reports)) if reports else [],
        "feedback": list(feedback_of(comparison, reports)) if reports else [],
    }


def _without_folders(tree: Any) -> Any:
    """Return a tree of JSON whose texts name files by their path within the repository."""
    return changed(tree, lambda one: OUR_FOLDERS.sub("", one) if isinstance(one, str) else one)


def changed(tree: Any, change: Callable[[Any], Any]) -> Any:
    """Return a tree of JSON with each text, number and null as `change` returns it."""
    if isinstance(tree, Mapping):
        return {name: changed(one, change) for name, one in tree.items()}
    return [changed(one, change) for one in tree] if isinstance(tree, list) else change(tree)


def reports_of(comparison: Mapping[str, Any], reports: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield the seed and the report of each pipeline of a comparison whose report is there."""
    for method in comparison["methods"]:
        for run in method["runs"]:
            path = reports / f"{run['pipeline_id']}.json"
            if path.is_file():
                yield run["seed"], json.loads(path.read_text(encoding="utf-8"))


def base_of(comparison: Mapping[str, Any], reports: Path) -> Iterator[dict[str, Any]]:
    """Yield the accuracy of each seed's base model, which all methods of a seed share."""
    told = set()
    for seed, report in reports_of(comparison, reports):
        found = report["models"].get("base", {}).get("accuracy")
        if found and seed not in told:
            told.add(seed)
            yield {"seed": seed, **found}


def feedback_of(comparison: Mapping[str, Any], reports: Path) -> Iterator[dict[str, Any]]:
    """Yield how often labels and reward models agree with gold: one for each seed, kind and labeller, from the first report."""
    told = set()
    for seed, report in reports_of(comparison, reports):
        audit = report.get("audit") or {}
        who = WHO.get(audit.get("source", ""), "")
        for kind, part, name in FEEDBACK:
            found = audit.get(part) or {}
            if who and f"{name}_low" in found and (key := (seed, kind, who)) not in told:
                told.add(key)
                bounds = {"estimate": found[name], "low": found[f"{name}_low"], "high": found[f"{name}_high"]}
                yield {"seed": seed, "kind": kind, "who": who, **bounds}


def rounded(tree: Any) -> Any:
    """Return a tree of JSON with its numbers to six digits, which is more than any page shows."""
    return changed(tree, lambda one: float(f"{one:.6g}") if isinstance(one, float) else one)


# --- publishing ---------------------------------------------------------------------------------------------------------


def read_study() -> dict[str, Any]:
    """Return docs/study.json."""
    study: dict[str, Any] = json.loads((DOCS / "study.json").read_text(encoding="utf-8"))
    return study


def publish(record: Path) -> None:
    """Make a comparison the published study: its record, and every page from it.

    Raises:
        SystemExit: it has other seeds than those that are reported, or is of another form.
    """
    comparison = json.loads(record.read_text(encoding="utf-8"))
    seeds = tuple(comparison["design"]["seeds"])
    if not set(seeds) <= set(REPORTED.seeds):
        raise SystemExit(f"a published study has seeds of benchmarks/worlds.py ({REPORTED.seeds}), got {seeds}")
    study = study_of(comparison, record.resolve().parents[2], world=REPORTED.seed)
    text = json.dumps(rounded(study), indent=1, ensure_ascii=False, allow_nan=False)
    (DOCS / "study.json").write_text(f"{text}\n", encoding="utf-8")
    write_picture()
    for method in comparison["methods"]:
        pictures = [record.resolve().parents[2] / f"{run['pipeline_id']}.png" for run in method["runs"]]
        if method["name"] == SHOWN and pictures and pictures[0].is_file():
            shutil.copyfile(pictures[0], DOCS / "report.png")
    write_pages()


def digest() -> str:
    """Return the digest of docs/study.json, which the picture carries."""
    return hashlib.sha256((DOCS / "study.json").read_bytes()).hexdigest()


def write_picture() -> None:
    """Draw docs/study.json as docs/study.svg: the forest of a comparison's page, as wide as on a desk."""
    from tasks.comparison.charts.forest import forest
    from tasks.pages.svg import as_svg
    from tasks.pages.theme import WIDE

    study = read_study()
    drawn = as_svg(lambda: forest(study, WIDE), name="study", says=study["verdict"])
    (DOCS / "study.svg").write_text(f"{drawn}\n<!-- {DIGEST} {digest()} -->\n", encoding="utf-8")


def write_pages() -> None:
    """Write docs/results.md and README's parts from docs/study.json."""
    study = read_study()
    (DOCS / "results.md").write_text(study_pages.results(study), encoding="utf-8")
    readme = ROOT / "README.md"
    readme.write_text(study_pages.readme(readme.read_text(encoding="utf-8"), study), encoding="utf-8")


# --- running ------------------------------------------------------------------------------------------------------------


def copy_of_sources() -> Path:
    """Return a fresh copy in the reported world: the same one for the same sources, so that a killed study goes on in it."""
    names = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True, text=True).stdout
    files = [ROOT / name for name in sorted(filter(None, names.split("\0"))) if (ROOT / name).is_file()]
    digest = hashlib.sha256()
    for file in files:
        digest.update(f"{file.relative_to(ROOT)}\0".encode() + hashlib.sha256(file.read_bytes()).digest())
    folder = Path(tempfile.gettempdir(), f"posttrain-study-{digest.hexdigest()[:12]}")
    if not folder.is_dir():
        begun = folder.with_suffix(f".{os.getpid()}")
        begun.mkdir()
        in_world(fresh_copy(begun), REPORTED.seed).rename(folder)
    return folder


def measure(methods: str, seeds: str, words: list[str]) -> int:
    """Run the comparison in a copy, take its reports here, and print the page of results; return the comparison's exit code."""
    from flows.pipeline import git_commit  # Prefect takes seconds to load, and pages are made without it

    commit, folder = git_commit(ROOT), copy_of_sources()
    print(f"the study runs in {folder}; killed, the same command goes on", file=sys.stderr)
    command = [sys.executable, "-m", "flows", "compare", f"METHODS={methods.replace(',', ' ')}", f"SEEDS={seeds}", *words]
    code = subprocess.run(command, cwd=folder, check=False).returncode
    latest = folder / "reports" / "compare" / "latest.json"
    if code not in (0, 3) or not latest.is_file():  # 3: a run failed, the others are compared
        print(f"the comparison ended with {code}; what is finished stays in {folder}", file=sys.stderr)
        return code or 1
    here = ROOT / "reports" / "study"
    shutil.rmtree(here, ignore_errors=True)
    shutil.copytree(folder / "reports", here)
    # the copy has no commit of its own: its sources have
    comparison = json.loads(latest.read_text(encoding="utf-8")) | {"git_commit": commit}
    record = here / "compare" / comparison["id"] / "comparison.json"
    record.write_text(json.dumps(comparison, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    print(study_pages.results(rounded(study_of(comparison, here, world=REPORTED.seed))))
    print(f"to publish it: python -m benchmarks.study from={record.relative_to(ROOT)}", file=sys.stderr)
    if not code:
        shutil.rmtree(folder)
    return code


def main(words: list[str]) -> int:
    """Publish a comparison, write the pages again, or run the study."""
    if words == ["pages"]:
        write_picture()
        write_pages()
        return 0
    given = {name: value for name, equals, value in (word.partition("=") for word in words) if equals}
    if "from" in given:
        publish(Path(given["from"]))
        return 0
    own = ("methods", "seeds")
    others = [word for word in words if word.partition("=")[0] not in own]
    return measure(given.get("methods", ",".join(METHODS)), given.get("seeds", ",".join(map(str, REPORTED.seeds))), others)


if __name__ == "__main__":
    os.environ.setdefault("DO_NOT_TRACK", "true")
    sys.exit(main(sys.argv[1:]))
