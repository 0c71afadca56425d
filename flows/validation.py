"""`make validate`: the data gate alone."""

import json
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

from posttrain.settings.config import Config
from tasks.base_model.tokenizer import make_tokenizer
from tasks.data.dvc import bring_up_to_date
from tasks.validation import gate
from tasks.workspace.paths import Paths


def validate_dataset(paths: Paths, config: Config, say: Callable[[str], None]) -> list[str]:
    """Return a line a role, after checking with the tokens of the model in use.

    Raises:
        DataError: the gate is closed.
    """
    data = bring_up_to_date(paths, config.data.name)
    for note in data.notes:
        say(note)
    found = paths.findings("validation", data.name)
    with TemporaryDirectory(dir=paths.store) as scratch:
        tokenizer, checked = Path(scratch, "tokenizer"), Path(scratch, "checked")
        tokenizer.mkdir()
        checked.mkdir()
        made = make_tokenizer(
            tokenizer, lambda *_: None, data=data.folder, dataset=data.name, model=config.model, settings=config.tiny
        )
        gate.pass_gate(
            checked,
            lambda *_: None,
            data=data.folder,
            dataset=data.name,
            tokenizer=tokenizer / "tokenizer",
            context=int(made.metrics["context"]),
            settings=config.validation,
            expectations=paths.data / "expectations",
            findings=found,
        )
    return [*json.loads((found / "validation.json").read_text())["summary"], f"page: {found / 'validation.html'}"]
