"""Every verb, and the words that it takes: the one table behind `make`, `make help`, `python -m flows --help` and docs/verbs.md.

`make` asks it before anything runs (`python3 -m flows.verbs check …`), when no environment may be there yet: it needs Python's
own library alone, and reads on Python 3.9 as well. Why words are refused: docs/decisions/0015-command-line.md.
"""

import os
import re
import shlex
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from flows.words import (
    AB,
    ASK,
    BACKUP,
    CHAT,
    CLEAN,
    COMPARE,
    DATA,
    DEPLOY,
    DOCTOR,
    EXPORT,
    GRADE,
    IMPORT,
    LABEL,
    LABELS,
    METHOD,
    METHODS_WORD,
    MONITOR,
    OF_EVERY_VERB,
    OPEN,
    PORT,
    PROMOTE,
    RESTORE,
    RETRAIN,
    SCALE,
    SCHEDULE,
    SERVE,
    SET,
    UP,
    WHY,
    Word,
)
from posttrain.errors import RequestError, did_you_mean
from posttrain.methods import METHODS
from posttrain.printable import printable


@dataclass(frozen=True)
class Verb:
    """One thing to do.

    Attributes:
        name: of the verb.
        does: what it does.
        words: that it takes behind make.
        takes_settings: behind `python -m flows`, settings may stand by themselves ("seed=1").
        is_of_make: only make knows it; the others are verbs of `python -m flows` as well.
    """

    name: str
    does: str
    words: "tuple[Word, ...]" = ()
    takes_settings: bool = False
    is_of_make: bool = False


VERBS = {
    verb.name: verb
    for verb in (
        Verb("help", "list the verbs; `make help pipeline` tells more of one"),
        Verb("setup", "make the virtual environment (every other verb does it by itself)", is_of_make=True),
        Verb("pipeline", "train by one method, from data to report", (METHOD, DATA, SET), takes_settings=True),
        Verb("compare", "train by several methods on several seeds, and say which is best", COMPARE, takes_settings=True),
        Verb(
            "advise",
            "say which methods suit a dataset, in which order, and why",
            (
                DATA,
                METHODS_WORD,
                SET,
                Word("OUT", "advice.json", "the file for the answer as JSON; else in reports/advice/"),
            ),
            takes_settings=True,
        ),
        Verb("scale", "say what a model takes of so many GPUs, and how fast sampling must be", SCALE, takes_settings=True),
        Verb("data", "bring a dataset up to date", (DATA, SET), takes_settings=True),
        Verb("import", "make a dataset of a file", IMPORT),
        Verb("label", "let people compare samples on a page; their labels make a new version", LABEL, takes_settings=True),
        Verb("validate", "check a dataset without training", (DATA, SET), takes_settings=True),
        Verb(
            "settings", "list what a method reads, its values, and where they come from", (METHOD, DATA, SET), takes_settings=True
        ),
        Verb("ask", "print what models answer to a prompt, side by side", ASK, takes_settings=True),
        Verb("chat", "talk with a model; it keeps the turns", CHAT, takes_settings=True),
        Verb("ab", "type prompts, see two models' answers without their names, pick the better one", AB, takes_settings=True),
        Verb("export", "write a version as a Hugging Face directory or GGUF, and test its answers", EXPORT, takes_settings=True),
        Verb("serve", "serve a version on this machine, OpenAI-compatible, until Ctrl-C", SERVE, takes_settings=True),
        Verb(
            "labels",
            "show how people's labels stand; finish a batch; exchange labels with other tools",
            LABELS,
            takes_settings=True,
        ),
        Verb("grade", "grade a file of completions without a model", GRADE),
        Verb(
            "monitor", "say whether new prompts have drifted, and the champion still answers well", MONITOR, takes_settings=True
        ),
        Verb("retrain", "train again if something has changed, and promote what is better", RETRAIN, takes_settings=True),
        Verb("schedule", "list schedules; make, pause, resume or delete one", SCHEDULE, takes_settings=True),
        Verb("deploy", "write the files with which scheduled work runs on a work pool: processes, Docker, Kubernetes", DEPLOY),
        Verb("promote", "make a version the champion, if the gate lets it pass", PROMOTE, takes_settings=True),
        Verb("rollback", "make the previous champion the champion again", (WHY, DATA, SET), takes_settings=True),
        Verb("history", "list who became champion when, by whom and why", (DATA, SET), takes_settings=True),
        Verb(
            "ui",
            "serve MLflow's page and open the view of who won, at port 5000 or the next free one",
            (PORT, OPEN),
            takes_settings=True,
        ),
        Verb("up", "start Prefect's server, MLflow's server and a worker in the background", UP, takes_settings=True),
        Verb("down", "stop what make up started, and what the worker runs"),
        Verb("status", "show what make up started: whether it is well, since when, memory, log"),
        Verb("doctor", "check whether the stores agree with each other, and mend what is safe", DOCTOR, takes_settings=True),
        Verb("backup", "write what cannot be made again into a folder or a file", BACKUP, takes_settings=True),
        Verb("restore", "put a backup back, all of it or nothing", RESTORE, takes_settings=True),
        Verb("bench", "run the study that README.md shows, here (hours)", is_of_make=True),
        Verb("test", "run the tests", is_of_make=True),
        Verb("lint", "check style and types", is_of_make=True),
        Verb("lock", "resolve the dependencies anew into constraints.txt", is_of_make=True),
        Verb(
            "clean", "remove what can be made again; with KEEP only what is old and needed by nothing", CLEAN, takes_settings=True
        ),
    )
}
OF_FLOWS = tuple(name for name, verb in VERBS.items() if not verb.is_of_make and name != "help")
HELP = ("-h", "--help")
MEANT = {"SEED": "seed", "SEEDS": "seed", "MODEL": "model.base", "BASE": "model.base", "REWARD": "ppo.reward", "BETA": "dpo.beta"}
"""What people write as a variable, and the setting that they mean."""
COMPLETION = "__BASH_MAKE_COMPLETION__"
"""Set by a shell that lists the targets for its Tab key; it runs nothing."""
SPECIAL = (".DEFAULT", ".PHONY")
"""What such a shell asks make for."""


