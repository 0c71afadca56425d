"""The verbs: `python -m flows <verb> [name=value …]`, which is what the Makefile runs. Their words: `flows/verbs.py`.

Exit codes: 0 done; 2 the request or the data is wrong; 3 a stage broke its contract; 130 interrupted.
"""

import signal

if __name__ == "__main__":  # until main() hears of it, an interruption ends us without a word, and without a traceback
    signal.signal(signal.SIGINT, signal.SIG_DFL)

import os
import sys
import warnings
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from flows.children import as_child
from flows.data_events import announcing
from flows.disk import check_disk
from flows.doctor import run_doctor
from flows.params import params_of
from flows.profiles import profile_for
from flows.scale import run_scale
from flows.settling import settle_imports, settle_restore, settle_runs
from flows.terminal import INTERRUPTED, farewell, hear_signals, leave, run
from flows.verbs import HELP, help_of, overview, words_of
from posttrain.errors import DataError, PosttrainError, RequestError, StorageError, did_you_mean
from posttrain.printable import printable
from posttrain.settings.config import Config, merge, origins, renamed
from tasks.workspace.paths import Paths


def say(line: str) -> None:
    """Print one line for the user beside progress bars."""
    print(printable(line), file=sys.stderr, flush=True)


def configuration(paths: Paths, overrides: Sequence[str], is_told: bool = True) -> Config:
    """Return the settings: defaults ← profile ← params.yaml ← command line; their old names are told, if not `is_told=False`."""
    params = params_of(paths)
    config = merge(params, overrides, profile=profile_for(params, overrides))
    for notice in renamed(params, overrides) if is_told else ():
        say(notice)
    return config


def run_pipeline(paths: Paths, words: Sequence[str]) -> dict[str, Any]:
    """Run one method, print its report, and return it."""
    config = configuration(paths, words)
    check_disk(paths)
    _prepare(paths, config)
    from flows.aftermath import accountable, settle
    from flows.nodes import join, launching
    from flows.server import starting_server
    from tasks.workspace.disk import storage_errors

    if config.launch.node_rank:  # node 0 has the pipeline
        return join(paths, config, say)
    with storage_errors("the pipeline", paths.root):
        with starting_server(paths):
            from flows.pipeline import check, pipeline
            from tasks.report.pictures import load_drawing
            from tasks.report.terminal import print_report
            from tasks.tracking.store import load_store

            if not config.tracking.uri:
                load_store()
            load_drawing()
            for note in check(config, paths):
                say(note)
        settle(paths, say)
        with launching(paths, config, say) as launch, accountable(paths, config, words) as command:
            report: dict[str, Any] = pipeline(config, paths.root, say, command, launch)
    print_report(report)
    return report


def run_compare(paths: Paths, words: Sequence[str]) -> None:
    """Compare methods over seeds, or results of other tools, and print the verdict and where the page is."""
    from flows.compare import compare
    from flows.start import Start

    compare(paths, words, Start(partial(configuration, paths), partial(_begin, paths), say))


def _begin(paths: Paths, config: Config) -> None:
    check_disk(paths)
    _prepare(paths, config)


def run_retrain(paths: Paths, words: Sequence[str]) -> None:
    """Train again where something has changed, and promote what is better: FORCE, and settings."""
    from flows.retrain_verb import retrain_by_hand
    from flows.start import Start

    retrain_by_hand(paths, words, Start(partial(configuration, paths), partial(_begin, paths), say))


def run_data(paths: Paths, words: Sequence[str]) -> None:
    """Bring a dataset up to date and print its version."""
    config = configuration(paths, words)
    _prepare(paths, config)
    from tasks.data.dvc import bring_up_to_date

    version = bring_up_to_date(paths, config.data.name)
    for note in version.notes:
        say(note)
    print(f"{version.name}  {version.md5}  {version.folder}")
    for role, md5 in version.md5s.items():
        print(f"  {role:<22} {md5}")


def run_import(paths: Paths, words: Sequence[str]) -> None:
    """Turn a file into a dataset (flows/import_verb.py)."""
    from flows.import_verb import import_dataset

    import_dataset(paths, words, partial(_prepare, paths, None), say)


def run_label(paths: Paths, words: Sequence[str]) -> None:
    """Let people label a batch of samples on a page, and make a new version of the dataset of it (flows/label_verb.py)."""
    from flows.label_verb import run_label as run_verb
    from flows.start import Start

    run_verb(paths, words, Start(partial(configuration, paths), partial(_begin, paths), say))


def run_validate(paths: Paths, words: Sequence[str]) -> None:
    """Check a dataset and print what was found, without training anything."""
    config = configuration(paths, words)
    _begin(paths, config)
    from flows.validation import validate_dataset

    for line in validate_dataset(paths, config, say):
        print(printable(line))


