"""`make label`: people compare samples on a page of this machine, and their labels make a new version of the dataset."""

import getpass
import json
import socket
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlsplit

from flows.label_items import Earlier, draw_batch, instructions_of, prepare
from flows.label_request import LabelRequest
from posttrain.errors import RequestError
from posttrain.printable import printable
from posttrain.settings.config import Config, flat
from tasks.data.dvc import bring_up_to_date
from tasks.data.dvc_files import LABELS
from tasks.data.labels_file import read_people
from tasks.labelling.batches import Batch, batches_of, make_batch, open_batch, read_events, read_items
from tasks.labelling.candidates import Texts, texts_of
from tasks.labelling.finish import Finished, finish_batch
from tasks.labelling.people import Link, add_person, people_of, revoke_person
from tasks.services.processes import is_free
from tasks.workspace.disk import write_whole
from tasks.workspace.paths import Paths

Say = Callable[[str], None]
PAGE, VERDICTS = "page.json", "verdicts.json"
"""In a batch's folder: the port of its page when it was last served; what a judge says of its items, where people see that."""
LOOPBACK = ("127.0.0.1", "localhost")
EVERYWHERE = ("0.0.0.0", "::")
GOODBYE_SECONDS = 10.0
"""For which the page goes on once the batch is over, so that the last answer can be taken back."""


def label(paths: Paths, config: Config, request: LabelRequest, say: Say) -> None:
    """Make or open a batch, serve its page, and at its end make a version of the dataset of what people said.

    Raises:
        RequestError: the port is taken, somebody else serves the batch, or a rule lacks what it asks.
        DataError: the dataset has no question, or nothing is left to ask.
        StorageError: the disk refused; what was answered is there.
        ContractError: a stage refuses.
    """
    _check_site(config)
    if request.revoke:
        _revoke(open_batch(paths, config.data.name), request.revoke)
        return
    if request.is_links_only:
        batch = open_batch(paths, config.data.name)
        _print_links(_links(batch, request.people, config), site_of(config, port_of(batch, request, config)))
        return
    waiting = [] if request.is_new else [one for one in batches_of(paths, config.data.name) if not one.is_finished]
    batch = _opened(waiting[-1], request, say) if waiting else _new(paths, config, request, say)
    if not batch.is_closed:
        _serve(batch, config, request, say)
    if batch.is_finished:
        print(f"batch {batch.name} was ended by another command, which said what came of it")
    elif batch.is_closed or is_over(batch):
        end(paths, batch)
    else:
        name = batch.dataset
        print(
            f"the batch is not over, and what was answered is kept. Go on: make label DATA={name}. End it with what is there: "
            f"make labels DATA={name} FINISH=1 FORCE=1"
        )


# --- the batch --------------------------------------------------------------------------------------------------------


def _opened(batch: Batch, request: LabelRequest, say: Say) -> Batch:
    """Return an unfinished batch that goes on, and tell which words it leaves aside."""
    if request.of_new:
        words = " and ".join(request.of_new)
        say(f"note: {words} would be of a new batch, and batch {batch.name} goes on. Make another: NEW=1")
    return batch


def _new(paths: Paths, config: Config, request: LabelRequest, say: Say) -> Batch:
    """Draw and write a new batch; whatever can be seen to be wrong is told before anything is trained."""
    instructions = instructions_of(paths, config.labelling.kind)
    _check_port(config.labelling.port, config.labelling.host)
    prepared, notes = prepare(paths, config)
    if config.labelling.per_item > (named := max(1, len(request.people))):
        notes.append(
            f"note: labelling.per_item={config.labelling.per_item} takes as many people, and {named} get links now. "
            f'More: make label DATA={config.data.name} PEOPLE="cem" LINKS=1'
        )
    data = bring_up_to_date(paths, config.data.name)
    for note in (*notes, *data.notes):
        say(note)
    drawn = draw_batch(paths, prepared, data, earlier_of(paths, data.name), say)
    batch = make_batch(
        paths,
        dataset=data.name,
        kind=config.labelling.kind,
        items=drawn.items,
        per_item=config.labelling.per_item,
        method=config.method,
        data_md5=data.md5,
        models=[drawn.model],
        instructions=instructions,
        seed=config.seed,
        settings=_decided(config),
    )
    if drawn.verdicts:
        write_whole(batch.folder / VERDICTS, json.dumps(drawn.verdicts).encode())
    return batch


