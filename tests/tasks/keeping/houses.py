"""A repository with a little of everything that a backup takes; the tables that are read are made by hand, without MLflow."""

import hashlib
import json
import sqlite3
from contextlib import closing
from pathlib import Path

from tasks.keeping.backup import Wanted, databases_of
from tasks.tracking.model_files import model_digest
from tasks.workspace.databases import Database
from tasks.workspace.paths import Paths

RUN, OTHER_RUN, MOVE = "a" * 32, "b" * 32, "c" * 32
PIPELINE = "20261128-174225-dpo-3cb9"
KEY, TRAINED = "1" * 64, "2" * 64
TABLES = """
CREATE TABLE experiments (experiment_id INTEGER, artifact_location TEXT);
CREATE TABLE runs (run_uuid TEXT, status TEXT, end_time INTEGER, artifact_uri TEXT);
CREATE TABLE tags (key TEXT, value TEXT, run_uuid TEXT);
CREATE TABLE params (key TEXT, value TEXT, run_uuid TEXT);
CREATE TABLE registered_models (name TEXT);
CREATE TABLE registered_model_aliases (alias TEXT, version INTEGER, name TEXT);
CREATE TABLE model_versions (name TEXT, version INTEGER, current_stage TEXT, source TEXT, storage_location TEXT);
CREATE TABLE model_version_tags (key TEXT, value TEXT, name TEXT, version INTEGER);
CREATE TABLE logged_models (model_id TEXT, artifact_location TEXT);
"""


def write(file: Path, content: bytes | str) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(content if isinstance(content, bytes) else content.encode())
    return file


def new_house(root: Path, *, word: str = "first") -> Paths:
    """Make it; `word` stands in everything, so that two houses differ in every file."""
    paths = Paths(root)
    root.mkdir(parents=True, exist_ok=True)
    write(root / "params.yaml", "labels: {file: people.jsonl}\n")
    write(root / "people.jsonl", f'{{"id": "{word}"}}\n')
    write(root / "people.jsonl.annotators.json", '["Ada"]')
    _ledger(paths, word)
    with closing(sqlite3.connect(_made(paths.store / "prefect" / "prefect.db"))) as base, base:
        base.execute("CREATE TABLE deployment (name TEXT, path TEXT, pull_steps TEXT, parameters TEXT)")
        base.execute("CREATE TABLE flow_run (name TEXT)")
        steps = json.dumps([{"set_working_directory": {"directory": str(root.resolve())}}])
        words = json.dumps({"words": ["ppo.reward=model:models:/posttrain-world/3"]})
        base.execute("INSERT INTO deployment VALUES (?, ?, ?, ?)", (word, str(root.resolve()), steps, words))
    with closing(sqlite3.connect(_made(paths.store / "judge" / "judge.sqlite"))) as base, base:
        base.execute("CREATE TABLE replies (key TEXT, reply TEXT)")
        base.execute("INSERT INTO replies VALUES ('k', ?)", (word,))
    write(paths.data / "mine" / "records.jsonl", f'{{"id": "{word}"}}\n')
    write(paths.data / "mine" / "dvc.yaml", "stages: {}\n")
    write(paths.data / "world" / "questions.jsonl", f'{{"id": "{word}"}}\n')
    write(paths.store / "dvc.json", json.dumps({"accepted": {}, "word": word}))
    write(paths.store / "schedules" / "nightly.json", json.dumps({"word": word}))
    write(paths.store / "services" / "webhook.key", f"key of the {word}\n").chmod(0o600)
    write(paths.store / "services" / "mlflow.json", json.dumps({"word": word}))  # a note of a process, which ends with it
    _stage(paths, "evaluate-dpo", KEY, {"problems.jsonl": f"{word}\n"})
    _stage(paths, "dpo", TRAINED, {"model/model.safetensors": f"{word} weights"})
    stages = [{"name": "evaluate-dpo", "key": KEY}, {"name": "dpo", "key": TRAINED}]
    report = {"pipeline_id": PIPELINE, "stages": stages, "model": {"uri": "models:/posttrain-world/2"}, "word": word}
    write(paths.reports / f"{PIPELINE}.json", json.dumps(report))
    write(paths.reports / f"{PIPELINE}.md", word)
    write(paths.reports / "compare" / "c1" / "comparison.json", json.dumps({"word": word, "runs": [PIPELINE]}))
    (paths.reports / "compare" / "latest.json").symlink_to("c1/comparison.json")
    return paths


