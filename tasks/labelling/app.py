"""The labelling page's server: one batch, many annotators, one round trip from an answer to the next item.

A personal link's token comes once to /session, in a body: it is in no address and so in no log. From then on a cookie that no
script can read holds it, and each request asks the desk anew whether it still holds: one that is revoked ends at once, and a
server that was killed and started again goes on with the same pages.
"""

import hmac
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Annotated

from fastapi import Depends, FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import HTMLResponse, JSONResponse, Response
from pydantic import BaseModel, ConfigDict, Field, StrictFloat, StrictInt

from posttrain.errors import PosttrainError, StorageError
from posttrain.labelling.items import Shown
from tasks.labelling import fragments
from tasks.labelling.desk import Desk, Refused, TurnOver
from tasks.labelling.shield import shielded
from tasks.services.guard import App

CSRF = "X-CSRF-Token"
WHOLE = "/"
"""Path of the page; every other one but its style and script is asked by the page itself, and answered with JSON."""
GONE = 410
FULL = 507
"""The disk took nothing: HTTP's "insufficient storage"."""
DOORS: Mapping[str, tuple[int, str, str]] = {
    "no_token": (
        403,
        "This page needs your personal link",
        "Open the link that you were sent, the whole of it, with all that follows the # sign.",
    ),
    "wrong": (
        403,
        "This link is not known",
        "Copy the whole link that you were sent, with all that follows the # sign, or ask whoever sent it for a new one.",
    ),
    "revoked": (GONE, "This link was withdrawn", "Ask whoever sent it for a new one. What you have answered is kept."),
    "expired": (GONE, "This link has expired", "Ask whoever sent it for a new one. What you have answered is kept."),
    "finished": (
        GONE,
        "This batch is finished, thank you",
        "Nothing is left to label here. For the next batch you will be sent a new link.",
    ),
}
"""Why nobody gets in: status, title and what to do."""


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid")


class Token(_Body):
    """What a personal link brings."""

    token: Annotated[str, Field(max_length=200)]


class Turn(_Body):
    """Which showing of an item a request is about; "" where none is shown."""

    turn: Annotated[str, Field(max_length=100)]


class Answered(Turn):
    """An answer: the choice in the form of its kind, and the seconds in which the item could be seen."""

    choice: StrictInt | StrictFloat | Annotated[list[StrictInt], Field(max_length=20)]
    seconds: Annotated[float, Field(ge=0, le=1e6, allow_inf_nan=False)]


@dataclass(frozen=True)
class Annotator:
    """Who sent a request."""

    name: str
    token: str


def csrf_of(token: str) -> str:
    """Return what a page of this session sends with each request, which a foreign page cannot know."""
    return hmac.new(token.encode(), b"posttrain labelling page", sha256).hexdigest()


class Pages:
    """What the routes answer."""

    def __init__(self, desk: Desk, *, port: int, verdicts: Mapping[str, float]) -> None:
        self.desk, self.verdicts = desk, verdicts
        # a cookie is sent to every port of a machine, so two labelling pages on one must not take each other's
        self.cookie = f"posttrain-labelling-{port}"

    def annotator(self, request: Request) -> Annotator:
        """Return who sent a request, by his cookie.

        Raises:
            Refused: nobody who may.
        """
        token = request.cookies.get(self.cookie, "")
        if not token:
            raise Refused("no_token")
        return Annotator(self.desk.who(token), token)

    def sender(self, request: Request) -> str:
        """Return who sent a request that changes something, by his cookie and by his page's token.

        Raises:
            Refused: nobody who may.
            _ForgedError: the token is missing or not his.
        """
        who = self.annotator(request)
        if not hmac.compare_digest(request.headers.get(CSRF, "").encode(), csrf_of(who.token).encode()):
            raise _ForgedError
        return who.name

    def session(self, token: str, request: Request) -> Response:
        """Let somebody in with his link's token."""
        self.desk.who(token)
        reply = JSONResponse({"csrf": csrf_of(token)})
        reply.set_cookie(self.cookie, token, path="/", httponly=True, samesite="strict", secure=request.url.scheme == "https")
        return reply

    def whole(self, who: Annotator) -> Response:
        """Return the page with the item that is his."""
        batch = self.desk.batch
        shown = self.desk.next(who.name)
        text = fragments.page(
            batch.kind,
            person=who.name,
            dataset=batch.dataset,
            instructions=batch.instructions,
            csrf=csrf_of(who.token),
            shown=shown,
            progress=self.desk.progress(who.name),
            is_over=self.desk.is_over(),
        )
        return HTMLResponse(text)

    def answer(self, person: str, given: Answered) -> Response:
        """Save an answer, and return the next item once it is on the disk."""
        # the order shown is known only until the answer is in
        before = self.desk.next(person) if self.verdicts else None
        choice = tuple(given.choice) if isinstance(given.choice, list) else given.choice
        try:
            _, after = self.desk.answer_and_next(person, given.turn, choice, seconds=given.seconds)
        except TurnOver:
            return self._over(person)
        return self.following(person, "Saved.", after, verdict=self._judged(before, given))

    def _judged(self, shown: Shown | None, given: Answered) -> fragments.Judged | None:
        """Return what the judge says of the item that was just answered, where it is to be shown."""
        if shown is None or shown.turn != given.turn or shown.item.kind != "pair" or isinstance(given.choice, list):
            return None
        verdict = self.verdicts.get(shown.item.id)
        return None if verdict is None else fragments.judged(verdict, shown.order, given.choice)

    def skip(self, person: str, turn: str) -> Response:
        """Note that somebody cannot tell, and return the next item."""
        try:
            _, after = self.desk.skip_and_next(person, turn)
        except TurnOver:
            return self._over(person)
        return self.following(person, "Skipped.", after)

    def _over(self, person: str) -> Response:
        """Return the item to show instead of one that is no longer this person's."""
        said = "The item before was not saved: others have answered it, or have it before them."
        reply = self.following(person, said, self.desk.next(person))
        reply.status_code = 409
        return reply

    def undo(self, person: str, turn: str) -> Response:
        """Take the last answer or skip back, and return that item.

        The page sends the turn that it shows. Where that is not the turn of now, this request came before: its reply was lost.
        """
        shown = self.desk.next(person)
        if turn != (shown.turn if shown else ""):
            return self.following(person, "This is the item to answer now.", shown)
        back = self.desk.undo(person)
        return self.following(person, "Taken back: answer it again." if back else "There is nothing to take back.", back or shown)

    def following(self, person: str, said: str, shown: Shown | None, *, verdict: fragments.Judged | None = None) -> JSONResponse:
        """Return the item to show now, and where its person and the batch stand.

        Args:
            person: whose page it is.
            said: what happened, for the status line.
            shown: the item; None: nothing is left for this person now.
            verdict: of the judge on the item before, where it is shown.
        """
        progress = self.desk.progress(person)
        html = fragments.item_fragment(self.desk.batch.kind, shown, progress, is_over=self.desk.is_over(), verdict=verdict)
        return JSONResponse({"html": html, "said": f"{said} {progress.done} done, {progress.left_for_him} left."})