def run_advise(paths: Paths, words: Sequence[str]) -> None:
    """Say which methods suit a dataset and a base, in which order to try them and why: METHODS and OUT, and settings."""
    given, settings = given_and_settings(words, ("methods", "out"))
    config = configuration(paths, settings)
    _begin(paths, config)
    from flows.advise import give_advice

    give_advice(paths, config, say, methods=given.get("methods", "").replace(",", " ").split(), out=given.get("out", ""))


def given_and_settings(words: Sequence[str], names: Sequence[str]) -> tuple[dict[str, str], list[str]]:
    """Return a verb's own words by name, and the others, which are settings."""
    own = {name: value for name, _, value in (word.partition("=") for word in words) if name in names}
    return own, [word for word in words if word.partition("=")[0] not in names]


def run_settings(paths: Paths, words: Sequence[str]) -> None:
    """Print every setting that a method reads, its value, and where that comes from."""
    config = configuration(paths, words)
    _begin(paths, config)
    from flows.settings_verb import settings_lines

    for line in settings_lines(paths, config, origins(params_of(paths), words, profile=config.profile), say):
        print(printable(line))


def run_grade(paths: Paths, words: Sequence[str]) -> None:
    """Grade a file of completions without any model (flows/grade_verb.py)."""
    from flows.grade_verb import grade

    grade(paths, dict(word.partition("=")[::2] for word in words))


def run_promote(paths: Paths, words: Sequence[str]) -> None:
    """Make a version champion where the gate lets it pass: VERSION and WHY, FORCE, and settings."""
    given, settings = given_and_settings(words, ("version", "why", "force"))
    config = configuration(paths, settings)
    for name in ("version", "why"):
        if not given.get(name, "").strip():
            raise RequestError(f'promote needs {name.upper()}: make promote VERSION=7 WHY="better on fractions"')
    if given.get("force", "") not in ("", "0", "1"):
        raise RequestError(f"FORCE must be 1 (promote it although the gate says no) or 0, got {given['force']}")
    _prepare(paths, config)
    from flows.promotion import promote

    promote(paths, config, say, version=given["version"], why=given["why"], is_forced=given.get("force") == "1")


def run_rollback(paths: Paths, words: Sequence[str]) -> None:
    """Make the previous champion champion again, also where the disk is too full for anything else: WHY, and settings."""
    given, settings = given_and_settings(words, ("why",))
    config = configuration(paths, settings)
    if not given.get("why", "").strip():
        raise RequestError('rollback needs WHY: make rollback WHY="wrong answers in production"')
    _prepare(paths, config)
    from flows.promotion import roll_back

    roll_back(paths, config, say, why=given["why"])


def run_history(paths: Paths, words: Sequence[str]) -> None:
    """Print who became champion when, by whom and why, the newest first."""
    config = configuration(paths, words)
    _prepare(paths, config)
    from flows.promotion import tell_history

    tell_history(paths, config)


def run_monitor(paths: Paths, words: Sequence[str]) -> None:
    """Say whether the prompts of FILE have drifted from those of a dataset: FORMAT and MAP where needed, and settings."""
    from flows.monitor import asked, monitor

    given, settings = given_and_settings(words, ("file", "format", "map"))
    request = asked(given, settings)
    config = configuration(paths, settings)
    check_disk(paths)
    _prepare(paths, config)
    monitor(paths, config, request, say)


def run_schedule(paths: Paths, words: Sequence[str]) -> None:
    """List schedules, make or replace one (CRON or ON, and what it runs), or PAUSE, RESUME or DELETE one."""
    from flows.schedule_verbs import schedule
    from flows.start import Start

    schedule(paths, words, Start(configuration=partial(configuration, paths), prepare=partial(_begin, paths), say=say))


def run_deploy(paths: Paths, words: Sequence[str]) -> None:
    """Make the files with which scheduled work runs on a work pool of Prefect's: POOL, NAME, IMAGE, TO, FORCE, and settings."""
    from flows.deploy_verb import deploy
    from flows.start import Start

    deploy(paths, words, Start(partial(configuration, paths), partial(_begin, paths), say))


def run_ui(paths: Paths, words: Sequence[str]) -> None:
    """Serve MLflow's page on this machine until Ctrl-C, and open the view that says who won."""
    given = dict(word.partition("=")[::2] for word in words if word.startswith(("port=", "open=")))
    config = configuration(paths, [word for word in words if word.partition("=")[0] not in given])
    _prepare(paths, config)
    from flows.ui import show

    if given.get("open", "") not in ("", "0", "1"):
        raise RequestError(f"OPEN must be 1 (open the browser) or 0, got {given['open']}")
    port = _port(words, 0) if given.get("port") else None
    show(paths, config.tracking, port=port, is_opened=given.get("open") != "0")


def _port(words: Sequence[str], default: int) -> int:
    given = dict(word.partition("=")[::2] for word in words).get("port") or str(default)
    if not given.isdecimal() or not 1024 <= int(given) <= 65535:
        raise RequestError(f"PORT must be a whole number between 1024 and 65535, got {given}")
    return int(given)


