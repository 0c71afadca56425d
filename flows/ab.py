"""`make ab`: two models answer what somebody types, side by side and without their names, and he says which is better."""

import getpass
import secrets
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from random import Random, SystemRandom
from typing import Any

from flows.named_models import ALIASES, named_model, version_uri
from flows.use_requests import LIMIT, temperature_of
from posttrain.digests import text_digest
from posttrain.errors import RequestError
from posttrain.feedback.labels import Label
from posttrain.labelling.ab import SELECTION, Thumb, picks_of, thumbs_of
from posttrain.printable import counted, printable
from posttrain.promotion.moves import CHALLENGER, CHAMPION
from posttrain.settings.config import Config
from tasks.asking.answer import Answer, Loaded
from tasks.asking.screen import Ask, Hear, show_side_by_side
from tasks.labelling.ab import add_pick, add_thumb, read_picks, read_thumbs
from tasks.labelling.terminal import pick_lines, thumb_lines
from tasks.workspace.paths import Paths

CHOICES = {"1": 1.0, "2": 0.0, "=": 0.5}
SKIP, END = "s", ("q", "/quit", "/exit")
THUMBS = {"+": True, "-": False}
HINT = "1 or 2: that one is better · =: equally good · s: say nothing · +1 or -2: thumb up, or down, for one answer"
Say = Callable[[str], None]


@dataclass(frozen=True)
class AbRequest:
    """Who is compared, and by whom.

    Attributes:
        names: of the two models.
        annotator: who picks.
        temperature: 0 decodes greedily.
        is_limit_given: the settings say how long an answer may be.
    """

    names: tuple[str, str]
    annotator: str
    temperature: float
    is_limit_given: bool


@dataclass
class Kept:
    """What was kept since the start.

    Attributes:
        picks: how many.
        thumbs: ids of answers with a thumb.
    """

    picks: int = 0
    thumbs: set[str] = field(default_factory=set)

    def told(self) -> str:
        """Return it in words."""
        thumbs = f" and {counted(len(self.thumbs), 'thumb')}" if self.thumbs else ""
        return f"{counted(self.picks, 'pick')}{thumbs} kept"


@dataclass(frozen=True)
class Side:
    """One of the two: the model in memory, and what its answers are kept under."""

    uri: str
    loaded: Loaded


def ab_request(given: Mapping[str, str], settings: Sequence[str]) -> AbRequest:
    """Return what the words ask for.

    Raises:
        RequestError: not two models are named, or the name is empty.
    """
    names = given.get("models", "").replace(",", " ").split() or [CHALLENGER, CHAMPION]
    if len(set(names)) != 2 or len(names) != 2:
        raise RequestError(f'MODELS must name two models, got {" ".join(names)}. For instance: MODELS="{CHALLENGER} {CHAMPION}"')
    annotator = given.get("name", "").strip() or _user()
    is_limit_given = any(word.partition("=")[0].strip() == LIMIT for word in settings)
    return AbRequest((names[0], names[1]), annotator, temperature_of(given.get("temperature", "")), is_limit_given)


def _user() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError):  # no such user in the system's list, as in some containers
        return "somebody"


def ab(paths: Paths, config: Config, request: AbRequest, say: Say, *, random: Random | None = None) -> None:
    """Let two models answer prompts until q, Ctrl-D or Ctrl-C, keep every pick, and say how often the first was picked.

    Args:
        paths: of the repository.
        config: its dataset names registered model and runs.
        request: who is compared.
        say: prints a note.
        random: of who stands left.

    Raises:
        RequestError: there is no such model, or both are one.
        StorageError: a version's files are gone or damaged, or a pick could not be kept.
    """
    draw = random or SystemRandom()
    uris = [_uri(paths, config, name) for name in request.names]
    if uris[0] == uris[1]:
        raise RequestError(f"{' and '.join(request.names)} are one and the same model, {uris[0]}. Name another one by MODELS")
    sides = []
    for name, uri in zip(request.names, uris, strict=True):
        named = named_model(paths, config, name, say, is_limit_given=request.is_limit_given)
        sides.append(Side(uri, Loaded.of(named)))
    print(f"two models, without their names. Type a prompt; q, Ctrl-D or Ctrl-C ends it. {HINT}", flush=True)
    kept = Kept()
    try:
        while (prompt := _heard("> ")) is not None:
            if prompt and not _one_prompt(paths, config, request, draw.sample(sides, 2), prompt, kept, say):
                break
    except KeyboardInterrupt as error:
        if str(error):  # the output is gone, which is no wish to end
            raise
        print(flush=True)
    print(kept.told())
    picks, thumbs = picks_of(read_picks(paths, config.data.name)), thumbs_of(read_thumbs(paths, config.data.name))
    for line in (*pick_lines(picks), *thumb_lines(thumbs)):
        print(printable(line))


