"""`make ab`: two models answer what somebody types, side by side and without their names, and he says which is better."""

import getpass
import secrets
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from random import Random, SystemRandom

from flows.named_models import ALIASES, named_model, version_uri
from flows.use_requests import LIMIT, temperature_of
from posttrain.digests import text_digest
from posttrain.errors import RequestError
from posttrain.feedback.labels import Label
from posttrain.labelling.ab import SELECTION, picks_of
from posttrain.printable import printable
from posttrain.promotion.moves import CHALLENGER, CHAMPION
from posttrain.settings.config import Config
from tasks.asking.answer import Answer, Loaded
from tasks.asking.screen import Ask, Hear, show_side_by_side
from tasks.labelling.ab import add_pick, read_picks
from tasks.labelling.terminal import pick_lines
from tasks.workspace.paths import Paths

CHOICES = {"1": 1.0, "2": 0.0, "=": 0.5}
SKIP, END = "s", ("q", "/quit", "/exit")
HINT = "1 or 2: that one is better · =: equally good · s: say nothing"
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
    kept = 0
    try:
        while (prompt := _heard("> ")) is not None:
            if prompt:
                kept += _one_prompt(paths, config, request, draw.sample(sides, 2), prompt, say)
    except KeyboardInterrupt as error:
        if str(error):  # the output is gone, which is no wish to end
            raise
        print(flush=True)
    print(f"{kept:,} {'pick' if kept == 1 else 'picks'} kept")
    for line in pick_lines(picks_of(read_picks(paths, config.data.name))):
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


def _one_prompt(paths: Paths, config: Config, request: AbRequest, sides: Sequence[Side], prompt: str, say: Say) -> int:
    """Show both answers, take the pick, keep it, and return how many were kept: 1, or 0 for none."""
    try:
        for side in sides:
            side.loaded.check_room(prompt)
    except RequestError as error:  # without a word of which model it is
        say(f"request: the prompt does not fit: {str(error).partition(': ')[2]}")
        return 0
    # no figures: how long an answer took tells a large model from a small one
    asked = [(str(place), _asking(config, request, side, prompt)) for place, side in enumerate(sides, 1)]
    first, second = show_side_by_side(asked, note=lambda answer: "" if answer.is_finished else "cut off")
    if first.text == second.text:
        say("note: both gave the same answer, so there is nothing to pick")
        return 0
    started = time.monotonic()
    choice = _pick()
    if choice is None:
        return 0
    question = f"{SELECTION}/{text_digest(prompt).hex()}"  # of no dataset: nothing can train on it
    label = Label(
        id=f"{SELECTION}/{secrets.token_hex(8)}",
        prompt=prompt,
        question=question,
        group=question,
        first=first.text,
        second=second.text,
        preference=choice,
        annotator=request.annotator,
        source="person",
        at=datetime.now(UTC).isoformat(timespec="seconds"),
        first_model=sides[0].uri,
        second_model=sides[1].uri,
        first_finished=first.is_finished,
        second_finished=second.is_finished,
        seconds=round(time.monotonic() - started, 1),
        selection=SELECTION,
    )
    add_pick(paths, config.data.name, label)
    return 1


def _asking(config: Config, request: AbRequest, side: Side, prompt: str) -> Ask:
    def ask_it(hear: Hear) -> Answer:
        return side.loaded.answer(prompt, temperature=request.temperature, seed=config.seed, name=prompt, hear=hear)

    return ask_it


def _pick() -> float | None:
    """Return what the user picks, None where he says nothing."""
    while (text := _heard("1, 2, = or s: ")) is not None:
        if text == SKIP:
            return None
        if text in CHOICES:
            return CHOICES[text]
        print(HINT, flush=True)
    return None
