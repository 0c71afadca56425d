"""What RUNS counts, and time zones by name."""

import pytest

from posttrain.errors import RequestError
from tasks.schedules.counts import count_run, done_by, forget_runs
from tasks.schedules.turns import folder_of
from tasks.schedules.zones import zone_of
from tasks.workspace.paths import Paths


def test_runs_are_counted_by_schedule_and_begin_anew(tmp_path):
    paths = Paths(tmp_path)
    assert done_by(paths, "nightly") == 0
    assert [count_run(paths, "nightly"), count_run(paths, "nightly"), count_run(paths, "other")] == [1, 2, 1]
    assert done_by(paths, "nightly") == 2
    forget_runs(paths, "nightly")
    forget_runs(paths, "never made")
    assert done_by(paths, "nightly") == 0 and done_by(paths, "other") == 1
    (folder_of(paths) / "other.runs.json").write_text("[1]")
    assert done_by(paths, "other") == 0


def test_a_zone_by_its_name():
    assert zone_of("Europe/Berlin").key == "Europe/Berlin" and zone_of("UTC").key == "UTC"


@pytest.mark.parametrize(
    ("name", "said"),
    [
        (
            "Europe/Berln",
            "TZ must be the name of a time zone, as Europe/Berlin or UTC, got 'Europe/Berln'; did you mean Europe/Berlin?",
        ),
        (
            "europe/berlin",
            "TZ must be the name of a time zone, as Europe/Berlin or UTC, got 'europe/berlin'; did you mean Europe/Berlin?",
        ),
        ("Europe", "TZ must be the name of a time zone, as Europe/Berlin or UTC, got 'Europe'"),
        ("../UTC", "TZ must be the name of a time zone, as Europe/Berlin or UTC, got '../UTC'"),
    ],
)
def test_what_is_no_zone_is_refused(name, said):
    with pytest.raises(RequestError) as error:
        zone_of(name)
    assert str(error.value).startswith(said)
