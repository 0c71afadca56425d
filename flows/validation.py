"""`make validate`: the data gate alone."""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from flows.bases import locate_base
from flows.lengths import beyond, decided, with_limits
from posttrain.data.lengths import Lengths
from posttrain.settings.config import Config
from tasks.base_model.tokenizer import make_tokenizer
from tasks.data.dvc import DatasetVersion, bring_up_to_date
from tasks.validation import gate
from tasks.validation.lengths import lengths_in
from tasks.workspace.paths import Paths


@dataclass(frozen=True)
class Checked:
    """A dataset behind the gate.

    Attributes:
        version: of the data.
        folder: of the rows that passed.
        tokenizer: folder of the tokenizer in use.
        context: tokens of prompt and response together, at most.
        lengths: of completions and prompts.
    """

    version: DatasetVersion
    folder: Path
    tokenizer: Path
    context: int
    lengths: Lengths


@contextmanager
def checked_dataset(paths: Paths, config: Config, say: Callable[[str], None]) -> Iterator[Checked]:
    """Give a dataset that was brought up to date and checked with the tokens of the model in use; its folder goes afterwards.

    Raises:
        DataError: the gate is closed.
    """
    data = bring_up_to_date(paths, config.data.name)
    for note in data.notes:
        say(note)
    with TemporaryDirectory(dir=paths.store) as scratch:
        tokenizer, checked = Path(scratch, "tokenizer"), Path(scratch, "checked")
        tokenizer.mkdir()
        checked.mkdir()
        made = make_tokenizer(
            tokenizer, lambda *_: None, data=data.folder, dataset=data.name, model=config.model, settings=config.tiny
        )
        context = int(made.metrics["context"])
        gate.pass_gate(
            checked,
            lambda *_: None,
            data=data.folder,
            dataset=data.name,
            tokenizer=tokenizer / "tokenizer",
            context=context,
            settings=config.validation,
            expectations=paths.data / "expectations",
            findings=paths.findings("validation", data.name),
        )
        yield Checked(data, checked, tokenizer / "tokenizer", context, lengths_in(checked))


def validate_dataset(paths: Paths, config: Config, say: Callable[[str], None]) -> list[str]:
    """Return a line a role, after checking with the tokens of the model in use, and how long a response may be.

    Raises:
        RequestError: there is no such base, or none that can be read.
        DataError: the gate is closed.
    """
    locate_base(paths, config.model, say=say)  # before its tokenizer is asked for
    if config.profile.sentence:
        say(config.profile.sentence)
    with checked_dataset(paths, config, say) as data:
        found = paths.findings("validation", data.version.name)
        limited = with_limits(config, data.lengths, context=data.context)
        limits = [*decided(config, limited, data.lengths), *beyond(limited, data.lengths)]
    return [*json.loads((found / "validation.json").read_text())["summary"], *limits, f"page: {found / 'validation.html'}"]