# --- help -------------------------------------------------------------------------------------------------------------


def overview() -> str:
    """Return a line a verb, as `make help` prints it."""
    width = max(len(name) for name in VERBS)
    lines = [f"make {verb.name:<{width}}  {verb.does}{_in_brackets(verb)}" for verb in VERBS.values()]
    return "\n".join([*lines, "", "more of a verb: make help pipeline, or python -m flows pipeline --help"])


def _in_brackets(verb: Verb) -> str:
    return f" ({' '.join(f'{word.name}=' for word in verb.words)})" if verb.words else ""


def help_of(name: str) -> str:
    """Return what there is to know of one verb."""
    verb = VERBS[name]
    command = " ".join([f"make {name}", *(f"{word.name}={word.example}" for word in verb.words)])
    told = [command, "", f"{verb.does[0].upper()}{verb.does[1:]}.", ""]
    told += [f"  {word.name:<11} {word.says}" for word in (*verb.words, *OF_EVERY_VERB)]
    if not verb.is_of_make:
        words = [f"{word.name}={word.example}" for word in verb.words if word != SET]
        more = ["dpo.beta=0.2", "seed=1"] if SET in verb.words else []
        told += ["", " ".join(["without make: .venv/bin/python -m flows", name, *words, *more])]
    if METHOD in verb.words:
        told += ["", "methods, and what each learns from:"]
        told += [f"  {method.name:<14} {method.learns_from.says}" for method in METHODS.values()]
    return "\n".join(told)


def markdown() -> str:
    """Return the table that stands in docs/verbs.md."""
    rows = [
        f"| `make {verb.name}` | {', '.join(f'`{word.name}`' for word in verb.words) or '–'} | {verb.does} |"
        for verb in VERBS.values()
    ]
    return "\n".join(["| verb | takes | what it does |", "|---|---|---|", *rows])


# --- behind make ------------------------------------------------------------------------------------------------------


def refuse_variables(given: Mapping[str, str], goals: Sequence[str]) -> None:
    """Refuse variables of make's command line that none of its goals takes.

    Raises:
        RequestError: one is misspelt, stands behind the wrong verb, or is a setting.
    """
    verbs = [VERBS[goal] for goal in goals if goal in VERBS] or [VERBS["help"]]
    taken = {word.name for verb in verbs for word in (*verb.words, *OF_EVERY_VERB)}
    unknown = {name: value for name, value in given.items() if name not in taken}
    if unknown:
        raise RequestError("\n".join(_refused(name, value, verbs) for name, value in sorted(unknown.items())))


def _refused(name: str, value: str, verbs: Sequence[Verb]) -> str:
    words = list(dict.fromkeys(word.name for verb in verbs for word in verb.words))
    who = " ".join(["make", *(verb.name for verb in verbs)])
    takes = f"it takes {_listed(words)}" if words else "it takes no variables"
    if name.upper() in words:
        return f"{who} knows no variable {name}; did you mean {name.upper()}={_shown(value)}? Case matters here"
    if f"{name.upper()}S" in words:
        return f"{who} knows no variable {name}; did you mean {name.upper()}S={_shown(value)}?"
    setting = MEANT.get(name.upper(), name if "." in name else "")
    if "SET" in words and setting:
        return f'{who} knows no variable {name}; did you mean SET="{setting}={_shown(value)}"?'
    return f"{who} knows no variable {name}{did_you_mean(name.upper(), words) or f'; {takes}'}"


def _shown(value: str) -> str:
    return value if re.fullmatch(r"[\w.,:/@+-]{1,60}", value) else "…"


def _listed(names: Sequence[str]) -> str:
    return " and ".join(part for part in (", ".join(names[:-1]), names[-1]) if part)


