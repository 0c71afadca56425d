"""Opens an address in the browser as soon as its server answers: `python -m tasks.tracking.browser ADDRESS`."""

import sys
import time
import urllib.error
import urllib.request
import webbrowser
from collections.abc import Callable

LONGEST_WAIT = 120.0
"""Seconds that a server may take until it answers, on a busy machine."""
PAUSE = 0.3


def open_when_ready(address: str, *, wait: float = LONGEST_WAIT, browse: Callable[[str], bool] = webbrowser.open) -> bool:
    """Open an address once its site answers; returns whether it did in time.

    Args:
        address: of the page; what stands behind `#` is the page's own.
        wait: seconds, at most.
        browse: opens an address.
    """
    site = address.partition("#")[0]
    deadline = time.monotonic() + wait
    while time.monotonic() < deadline:
        try:
            with urllib.request.urlopen(site, timeout=10):
                return browse(address)
        except urllib.error.HTTPError:
            return False  # somebody else answers there
        except OSError:
            time.sleep(PAUSE)
    return False


if __name__ == "__main__":
    open_when_ready(sys.argv[1])
