"""Quiet: the libraries' own progress bars and notes are off while a stage works."""

import contextlib
import logging
from collections.abc import Iterator


@contextlib.contextmanager
def quiet_libraries() -> Iterator[None]:
    """Turn off the libraries' progress bars and notes, which would stand between ours; warnings stay."""
    import datasets
    import transformers
    from datasets.utils.logging import disable_progress_bar

    disable_progress_bar()
    datasets.disable_caching()
    transformers.utils.logging.disable_progress_bar()
    before = transformers.utils.logging.get_verbosity()
    transformers.utils.logging.set_verbosity_error()
    logging.getLogger("accelerate").setLevel(logging.ERROR)
    try:
        yield
    finally:
        transformers.utils.logging.set_verbosity(before)