def run_up(paths: Paths, words: Sequence[str]) -> None:
    """Start the services of this machine, or with UNIT=1 print the unit that starts them with it."""
    given, settings = given_and_settings(words, ("port", "unit"))
    if given.get("port"):
        settings = [*settings, f"servers.prefect_port={_port(words, 0)}"]
    config = configuration(paths, settings)
    from flows.service_verbs import print_unit, start_services

    if not print_unit(paths, given.get("unit", ""), settings):
        _begin(paths, config)
        start_services(paths, config, say)


def run_down(paths: Paths, words: Sequence[str]) -> None:
    """Stop the services of this machine."""
    from flows.service_verbs import stop_services

    stop_services(paths, partial(_prepare, paths, None), say)


def run_status(paths: Paths, words: Sequence[str]) -> None:
    """Show the services of this machine."""
    from flows.service_verbs import show_services

    show_services(paths)


def run_keeping(verb: str, paths: Paths, words: Sequence[str]) -> None:
    """Back up, restore, or remove what is old: `verb` says which (flows/keep_verbs.py)."""
    from flows import keep_verbs

    keep_verbs.run_keeping(verb, paths, words, keep_verbs.Start(partial(configuration, paths), partial(_prepare, paths), say))


def run_using(verb: str, paths: Paths, words: Sequence[str]) -> None:
    """Ask a model, talk with it, compare two, export or serve one: `verb` says which (flows/use_verbs.py)."""
    from flows.keep_verbs import Start
    from flows.use_verbs import run_using as run_verb

    run_verb(verb, paths, words, Start(partial(configuration, paths), partial(_prepare, paths), say))


def run_labels(paths: Paths, words: Sequence[str]) -> None:
    """Show people's labels, finish a batch, or exchange labels with other tools (flows/labels.py)."""
    from flows.keep_verbs import Start
    from flows.labels import run_labels as run_verb

    run_verb(paths, words, Start(partial(configuration, paths), partial(_prepare, paths), say))


VERBS: dict[str, Callable[[Paths, Sequence[str]], Any]] = {
    "pipeline": as_child(run_pipeline),
    "compare": run_compare,
    "advise": run_advise,
    "scale": run_scale,
    "data": run_data,
    "import": run_import,
    "label": run_label,
    "validate": run_validate,
    "settings": run_settings,
    "ask": partial(run_using, "ask"),
    "chat": partial(run_using, "chat"),
    "ab": partial(run_using, "ab"),
    "export": partial(run_using, "export"),
    "serve": partial(run_using, "serve"),
    "labels": run_labels,
    "grade": run_grade,
    "monitor": run_monitor,
    "retrain": run_retrain,
    "schedule": run_schedule,
    "deploy": run_deploy,
    "promote": run_promote,
    "rollback": run_rollback,
    "history": run_history,
    "ui": run_ui,
    "up": run_up,
    "down": run_down,
    "status": run_status,
    "doctor": partial(run_doctor, read=configuration),
    "backup": partial(run_keeping, "backup"),
    "restore": partial(run_keeping, "restore"),
    "clean": partial(run_keeping, "clean"),
}


def _prepare(paths: Paths, config: Config | None) -> None:
    from flows.environment import prepare

    password = config.servers.password if config else ""
    prepare(paths, is_tiny=config is not None and config.model.base == "tiny", password=password)
    settle_imports(paths, say)
    if not os.environ.get("PYTHONWARNINGS"):
        warnings.filterwarnings("ignore")


def main(arguments: Sequence[str]) -> int:
    """Run one verb and return the exit code."""
    paths = Paths(Path.cwd())
    try:
        if not arguments:
            raise RequestError(f"say what to do: {', '.join(VERBS)}")
        verb, *words = arguments
        if verb in ("help", *HELP):
            verb, words = (words[0], ["help"]) if words else ("help", [])
        if verb not in (*VERBS, "help"):
            raise RequestError(f"there is no verb {verb}{did_you_mean(verb, VERBS)}; verbs are {', '.join(VERBS)}")
        if verb == "help":
            print(overview())
        elif words[:1] == ["help"] or not set(HELP).isdisjoint(words):
            print(help_of(verb))
        else:
            wanted = words_of(verb, words)
            settle_restore(paths, say)
            if verb not in ("pipeline", "compare", "retrain", "doctor"):  # these settle beside their server
                settle_runs(paths, say)
            with announcing(paths, say):
                VERBS[verb](paths, wanted)
    except PosttrainError as error:
        say(f"{_kind(error)}: {error}")
        return error.exit_code
    except KeyboardInterrupt as error:
        say(farewell(error))
        return INTERRUPTED
    return 0


def _kind(error: PosttrainError) -> str:
    names = {RequestError: "request", DataError: "data", StorageError: "disk"}
    return next((name for kind, name in names.items() if isinstance(error, kind)), "contract")


if __name__ == "__main__":
    hear_signals()
    leave(run(main, sys.argv[1:]))