def _decided(config: Config) -> dict[str, Any]:
    """Return the settings that decided what the batch is."""
    return {
        "model.base": config.model.base,
        "evaluate.max_new_tokens": config.evaluate.max_new_tokens,
        **flat(config.labelling),
        **flat(config.sample),
        **flat(config.labels.only("pairs", "pairs_per_prompt")),
    }


def earlier_of(paths: Paths, dataset: str) -> Earlier:
    """Return what people were asked about a dataset before, and what they said."""
    batches = batches_of(paths, dataset)
    waiting: set[Texts] = set()
    answered: set[Texts] = set()
    for batch in batches:
        known = {event.item for event in read_events(batch) if event.kind == "answer"} if batch.is_finished else None
        for item in read_items(batch):
            if known is None or item.id in known:
                texts = texts_of(item.question, (each.text for each in item.responses))
                (waiting if known is None else answered).add(texts)
    return Earlier(batches=len(batches), waiting=waiting, answered=answered, labels=read_people(paths, dataset))


# --- links ------------------------------------------------------------------------------------------------------------


def _links(batch: Batch, people: Sequence[str], config: Config) -> list[Link]:
    return [add_person(batch, name, days=config.labelling.link_days) for name in people]


def _print_links(links: Sequence[Link], site: str) -> None:
    """Print links, which are told this once: the disk holds digests of them."""
    width = max((len(link.name) for link in links), default=0)
    for link in links:
        print(printable(f"{link.name:<{width}}  {site}/#{link.token}"), flush=True)


def _wanted(batch: Batch, request: LabelRequest, say: Say) -> list[str]:
    """Return who gets a link as the page opens: whoever is named and has none that holds; on an empty batch, else, the user."""
    now = datetime.now(UTC)
    holding = {person.name for person in people_of(batch) if person.holds(now)}
    for name in request.people:
        if name in holding:
            say(f'note: {name} has a link that holds. A new one instead: make label DATA={batch.dataset} PEOPLE="{name}" LINKS=1')
    wanted = [name for name in request.people if name not in holding]
    return wanted if wanted or holding else [user()]


def user() -> str:
    """Return how labels call whoever runs the command: the name of the account, `me` where there is none."""
    with suppress(OSError, KeyError, ImportError):  # as within a container, whose user may have no name
        return getpass.getuser()
    return "me"


def _revoke(batch: Batch, names: Sequence[str]) -> None:
    for name in names:
        revoke_person(batch, name)
        print(printable(f"the link of {name} to batch {batch.name} opens nothing any more; what {name} answered stays"))


# --- the page ---------------------------------------------------------------------------------------------------------


def _serve(batch: Batch, config: Config, request: LabelRequest, say: Say) -> None:
    """Serve the page until Ctrl-C or until the batch has ended; not at all where it is over already."""
    from tasks.labelling.desk import Desk
    from tasks.labelling.serve import serve_page

    host, port = config.labelling.host, port_of(batch, request, config)
    desk = Desk(batch, lease_seconds=config.labelling.lease_seconds)
    try:
        if desk.is_over():  # the process died before its labels were a version
            return
        site = site_of(config, port)
        wanted = _wanted(batch, request, say)

        def begun() -> None:
            # links are made once the page can be opened, so that none is told of a page that never came
            (batch.folder / PAGE).write_text(json.dumps({"port": port}), encoding="utf-8")
            print(printable(f"{about(batch)} Ctrl-C ends the page, not the batch."), flush=True)
            _print_links(_links(batch, wanted, config), site)

        if host not in LOOPBACK and not config.labelling.site.startswith("https://"):
            say(f"warning: the page listens on {host} without encryption: what is sent can be read on the way")
        over, names = Over(desk.is_over), [urlsplit(site).netloc]
        ended = lambda: batch.is_closed or over()  # noqa: E731 - make labels FINISH=1 closes it
        serve_page(desk, port=port, host=host, hosts=names, verdicts=_verdicts(batch), begun=begun, ended=ended)
    finally:
        desk.close()


