"""The text that a tiny base and its tokenizer are made from."""

from itertools import chain
from pathlib import Path

from posttrain.errors import DataError
from posttrain.prompts import plain
from posttrain.records import Demonstration, Question, Text
from tasks.workspace.jsonl import read_records


def corpus(data: Path) -> list[str]:
    """Return the documents to make a tiny base from: the corpus, or what the training records themselves say.

    Raises:
        DataError: there is no text at all.
    """
    if (data / "corpus.jsonl").is_file():
        texts = [record.text for record in read_records(data / "corpus.jsonl", Text)]
    else:
        demonstrations = _if_there(data / "demonstrations.jsonl", Demonstration)
        questions = _if_there(data / "questions.jsonl", Question)
        texts = list(
            chain(
                (plain(record.prompt) + record.completion for record in demonstrations),
                (plain(record.prompt) for record in questions),
            )
        )
    if not texts:
        raise DataError(f'{data}: there is no text to make the tiny base from; name a model instead: SET="model.base=…"')
    return texts


def _if_there(path: Path, kind):  # type: ignore[no-untyped-def]  # tasks/ is not under mypy
    return read_records(path, kind) if path.is_file() else ()
