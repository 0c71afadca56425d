"""A dataset that an earlier version of posttrain imported comes up to date after modules have moved."""

import errno
import os

import pytest
import yaml

from posttrain.data.split import split
from posttrain.data.world import generate
from posttrain.errors import DataError, StorageError
from tasks.data import dvc as versions
from tasks.data.dataset_stage import split_code
from tasks.data.dvc import bring_up_to_date
from tasks.data.importing import import_file
from tests.tasks.data.test_swap import FAR, Beginning, killed
from tests.tasks.datasets import dvc, gsm8k, state
from tests.tasks.dvc_stub import stub

OLD, NEW = f"{split.__module__.replace('.', '/')}.py", "posttrain/moved/split.py"
UNUSED = f"{generate.__module__.replace('.', '/')}.py"
"""A module of ours that the split has no need of."""
NOTE = (
    f"data/mine/dvc.yaml was written for other modules of posttrain than today's ({OLD}); it names today's now, and the split "
    "runs again, which makes the same data unless more than names and paths has changed"
)


@pytest.fixture
def mine(paths, monkeypatch):
    """Have a dataset that was imported and is up to date."""
    monkeypatch.setattr(versions, "run_dvc", stub)
    import_file(paths, format="gsm8k", file=gsm8k(paths), name="mine")
    bring_up_to_date(paths, "mine")
    return paths


def move_split(paths):
    """Move a module into a folder of its subject, as a new version of posttrain does."""
    (paths.root / NEW).parent.mkdir()
    (paths.root / NEW).with_name("__init__.py").write_text('"""Where things went."""\n')
    (paths.root / OLD).rename(paths.root / NEW)
    for file in (paths.root / "tasks").rglob("*.py"):
        file.write_text(file.read_text().replace(f"from {split.__module__} import", "from posttrain.moved.split import"))


def of_mine(paths):
    return paths.data / "mine" / "dvc.yaml"


def split_stage(paths):
    return yaml.safe_load(of_mine(paths).read_text())["stages"]["split"]


def rewritten(paths, *changes):
    """Change the dataset's dvc.yaml as its user or an earlier version did; return the text."""
    text = of_mine(paths).read_text()
    for old, new in changes:
        assert old in text
        text = text.replace(old, new)
    of_mine(paths).write_bytes(text.encode())
    return text


def test_a_moved_module_is_followed_and_the_version_stays(mine):
    version, text = bring_up_to_date(mine, "mine"), of_mine(mine).read_text()
    move_split(mine)
    after = bring_up_to_date(mine, "mine")
    assert after.notes == (NOTE,)
    assert (after.md5, after.files) == (version.md5, version.files)
    assert of_mine(mine).read_text() == text.replace(OLD, NEW)
    locked = yaml.safe_load(of_mine(mine).with_name("dvc.lock").read_text())["stages"]["split"]["deps"]
    assert [each["path"] for each in locked] == split_stage(mine)["deps"]
    assert bring_up_to_date(mine, "mine").notes == ()


USERS_OWN = (
    ("# Written by make import.", "# Do not touch: Ann.\n# Written by make import."),
    ("    deps:\n", "    deps:  # what decides\n      - 'notes/why.md' # mine\n"),
    ("    params:", "    # and its settings\n    params:"),
    (".jsonl\n", ".jsonl \n"),
)
OWN_STAGE = f"""
  mine:   {{cmd: "wc -l > n.txt", deps: [ {OLD} ]}}  # the user's
metrics:
    - n.txt
"""


@pytest.mark.parametrize("newline", ["\n", "\r\n"])
def test_what_the_user_wrote_stays_byte_for_byte(mine, newline):
    (mine.root / "notes").mkdir()
    (mine.root / "notes" / "why.md").write_text("because")
    rewritten(mine, *USERS_OWN)
    text = (of_mine(mine).read_text() + OWN_STAGE).replace("\n", newline)
    of_mine(mine).write_bytes(text.encode())
    of_mine(mine).chmod(0o640)
    move_split(mine)
    assert bring_up_to_date(mine, "mine").notes == (NOTE,)
    assert of_mine(mine).read_bytes().decode() == text.replace(f"- {OLD}", f"- {NEW}")
    assert of_mine(mine).stat().st_mode & 0o777 == 0o640
    assert bring_up_to_date(mine, "mine").notes == ()


def test_lists_of_other_versions_become_todays(mine):
    version = bring_up_to_date(mine, "mine")
    wanted, (first, *_, last) = of_mine(mine).read_text(), split_code(mine)
    rewritten(mine, (f"      - {first}\n", ""), (f"      - {last}\n", ""))  # fewer than today
    after = bring_up_to_date(mine, "mine")
    assert f"other modules of posttrain than today's ({first} and 1 more); " in after.notes[0]
    assert set(split_stage(mine)["deps"]) == {"data/mine/records.jsonl", *split_code(mine)}
    # More than today, one of them a module that is still there; and the name of a command that is not there any more.
    of_mine(mine).write_text(wanted)
    rewritten(
        mine,
        (
            f"      - {first}\n",
            f"      - {UNUSED}  # old\n      - {first}\n      - tasks/gone/long.py\n",
        ),
        ("python -m tasks.data split mine", "python -m tasks.datasets split mine && date"),
    )
    after = bring_up_to_date(mine, "mine")
    assert (after.md5, len(after.notes)) == (version.md5, 1)
    assert of_mine(mine).read_text() == wanted.replace("split mine", "split mine && date")
    rewritten(mine, ("tasks.data split mine && date", "tasks.datasets split mine"))
    assert "than today's (its command); " in bring_up_to_date(mine, "mine").notes[0]
    assert of_mine(mine).read_text() == wanted