def is_over(batch: Batch) -> bool:
    """Return whether nothing of a batch is left to answer."""
    from tasks.labelling.desk import Desk

    desk = Desk(batch)
    try:
        return desk.is_over()
    finally:
        desk.close()


@dataclass
class Over:
    """Tells that a batch has been over for a while: until then its last answer can be taken back.

    Attributes:
        is_over: tells whether it is over now.
        seconds: of the while.
        clock: seconds, never going back.
    """

    is_over: Callable[[], bool]
    seconds: float = GOODBYE_SECONDS
    clock: Callable[[], float] = time.monotonic
    _since: float | None = field(default=None, init=False)

    def __call__(self) -> bool:
        """Return whether it has."""
        if not self.is_over():
            self._since = None
            return False
        if self._since is None:
            self._since = self.clock()
        return self.clock() - self._since >= self.seconds


def about(batch: Batch) -> str:
    """Return what a batch is, in a sentence."""
    each = "1 person" if batch.per_item == 1 else f"{batch.per_item} people"
    return f"batch {batch.name} of {batch.dataset}: {batch.size:,} items ({batch.kind}), {each} each."


def _verdicts(batch: Batch) -> dict[str, float] | None:
    file = batch.folder / VERDICTS
    return json.loads(file.read_text(encoding="utf-8")) if file.is_file() else None


def port_of(batch: Batch, request: LabelRequest, config: Config) -> int:
    """Return the port of the page: that which was asked for, else where it was the last time, since links hold it."""
    with suppress(OSError, ValueError, KeyError, TypeError):
        before = int(json.loads((batch.folder / PAGE).read_text(encoding="utf-8"))["port"])
        return request.port or before
    return config.labelling.port


def site_of(config: Config, port: int) -> str:
    """Return what links begin with."""
    if config.labelling.site:
        return config.labelling.site.rstrip("/")
    host = socket.gethostname() if config.labelling.host in EVERYWHERE else config.labelling.host
    return f"http://{f'[{host}]' if ':' in host else host}:{port}"


def _check_site(config: Config) -> None:
    site = config.labelling.site
    parts = urlsplit(site)
    if site and (
        parts.scheme not in ("http", "https") or not parts.netloc or site.rstrip("/") != f"{parts.scheme}://{parts.netloc}"
    ):
        raise RequestError(f"labelling.site must be an address like https://label.example.org, without a path, got {site}")


def _check_port(port: int, host: str) -> None:
    """Refuse a port that is taken, before anything is trained for a page that could not open."""
    if not is_free(port, host):
        raise RequestError(
            f"port {port} must be free for the labelling page, but another program listens there, perhaps a page of another "
            f"dataset. Take another: make label PORT={port + 1}"
        )


# --- the end ----------------------------------------------------------------------------------------------------------


def end(paths: Paths, batch: Batch) -> None:
    """Make a version of the dataset of a batch's labels, and print what came out.

    Raises:
        RequestError: the batch is not over, or it makes no label.
        StorageError: the disk refused; the same command completes it.
    """
    for line in ended_lines(batch, finish_batch(paths, batch)):
        print(printable(line))


def ended_lines(batch: Batch, ended: Finished) -> Iterator[str]:
    """Yield what came out of a batch, and what to do next."""
    found = ended.agreement
    people = "1 person" if len(found.annotators) == 1 else f"{len(found.annotators)} people"
    yield f"batch {batch.name}: {ended.labels:,} labels by {people}, {ended.new:,} of them new to {batch.dataset}"
    yield f"version: {ended.md5} (data/{batch.dataset}/{LABELS})"
    if found.agreement is None:
        yield "agreement: not known, as no two people labelled one pair; PER_ITEM=2 asks two about each"
    else:
        share, beyond = found.agreement, "" if found.kappa is None else f", kappa {found.kappa:.2f}"
        bounds = f"{share.estimate:.1%} [{share.low:.1%}, {share.high:.1%}]"
        yield f"agreement: {bounds} on {found.shared_pairs:,} pairs that two people or more labelled{beyond}"
    yield f"next: make pipeline METHOD=rlhf DATA={batch.dataset}; make retrain DATA={batch.dataset} promotes what is better"