def _made(file: Path) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    return file


def _ledger(paths: Paths, word: str) -> None:
    """Four versions: 1 is champion, a report names 2, a schedule 3, and nothing names 4."""
    artifacts = paths.ledger / "artifacts"
    for run in (RUN, MOVE):
        write(artifacts / run / "artifacts" / "move.json", json.dumps({"word": word}))
    with closing(sqlite3.connect(_made(paths.ledger / "mlflow.db"))) as base, base:
        base.executescript(TABLES)
        base.execute("INSERT INTO experiments VALUES (0, ?)", (str(artifacts.resolve()),))
        for run, status in ((RUN, "FINISHED"), (OTHER_RUN, "RUNNING"), (MOVE, "RUNNING")):
            base.execute("INSERT INTO runs VALUES (?, ?, NULL, ?)", (run, status, str(artifacts.resolve() / run / "artifacts")))
        base.execute("INSERT INTO tags VALUES ('posttrain.kind', 'promotion', ?)", (MOVE,))
        base.execute("INSERT INTO params VALUES ('labels.file', 'people.jsonl', ?)", (RUN,))
        base.execute("INSERT INTO registered_models VALUES ('posttrain-world')")
        base.execute("INSERT INTO registered_model_aliases VALUES ('champion', 1, 'posttrain-world')")
        for number in (1, 2, 3, 4):
            folder = artifacts / "models" / f"m-{number}" / "artifacts"
            files = {"config.json": "{}", "model.safetensors": f"{word} {number}"}
            for name, content in files.items():
                write(folder / name, content)
            digest = model_digest({name: hashlib.sha256(content.encode()).hexdigest() for name, content in files.items()})
            told = ("posttrain-world", number, "None", f"models:/m-{number}", str(folder.resolve()))
            base.execute("INSERT INTO model_versions VALUES (?, ?, ?, ?, ?)", told)
            base.execute("INSERT INTO logged_models VALUES (?, ?)", (f"m-{number}", str(folder.resolve())))
            tag = ("posttrain.weights_sha256", digest, "posttrain-world", number)
            base.execute("INSERT INTO model_version_tags VALUES (?, ?, ?, ?)", tag)


def _stage(paths: Paths, stage: str, key: str, files: dict[str, str]) -> None:
    folder = paths.stages / stage / key
    digests = {name: hashlib.sha256(content.encode()).hexdigest() for name, content in files.items()}
    for name, content in files.items():
        write(folder / name, content)
    facts = {
        **{"stage": stage, "key": key, "seconds": 1.0, "metrics": {}, "costs": {}, "settings": {}, "inputs": {}},
        "digest": hashlib.sha256(json.dumps(digests, sort_keys=True).encode()).hexdigest(),
        "files": digests,
    }
    write(folder / "stage.json", json.dumps(facts))


def wanted(paths: Paths, **how: object) -> Wanted:
    """Return the databases of a house; their schemas are ours, so none is compared with a library's."""
    files = (paths.ledger / "mlflow.db", paths.store / "prefect" / "prefect.db", paths.store / "judge" / "judge.sqlite")
    databases = [Database(file, f"the database {file.name}", "it", "the rest") for file in files]
    return Wanted(databases=databases_of(*databases), postgres={}, labels=["people.jsonl"], **how)  # type: ignore[arg-type]


def rows(file: Path, query: str) -> list[tuple[object, ...]]:
    with closing(sqlite3.connect(file)) as base:
        return base.execute(query).fetchall()


def tree(root: Path) -> dict[str, str]:
    """Return every file below a folder with its digest, links with what they hold; locks and notes of processes do not count."""
    found = {}
    for path in sorted(root.rglob("*")):
        name = str(path.relative_to(root))
        if path.is_symlink():
            found[name] = f"-> {path.readlink()}"
        elif path.is_file() and not name.endswith((".lock", "-shm", "-wal")):
            found[name] = hashlib.sha256(path.read_bytes()).hexdigest()
    return found