def refuse_goals(goals: Sequence[str], given: Mapping[str, str]) -> None:
    """Refuse a goal that is no verb, also one that is a file's name, for which make would find nothing to do.

    Raises:
        RequestError: there is none of that name.
    """
    empty = next((name for name, value in given.items() if not value), "")
    for goal in goals:
        if goal not in VERBS:
            remedy = f"; write {empty}={goal} without spaces" if empty else did_you_mean(goal, VERBS)
            raise RequestError(f"there is no verb {goal}{remedy or f'; verbs are {_listed([*VERBS])}'}")


def refuse_folder(venv: str) -> None:
    """Refuse a folder for the environment whose name make or a shell would read as more than a name.

    Raises:
        RequestError: it holds spaces or signs.
    """
    if not re.fullmatch(r"(?!-)[\w./+@,-]+", venv):
        raise RequestError(f"VENV must be a path of letters, digits and ./_-+@, without spaces, got {venv!r}")


def notes_of_unread(given: Mapping[str, str], goals: Sequence[str], environment: Mapping[str, str]) -> "list[str]":
    """Return a line for each variable of the environment that somebody may think is read: only the command line is."""
    words = dict.fromkeys(word.name for goal in goals if goal in VERBS for word in VERBS[goal].words)
    unread = {name: environment[name] for name in words if environment.get(name) and name not in given}
    who = " ".join(["make", *goals])
    return [
        f"note: {name} of the shell's environment is not read; to use it: {who} {name}={_shown(value)}"
        for name, value in unread.items()
    ]


def check(*, goals: str, venv: str, variables: Iterable[str]) -> None:
    """Check what was asked of make, before it does anything.

    Raises:
        RequestError: a goal or a variable is none.
    """
    given = dict(variable.partition("=")[::2] for variable in variables)
    if COMPLETION in given:
        return
    wanted = [goal for goal in goals.split() if goal not in (*SPECIAL, f"{venv}/.ready")]
    refuse_folder(venv)
    refuse_goals(wanted, given)
    refuse_variables(given, wanted)
    for line in notes_of_unread(given, wanted, os.environ):
        print(printable(line), file=sys.stderr)


# --- behind `python -m flows` -----------------------------------------------------------------------------------------


def words_of(verb: str, words: Sequence[str]) -> "list[str]":
    """Return a verb's words in the form that it reads: settings by their dotted names, words of its own in small letters.

    `METHOD=dpo DATA=mine SET="dpo.beta = 0.2"` becomes `method=dpo data.name=mine dpo.beta=0.2`, `FILE=x` becomes `file=x`.

    Raises:
        RequestError: the verb takes no such word, what is trained is left empty, or SET ends within quotation marks.
    """
    known = {word.name: word for word in VERBS[verb].words}
    read: list[str] = []
    for word in joined(words):
        name, equals, value = word.partition("=")
        if name == "SET" and "SET" in known:
            read += joined(_split(value))
        elif name in ("METHOD", "DATA") and name in known:
            if not value.strip():
                raise RequestError(f"{name} must not be empty: leave it out, or give it a value; is a script's variable unset?")
            read.append(f"{'method' if name == 'METHOD' else 'data.name'}={value}")
        elif name.upper() in set(known) - {"METHOD", "DATA", "SET"} and equals:
            read.append(f"{name.lower()}={value.lower() if known[name.upper()].is_choice else value}")
        elif VERBS[verb].takes_settings:
            read.append(word)
        else:
            raise RequestError(_taken(verb, list(known), word))
    return read


def _taken(verb: str, known: Sequence[str], word: str) -> str:
    name, equals, _ = word.partition("=")
    if not known:
        return f"{verb} takes no words, got {word}"
    if not equals:
        return f"{verb} takes words of the form NAME=value, got {word!r}; names are {_listed(known)}"
    return f"{verb} takes {_listed(known)}, not {name}{did_you_mean(name.upper(), known)}"


def joined(words: Sequence[str]) -> "list[str]":
    """Return the words with what spaces around "=" have parted put together: `dpo.beta = 0.2` is one word.

    `labels.file= seed=1` stays two, of which the first sets an empty value.
    """
    whole: list[str] = []
    takes_next = False
    for word in words:
        if whole and (takes_next or (word.startswith("=") and "=" not in whole[-1])):
            whole[-1] += word.strip()
        elif whole and whole[-1].find("=") == len(whole[-1]) - 1 and "=" not in word and whole[-1] != "=":
            whole[-1] += word
        else:
            whole.append(word)
        takes_next = word == "=" and not takes_next
    return whole


def _split(settings: str) -> "list[str]":
    try:
        return shlex.split(settings)
    except ValueError:
        raise RequestError(f"SET must close the quotation marks that it opens, got {settings}") from None


def main(arguments: Sequence[str]) -> int:
    """Print help or the table of docs/verbs.md, or check what make was asked for: "checked" on stdout lets make go on."""
    what, *words = arguments
    try:
        if what == "check":
            goals, venv, *variables = words
            check(goals=goals, venv=venv, variables=variables)
            print("checked")
        elif what == "markdown":
            print(markdown())
        else:
            print("\n\n".join(help_of(word) for word in words) or overview())
    except RequestError as error:
        print(printable(f"request: {error}"), file=sys.stderr)
        print("refused")
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
