"""A DVC that takes milliseconds, for tests that die at every step: it leaves the same files as the real one."""

import hashlib
from pathlib import Path

import yaml

from posttrain.data.roles import roles_of
from tasks.data.stages import params_of, read_records, split_dataset
from tasks.workspace.paths import Paths


def entry(paths, path):
    content = (paths.root / path).read_bytes()
    md5 = hashlib.md5(content, usedforsecurity=False).hexdigest()
    return {"path": path, "hash": "md5", "md5": md5, "size": len(content)}


def stub(paths, *arguments):
    """Stand in for `tasks.data.dvc.run_dvc`."""
    match arguments:
        case ("cache", "dir"):
            return f"{paths.root}/.dvc/cache\n"
        case ("add", path):
            (paths.root / f"{path}.dvc").write_text(yaml.safe_dump({"outs": [entry(paths, path) | {"path": Path(path).name}]}))
        case ("repro", target):
            _repro(paths, paths.root / target.partition(":")[0])
        case _:
            raise AssertionError(f"the stub of DVC was asked for {arguments}")
    return ""


def _repro(paths: Paths, file: Path) -> None:
    """Remove the outputs, run the stage, and write the lock file in place, which a kill may cut in two."""
    stage = yaml.safe_load(file.read_text())["stages"]["split"]
    for out in stage["outs"]:
        (paths.root / out).unlink(missing_ok=True)
    split_dataset(paths, file.parent.name)
    kinds = {record.kind for record in read_records(file.parent / "records.jsonl")}
    assert [Path(out).stem for out in stage["outs"]] == list(roles_of(kinds))
    lock = {
        "cmd": stage["cmd"],
        "deps": [entry(paths, path) for path in stage["deps"]],
        "params": {"params.yaml": {name: params_of(paths)[name] for name in stage["params"]}},
        "outs": [entry(paths, path) for path in stage["outs"]],
    }
    text = yaml.safe_dump({"schema": "2.0", "stages": {"split": lock}})
    file.with_name("dvc.lock").write_text(text[: len(text) // 2])
    file.with_name("dvc.lock").write_text(text)
