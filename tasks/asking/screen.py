"""How answers are shown: columns that grow as tokens come where a wide terminal is watched, else one below the other."""

import sys
from collections.abc import Callable, Sequence

from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text

from posttrain.printable import printable
from tasks.asking.answer import Answer

NARROWEST = 36
"""Characters of a column that is still read with ease."""
UNFINISHED = "\N{REPLACEMENT CHARACTER}"
"""What a character looks like of which a part of its bytes has come."""
Hear = Callable[[str], None]
Ask = Callable[[Hear], Answer]
Note = Callable[[Answer], str]


class Spoken:
    """Prints a text that grows, each part once; what may still change is held back."""

    def __init__(self) -> None:
        self.printed = ""

    def hear(self, text: str) -> None:
        """Print what is new in the text so far."""
        self._print(text.rstrip(f"{UNFINISHED} \n\t"))

    def end(self, text: str) -> None:
        """Print the rest."""
        self._print(text)
        if not text.endswith("\n"):
            print(flush=True)

    def _print(self, text: str) -> None:
        if text.startswith(self.printed):
            print(printable(text[len(self.printed) :]), end="", flush=True)
            self.printed = text


def show_side_by_side(asked: Sequence[tuple[str, Ask]], *, note: Note = Answer.figures) -> list[Answer]:
    """Let each model answer in turn, and show the answers as the output allows; return them.

    Args:
        asked: what stands over an answer, and what makes it and is heard meanwhile.
        note: what stands below an answer, "" for nothing.
    """
    console = Console(file=sys.stdout)
    if sys.stdout.isatty() and 1 < len(asked) <= console.width // NARROWEST:
        return _in_columns(console, asked, note)
    return [_below(title, ask, note, is_watched=sys.stdout.isatty()) for title, ask in asked]


def _below(title: str, ask: Ask, note: Note, *, is_watched: bool) -> Answer:
    """Print an answer under its title, as it comes where somebody watches, else at once."""
    print(printable(f"--- {title}"), flush=True)
    spoken = Spoken()
    answer = ask(spoken.hear if is_watched else lambda text: None)
    spoken.end(answer.text)
    print(f"({told})\n" if (told := note(answer)) else "", flush=True)
    return answer


def _in_columns(console: Console, asked: Sequence[tuple[str, Ask]], note: Note) -> list[Answer]:
    titles = [title for title, _ in asked]
    texts, notes = [""] * len(asked), [""] * len(asked)
    answers = []
    # the live table goes, and the whole one stays: a live one is cut at the height of the terminal
    with Live(console=console, transient=True, vertical_overflow="ellipsis", refresh_per_second=12) as live:
        for place, (_, ask) in enumerate(asked):

            def hear(text: str, place: int = place) -> None:
                texts[place] = text
                live.update(_table(titles, texts, notes))

            answers.append(ask(hear))
            texts[place], notes[place] = answers[-1].text, note(answers[-1])
            live.update(_table(titles, texts, notes))
    console.print(_table(titles, texts, notes))
    return answers


def _table(titles: Sequence[str], texts: Sequence[str], notes: Sequence[str]) -> Table:
    table = Table(expand=True, show_lines=False, show_footer=True)
    for title, note in zip(titles, notes, strict=True):
        table.add_column(Text(printable(title)), Text(note, style="dim"), ratio=1, overflow="fold")
    table.add_row(*(Text(printable(text)) for text in texts))
    return table
