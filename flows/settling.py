"""What a killed command left is settled before the next one of any kind begins; where nothing was left, nothing is imported."""

from collections.abc import Callable

from posttrain.errors import PosttrainError
from tasks.workspace.paths import Paths

Say = Callable[[str], None]


def settle_restore(paths: Paths, say: Say) -> None:
    """Complete or undo a restore, before anything opens a store that was half put back."""
    if (paths.store / "keeping").is_dir():
        from tasks.keeping.exchange import settle

        settle(paths, say)


def settle_runs(paths: Paths, say: Say) -> None:
    """Mark runs without a process, and complete or undo moves of aliases."""
    from tasks.workspace.presence import left_behind

    if left_behind(paths):
        from flows.aftermath import settle

        settle(paths, say)


def settle_imports(paths: Paths, say: Say) -> None:
    """Complete imports, or take them away; a command that needs those data says itself why it cannot."""
    if not any(paths.data.glob("*/.incoming")):
        return
    from tasks.data.dvc import settle_imports as settle

    try:
        for note in settle(paths):
            say(note)
    except PosttrainError as error:
        say(str(error))
