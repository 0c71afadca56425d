"""The unit of systemd: what it starts, and words that systemd would read as its own."""

import configparser
from pathlib import Path

import pytest

from flows.unit import quoted, unit


def test_it_starts_and_stops_what_make_does_in_the_repository() -> None:
    text = unit(Path("/srv/post train"), "/srv/post train/.venv/bin/python", ["servers.prefect_port=4201"])
    read = configparser.ConfigParser(interpolation=None, comment_prefixes=("#",))
    read.optionxform = str  # type: ignore[assignment,method-assign]
    read.read_string(text)
    service = read["Service"]
    assert service["ExecStart"] == '"/srv/post train/.venv/bin/python" -m flows up servers.prefect_port=4201'
    assert service["ExecStop"] == '"/srv/post train/.venv/bin/python" -m flows down'
    assert service["WorkingDirectory"] == "/srv/post train"
    assert (service["Type"], service["RemainAfterExit"]) == ("oneshot", "yes"), (
        "the services outlive the command that starts them"
    )
    assert read["Install"]["WantedBy"] == "default.target"


@pytest.mark.parametrize(
    ("word", "said"),
    [
        ("up", "up"),
        ("a=b", "a=b"),
        ("a b", '"a b"'),
        ("50%", '"50%%"'),
        ("$HOME", '"$$HOME"'),
        ('say "x"', '"say \\"x\\""'),
        ("a\\b", '"a\\\\b"'),
        ("", '""'),
    ],
)
def test_words_are_quoted_as_systemd_reads_them(word: str, said: str) -> None:
    assert quoted(word) == said


def test_a_folder_with_a_percent_sign() -> None:
    assert "WorkingDirectory=/srv/50%%\n" in unit(Path("/srv/50%"), "python", [])