@pytest.mark.parametrize("end", ["\n", ""])
def test_deps_may_be_the_last_words_of_the_file_or_stand_on_one_line(mine, end):
    told = split_stage(mine)
    deps = [*told.pop("deps")[:-2], "posttrain/gone.py"]
    head = yaml.safe_dump({"stages": {"split": told}}, sort_keys=False)
    wanted = {*deps[:-1], *split_code(mine)}
    for text in (
        head + "    deps:\n" + "\n".join(f"    - {dep}" for dep in deps) + end,
        f"{head}    deps: [{', '.join(deps)}]{end}",
    ):
        of_mine(mine).write_text(text)
        assert len(bring_up_to_date(mine, "mine").notes) == 1
        found = split_stage(mine)
        assert set(found.pop("deps")) == wanted and found == told


def test_a_form_that_cannot_be_corrected_is_told_and_left(mine):
    version = bring_up_to_date(mine, "mine")
    text = rewritten(mine, ("    deps:\n", "    deps: &shared\n")) + "  own: {cmd: date, deps: *shared}\n"
    of_mine(mine).write_text(text)
    move_split(mine)
    with pytest.raises(DataError) as caught:
        bring_up_to_date(mine, "mine")
    assert str(caught.value) == (
        "data/mine/dvc.yaml is not what DVC writes (it was written for other modules of posttrain than today's "
        f"({OLD}), in a form that cannot be corrected here). No data are lost: it only says how data/mine/records.jsonl is "
        "split. Put it aside and make it again: mv data/mine/dvc.yaml data/mine/dvc.yaml.damaged && make data DATA=mine"
    )
    assert of_mine(mine).read_text() == text
    of_mine(mine).rename(of_mine(mine).with_name("dvc.yaml.damaged"))
    assert bring_up_to_date(mine, "mine").md5 == version.md5


def test_a_command_of_the_users_own_is_his(mine):
    text = rewritten(mine, ("python -m tasks.data split mine", "python my_split.py"), (OLD, UNUSED))
    assert bring_up_to_date(mine, "mine").notes == ()
    assert of_mine(mine).read_text() == text


def test_a_read_only_file_is_told_and_nothing_changes(mine):
    version, before = bring_up_to_date(mine, "mine"), state(mine.data / "mine")
    move_split(mine)
    of_mine(mine).chmod(0o444)
    with pytest.raises(StorageError) as caught:
        bring_up_to_date(mine, "mine")
    assert str(caught.value) == (
        f"data/mine/dvc.yaml was written for other modules of posttrain than today's ({OLD}) and is read-only, so it cannot "
        "follow. Make it writable, then repeat the command: chmod u+w data/mine/dvc.yaml"
    )
    assert state(mine.data / "mine") == before
    of_mine(mine).chmod(0o644)
    assert bring_up_to_date(mine, "mine").md5 == version.md5


def test_a_disk_that_refuses_leaves_the_earlier_file(mine, monkeypatch):
    before = state(mine.data / "mine")
    move_split(mine)

    def refuse(_):
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch, pytest.raises(StorageError, match=r"^cannot write .*: No space left on device"):
        patch.setattr(os, "fsync", refuse)
        bring_up_to_date(mine, "mine")
    assert state(mine.data / "mine") == before
    assert bring_up_to_date(mine, "mine").notes == (NOTE,)


def test_a_link_stays_a_link(mine):
    elsewhere = mine.root / "kept.yaml"
    of_mine(mine).rename(elsewhere)
    of_mine(mine).symlink_to(elsewhere)
    move_split(mine)
    assert bring_up_to_date(mine, "mine").notes == (NOTE,)
    assert of_mine(mine).is_symlink() and NEW in elsewhere.read_text()


def test_whenever_it_is_killed_the_next_command_completes_it(mine, tmp_path_factory):
    move_split(mine)
    beginning = Beginning(mine, tmp_path_factory.mktemp("aside"))
    before, whole = of_mine(mine).read_text(), beginning.whole(lambda _: None)
    for at in range(1, FAR):
        beginning.again()
        assert killed(lambda: bring_up_to_date(mine, "mine"), at)
        is_rewritten = of_mine(mine).read_text() != before
        bring_up_to_date(mine, "mine")
        assert state(mine.data / "mine") == whole
        if is_rewritten:  # what comes after is the split of a stale dataset, which test_swap.py kills
            break
    assert at > 2


@pytest.mark.slow
def test_with_the_real_dvc_datasets_of_before_the_move_come_up_to_date(paths):
    for name, start in (("mine", 0), ("other", 100)):
        import_file(paths, format="gsm8k", file=gsm8k(paths, start=start), name=name)
    version = {name: bring_up_to_date(paths, name) for name in ("mine", "other")}
    move_split(paths)
    for name in ("mine", "other"):  # while DVC meets the other one as it was
        after = bring_up_to_date(paths, name)
        assert (after.md5, after.files) == (version[name].md5, version[name].files)
        assert f"than today's ({OLD}); it names today's now, " in after.notes[0]
        assert bring_up_to_date(paths, name).notes == ()
        assert "up to date" in dvc(paths, "status", f"data/{name}/dvc.yaml").stdout
    import_file(paths, format="gsm8k", file=gsm8k(paths, start=200), name="third")  # its copy of the project has the folders
    assert bring_up_to_date(paths, "third").notes == ()
