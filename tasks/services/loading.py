"""A service's imports, which make a million objects that stay."""

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def loading() -> Iterator[None]:
    """Load without looking for garbage, and look past what was loaded from then on.

    Python looks through all objects each time that there are a quarter more of them, and while modules load it finds nothing.
    `gc.freeze` is made for what stays: https://docs.python.org/3/library/gc.html#gc.freeze
    """
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        if was_on:
            gc.enable()
