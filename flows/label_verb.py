"""`make label` as a user gives it: its words, the environment, and the disk."""

from collections.abc import Sequence

from flows.label_request import given_words, label_request
from flows.start import Start
from tasks.workspace.disk import storage_errors
from tasks.workspace.paths import Paths


def run_label(paths: Paths, words: Sequence[str], start: Start) -> None:
    """Let people label a batch: what is typed wrong is told before anything is loaded.

    Raises:
        PosttrainError: as `flows.label.label` says.
    """
    given, settings = given_words(words)
    config = start.configuration(settings)
    request = label_request(given, port=config.labelling.port)
    start.prepare(config)
    with storage_errors("labelling", paths.labelling):
        from flows.label import label

        label(paths, config, request, start.say)
