"""How the labels of a dataset stand, read from its folder and from its batches; a page may be writing meanwhile."""

from posttrain.labelling.answers import labels_of
from posttrain.labelling.progress import batch_progress
from posttrain.labelling.state import CLOSED, FINISHED, OPEN, BatchState, LabelState, Work, state_of
from tasks.data.labels_file import read_people
from tasks.labelling.ab import read_picks, read_thumbs
from tasks.labelling.batches import Batch, batches_of, folded, read_events, read_items
from tasks.labelling.people import people_of
from tasks.workspace.paths import Paths


def read_state(paths: Paths, dataset: str) -> LabelState:
    """Return how the labels of a dataset stand.

    Raises:
        DataError: its labels, or a batch, are damaged.
    """
    work = [_work(batch) for batch in batches_of(paths, dataset)]
    picks, thumbs = read_picks(paths, dataset), read_thumbs(paths, dataset)
    return state_of(dataset, read_people(paths, dataset), work, picks, thumbs)


def _work(batch: Batch) -> Work:
    items, events = read_items(batch), read_events(batch)
    standing = folded(batch, items, events)
    state = BatchState(
        name=batch.name,
        kind=batch.kind,
        state=FINISHED if batch.is_finished else CLOSED if batch.is_closed else OPEN,
        made_at=batch.made_at,
        per_item=batch.per_item,
        progress=batch_progress(standing, [person.name for person in people_of(batch)]),
    )
    return Work(state, standing, labels_of(items, events, prompt_version=batch.prompt_version))
