"""`make retrain` as a user gives it: its words, the server beside it, and what is printed at its end."""

from collections.abc import Sequence

from flows.retrain_notices import address_of, prepare_notices
from flows.server import starting_server
from flows.start import Start
from posttrain.errors import RequestError
from posttrain.printable import printable
from tasks.retraining.records import LATEST, folder_of
from tasks.workspace.disk import storage_errors
from tasks.workspace.paths import Paths

BY_HAND = "by hand"


def retrain_by_hand(paths: Paths, words: Sequence[str], start: Start) -> None:
    """Retrain and print how that ended; a champion that stays is an end like the others, and the exit code is 0.

    Raises:
        PosttrainError: a word or a setting is wrong, the dataset is being retrained now, or a stage refused; the champion stays.
    """
    force = next((word.partition("=")[2] for word in reversed(words) if word.startswith("force=")), "")
    if force not in ("", "0", "1"):
        raise RequestError(f"FORCE must be 1 (go through pipeline and gate although nothing has changed) or 0, got {force}")
    config = start.configuration([word for word in words if not word.startswith("force=")])
    start.prepare(config)
    address_of(config.retraining)
    with storage_errors("the retraining", paths.root):
        with starting_server(paths) as ephemeral:
            # what follows imports Prefect, which must know its server by then, and as long as that takes the server starts
            from flows.aftermath import settle
            from flows.retrain import retrain
            from flows.schedule_runs import by_hand
            from tasks.report.pictures import load_drawing
            from tasks.tracking.store import load_store

            if not config.tracking.uri:
                load_store()
            load_drawing()
        settle(paths, start.say)
        prepare_notices(paths, config, start.say, has_server=ephemeral is None)
        with by_hand(paths, config.data.name, "make retrain", start.say):
            ended = retrain(paths, config, start.say, cause=BY_HAND, is_forced=force == "1")
    print(printable(ended.says))
    print(f"record: {(folder_of(paths) / LATEST).relative_to(paths.root)}")
