"""What a run's page in MLflow says on top: what it does, or why it ended and what to do now."""

from posttrain.errors import PosttrainError
from posttrain.settings.config import Config

WITHOUT_A_WORD = "the process ended without a word (kill -9, out of memory, or a power cut)"


def description(config: Config, *, dataset: str, data_md5: str) -> str:
    """Return what stands on the page of a pipeline from its start; a report is named only once it is there."""
    return (
        f"Post-training `{config.model.base}` with **{config.method}** on `{dataset}` (md5 `{data_md5}`), seed {config.seed}.\n\n"
        "`eval/*` is measured on held-out questions, `cost/*` is what it took; the stages are the child runs "
        "(sort by creation time to see them nested)."
    )


def pipeline_verdict(headline: str, *, is_cached: bool) -> str:
    """Return line 1 of a finished pipeline's page: what came out, and whether anything was computed for it."""
    return f"**{headline}**{' Reused: no stage was computed again.' * is_cached}"


def finished(note: str, pipeline_id: str) -> str:
    """Return the page's text once the report is written."""
    return f"{note}\n\nThe same in a file: `reports/{pipeline_id}.md`."


def ended(note: str, *, how: str, why: str, command: str) -> str:
    """Return the page's text of a run that did not finish: the error first, then the command that goes on, then what it was.

    Args:
        note: what stood there.
        how: "Failed" or "Killed".
        why: the error with its remedy.
        command: of the run; "" where it is not known, or no command helps.
    """
    go_on = f"**To go on** from the last finished stage: `{command}`\n\n" if command else ""
    return f"**{how}:** {why[:2000]}\n\n{go_on}{note}".rstrip()


def reason(error: BaseException) -> str:
    """Return why a pipeline ended, as its page in MLflow has it."""
    if isinstance(error, PosttrainError):
        return str(error)
    if isinstance(error, Exception):
        text = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
        return f"{text}. We did not expect that: it may be a fault of posttrain. The terminal has the traceback"
    return "interrupted (Ctrl-C, a signal, or a terminal that was closed). Finished stages are kept"
