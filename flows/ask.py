"""`make ask` and `make chat`: what models answer, side by side, and one model in a conversation."""

import gc
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from flows.named_models import default_names, held_out_questions, named_model
from flows.use_requests import LIMIT, AskRequest
from posttrain.errors import RequestError
from posttrain.printable import printable
from posttrain.prompts import plain
from posttrain.records import Message, Prompt, Question
from posttrain.settings.config import Config
from tasks.asking.answer import Answer, Loaded, Named, is_right
from tasks.asking.conversation import Conversation, room_for_turns
from tasks.asking.screen import Ask, Hear, Spoken, show_side_by_side
from tasks.monitoring.prompts import new_prompts
from tasks.workspace.paths import Paths
from tasks.workspace.progress import bar

Say = Callable[[str], None]
STDIN = "-"
QUIT = ("/quit", "/exit")


def ask(paths: Paths, config: Config, request: AskRequest, say: Say) -> None:
    """Print what each model answers to a prompt, or to every prompt of a file.

    An answer to a held-out question of the dataset is checked; of any other nobody can tell whether it is right.

    Raises:
        RequestError: there is no such model or file, or a prompt fills the context.
        DataError: a row of the file cannot be read.
        StorageError: a version's files are gone or damaged.
    """
    prompts = list(_prompts(paths, request))
    names = request.names or default_names(paths, config)
    models = [named_model(paths, config, name, say, is_limit_given=request.is_limit_given) for name in names]
    known = {plain(one.prompt).strip(): one for one in held_out_questions(paths, config.data.name)}
    questions = [known.get(plain(prompt).strip()) for prompt in prompts]
    if request.file:
        _ask_all(config, request, models, prompts, questions)
        return
    ask_one = [(model.title, _asking(config, request, model, prompts[0], questions[0])) for model in models]
    show_side_by_side(ask_one)
    if questions[0] and questions[0].answers:
        print(f"a held-out question of {config.data.name}; its answer: {printable(', '.join(questions[0].answers))}")


def _prompts(paths: Paths, request: AskRequest) -> Iterator[Prompt]:
    if request.file:
        source = paths.root / Path(request.file).expanduser()
        for record in new_prompts(source, shown=request.file, form=request.form, columns=request.columns):
            if (prompt := getattr(record, "prompt", None)) is not None:
                yield prompt
        return
    text = sys.stdin.read() if request.prompt == STDIN else request.prompt
    if not text.strip():
        raise RequestError("the prompt is empty: standard input has no text")
    yield text


def _asking(config: Config, request: AskRequest, model: Named, prompt: Prompt, question: Question | None) -> Ask:
    def ask_it(hear: Hear) -> Answer:
        loaded = Loaded.of(model)
        name = question.id if question else plain(prompt)
        found = loaded.answer(prompt, temperature=request.temperature, seed=config.seed, name=name, hear=hear)
        del loaded
        gc.collect()  # the next model may need its room
        return _checked(found, question)

    return ask_it


def _checked(answer: Answer, question: Question | None) -> Answer:
    return replace(answer, is_right=is_right(answer.text, question)) if question else answer


def _ask_all(
    config: Config, request: AskRequest, models: Sequence[Named], prompts: Sequence[Prompt], questions: Sequence[Question | None]
) -> None:
    """Print the answers to many prompts, each model loaded once and asked in batches."""
    names = [question.id if question else plain(prompt) for prompt, question in zip(prompts, questions, strict=True)]
    tables: list[list[Answer]] = []
    with bar("ask", len(models) * len(prompts)) as advance:
        for model in models:
            loaded = Loaded.of(model)
            how: dict[str, Any] = {"temperature": request.temperature, "seed": config.seed}
            found = loaded.answers(
                prompts,
                names=names,
                batch_size=config.evaluate.batch_size,
                advance=lambda done: advance(done, ""),
                **how,
            )
            tables.append([_checked(one, question) for one, question in zip(found, questions, strict=True)])
            del loaded
            gc.collect()
    for number, (prompt, *answers) in enumerate(zip(prompts, *tables, strict=True), 1):
        print(printable(f"=== {number}: {plain(prompt).strip()}"))
        for model, answer in zip(models, answers, strict=True):
            print(printable(f"--- {model.title}\n{answer.text}\n({answer.figures()})"))
        print()
    for model, table in zip(models, tables, strict=True):
        print(printable(_summary(model, table)))


def _summary(model: Named, table: Sequence[Answer]) -> str:
    finished = sum(one.is_finished for one in table)
    told = f"{model.title}: {len(table):,} answers, {finished:,} finished"
    checked = [one for one in table if one.is_right is not None]
    if checked:
        told += f"; {sum(bool(one.is_right) for one in checked):,} of {len(checked):,} that are held-out questions right"
    return told


# --- a conversation ---------------------------------------------------------------------------------------------------


def chat(paths: Paths, config: Config, request: AskRequest, say: Say) -> None:
    """Talk with a model until /quit, Ctrl-D or Ctrl-C. What was said is sent along, as far as the context holds it.

    Raises:
        RequestError: there is no such model, or it cannot be loaded.
        StorageError: a version's files are gone or damaged.
    """
    name = (request.names or default_names(paths, config))[-1]
    model = named_model(paths, config, name, say, is_limit_given=request.is_limit_given)
    loaded = Loaded.of(model)
    print(printable(f"{model.title}. /quit, Ctrl-D or Ctrl-C ends it"), flush=True)
    turns = Conversation()
    try:
        while (text := _heard()) is not None:
            if text:
                _reply(config, request, loaded, turns, text, say)
    except KeyboardInterrupt as error:
        if str(error):  # the output is gone, which is no wish to end
            raise
        print(flush=True)


def _heard() -> str | None:
    """Return a line of the user, None at the end."""
    try:
        text = input("> " if sys.stdin.isatty() else "").strip()
    except EOFError:
        return None
    return None if text in QUIT else text


def _reply(config: Config, request: AskRequest, loaded: Loaded, turns: Conversation, text: str, say: Say) -> None:
    """Let the model answer, and keep both; a message that does not fit is told and forgotten."""

    def tokens_of(messages: Sequence[Message]) -> int:
        return loaded.tokens_of(tuple(messages))

    try:
        loaded.check_room((Message(role="user", content=text),))
    except RequestError as error:  # told before a turn leaves for it
        say(f"request: {error}")
        return
    turns.ask(text)
    room = room_for_turns(loaded.named.context, loaded.named.max_new_tokens)
    if gone := turns.trim(tokens_of, room):
        say(f"note: the oldest {gone} turns no longer fit into the context of {loaded.named.context:,} tokens and were left out")
    spoken, is_watched = Spoken(), sys.stdout.isatty()
    answer = loaded.answer(
        tuple(turns.turns),
        temperature=request.temperature,
        seed=config.seed,
        name=f"turn {len(turns.turns)} {text}",
        hear=spoken.hear if is_watched else lambda so_far: None,
    )
    spoken.end(answer.text)
    turns.hear(answer.text)
    if not answer.is_finished:
        say(f"note: cut off after {answer.tokens:,} tokens ({LIMIT})")