class _ForgedError(Exception):
    """A request without its page's token."""


def label_app(desk: Desk, *, port: int, hosts: Sequence[str] = (), verdicts: Mapping[str, float] | None = None) -> App:
    """Return the labelling page's app.

    Args:
        desk: of the batch.
        port: that the page is reached at.
        hosts: by which it is called, beside 127.0.0.1 and localhost; any other name is refused.
        verdicts: of a judge by id of item, each the probability that the item's first response is better; people then see them
            after their own answers. None: they see nothing of a judge.
    """
    pages = Pages(desk, port=port, verdicts=verdicts or {})
    app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)
    sender = Depends(pages.sender)
    style, script = fragments.style(), fragments.script()

    @app.get(WHOLE)
    def whole(who: Annotated[Annotator, Depends(pages.annotator)]) -> Response:
        return pages.whole(who)

    @app.get("/page.css")
    def css() -> Response:
        return Response(style, media_type="text/css")

    @app.get("/page.js")
    def javascript() -> Response:
        return Response(script, media_type="text/javascript")

    @app.post("/session")
    def session(given: Token, request: Request) -> Response:
        return pages.session(given.token, request)

    @app.post("/api/answer")
    def answer(given: Answered, person: str = sender) -> Response:
        return pages.answer(person, given)

    @app.post("/api/skip")
    def skip(given: Turn, person: str = sender) -> Response:
        return pages.skip(person, given.turn)

    @app.post("/api/undo")
    def undo(given: Turn, person: str = sender) -> Response:
        return pages.undo(person, given.turn)

    _refusals(app)
    return shielded(app, port=port, hosts=hosts)


def _refusals(app: FastAPI) -> None:
    """Let each error be answered in a sentence: as a page where a browser shows it, else as JSON."""

    def told(request: Request, status: int, title: str, *lines: str) -> Response:
        page = fragments.door(title, lines)
        if request.url.path == WHOLE:
            return HTMLResponse(page, status)
        return JSONResponse({"error": f"{title}: {' '.join(lines)}", "page": page}, status)

    @app.exception_handler(Refused)
    def refused(request: Request, error: Refused) -> Response:
        status, title, remedy = DOORS[error.reason]
        return told(request, status, title, remedy)

    @app.exception_handler(_ForgedError)
    def forged(request: Request, error: _ForgedError) -> Response:
        return JSONResponse({"error": "This page is not the newest of yours. Load it again."}, 403)

    @app.exception_handler(RequestValidationError)
    def unreadable(request: Request, error: RequestValidationError) -> Response:
        first = error.errors()[0]
        return JSONResponse({"error": f"{'.'.join(map(str, first['loc']))}: {first['msg']}."}, 422)

    @app.exception_handler(StorageError)
    def full(request: Request, error: StorageError) -> Response:
        if request.url.path == WHOLE:
            return told(request, FULL, "The server cannot write now", str(error), "Load this page again once it can.")
        return JSONResponse({"error": f"{error}."}, FULL)

    @app.exception_handler(PosttrainError)
    def wrong(request: Request, error: PosttrainError) -> Response:
        if request.url.path == WHOLE:
            return told(request, 500, "The server cannot read its files", str(error), "Tell whoever sent you the link.")
        return JSONResponse({"error": f"{error}."}, 422)
