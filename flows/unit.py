"""`make up UNIT=1`: a unit of systemd, for services that come back with the machine."""

from collections.abc import Sequence
from pathlib import Path

TEMPLATE = """\
# Starts posttrain's services with the machine. To install it for your user:
#   make up UNIT=1 > ~/.config/systemd/user/posttrain.service
#   systemctl --user daemon-reload && systemctl --user enable --now posttrain
#   loginctl enable-linger        (so that it starts before you log in)
# Variables of your shell are not there: a password must be file:PATH.
[Unit]
Description=posttrain in {description}: Prefect's server, MLflow's server and the worker
After=network.target

[Service]
Type=oneshot
RemainAfterExit=yes
WorkingDirectory={folder}
ExecStart={start}
ExecStop={stop}
TimeoutStartSec=300
TimeoutStopSec=120

[Install]
WantedBy=default.target
"""


def unit(root: Path, python: str, words: Sequence[str]) -> str:
    """Return the unit.

    Args:
        root: of the repository.
        python: of its environment.
        words: of `make up`, its settings.
    """
    begin = [python, "-m", "flows"]
    folder = str(root).replace("%", "%%")
    return TEMPLATE.format(
        description=folder,
        folder=folder,
        start=" ".join(map(quoted, [*begin, "up", *words])),
        stop=" ".join(map(quoted, [*begin, "down"])),
    )


def quoted(word: str) -> str:
    """Return a word as systemd reads it back (systemd.service(5), "Command lines")."""
    safe = word.replace("%", "%%").replace("$", "$$").replace("\\", "\\\\").replace('"', '\\"')
    return f'"{safe}"' if safe != word or not safe or any(sign in safe for sign in " \t'") else safe