def _uri(paths: Paths, config: Config, name: str) -> str:
    """Return what a model's answers are kept under: a version by its number, for an alias moves on; others by their names."""
    return version_uri(paths, config, name) if name in ALIASES or name.isdecimal() else name


def _heard(sign: str) -> str | None:
    """Return a line of the user, None at the end."""
    try:
        text = input(sign if sys.stdin.isatty() else "").strip()
    except EOFError:
        return None
    return None if text in END else text


def _one_prompt(
    paths: Paths, config: Config, request: AbRequest, sides: Sequence[Side], prompt: str, kept: Kept, say: Say
) -> bool:
    """Show both answers, keep what is said of them as soon as it is said, and tell whether another prompt may come."""
    try:
        for side in sides:
            side.loaded.check_room(prompt)
    except RequestError as error:  # without a word of which model it is
        say(f"request: the prompt does not fit: {str(error).partition(': ')[2]}")
        return True
    # no figures: how long an answer took tells a large model from a small one
    asked = [(str(place), _asking(config, request, side, prompt)) for place, side in enumerate(sides, 1)]
    answers = show_side_by_side(asked, note=lambda answer: "" if answer.is_finished else "cut off")
    if answers[0].text == answers[1].text:
        say("note: both gave the same answer, so there is nothing to pick")
        return True
    shown = Shown(prompt, sides, answers, request.annotator)
    while (words := _opinion()) is not None:
        for word in words:
            if word in CHOICES:
                add_pick(paths, config.data.name, shown.pick(CHOICES[word]))
                kept.picks += 1
            elif word != SKIP:
                thumb = shown.thumb(int(word[1:]) - 1, is_good=THUMBS[word[0]])
                add_thumb(paths, config.data.name, thumb)
                kept.thumbs.add(thumb.id)
        if not _is_thumb(words[-1]):
            return True
    return False


class Shown:
    """Two answers that stand on the screen, and what is kept of an opinion on them.

    Args:
        prompt: that was typed.
        sides: who answered, in the order shown.
        answers: theirs.
        annotator: who looks at them.
    """

    def __init__(self, prompt: str, sides: Sequence[Side], answers: Sequence[Answer], annotator: str) -> None:
        self.sides, self.answers = sides, answers
        self.started, self.id = time.monotonic(), f"{SELECTION}/{secrets.token_hex(8)}"
        question = f"{SELECTION}/{text_digest(prompt).hex()}"  # of no dataset: nothing can train on it
        self.common: dict[str, Any] = {"prompt": prompt, "question": question, "annotator": annotator, "source": "person"}

    def pick(self, choice: float) -> Label:
        """Return which one is better."""
        (first, second), (left, right) = self.answers, self.sides
        return Label(
            id=self.id,
            group=self.common["question"],
            first=first.text,
            second=second.text,
            preference=choice,
            first_model=left.uri,
            second_model=right.uri,
            first_finished=first.is_finished,
            second_finished=second.is_finished,
            selection=SELECTION,
            **self._timed(),
        )

    def thumb(self, place: int, *, is_good: bool) -> Thumb:
        """Return what is said of one of them; said again, it is the same thumb."""
        answer, model = self.answers[place], self.sides[place].uri
        row = {"response": answer.text, "finished": answer.is_finished, "model": model, "is_good": is_good}
        return Thumb(id=f"{self.id}/{place + 1}", **row, **self._timed())

    def _timed(self) -> dict[str, Any]:
        at, seconds = datetime.now(UTC).isoformat(timespec="seconds"), round(time.monotonic() - self.started, 1)
        return {**self.common, "at": at, "seconds": seconds}


def _asking(config: Config, request: AbRequest, side: Side, prompt: str) -> Ask:
    def ask_it(hear: Hear) -> Answer:
        return side.loaded.answer(prompt, temperature=request.temperature, seed=config.seed, name=prompt, hear=hear)

    return ask_it


def _opinion() -> list[str] | None:
    """Return what the user says of the answers: a choice or "say nothing", behind thumbs or alone, or thumbs; None at the end."""
    while (text := _heard("1, 2, = or s: ")) is not None:
        *thumbs, last = text.split() or [""]
        if all(map(_is_thumb, thumbs)) and (last in CHOICES or last == SKIP or _is_thumb(last)):
            return [*thumbs, last]
        print(HINT, flush=True)
    return None


def _is_thumb(word: str) -> bool:
    return word[:1] in THUMBS and word[1:] in ("1", "2")
