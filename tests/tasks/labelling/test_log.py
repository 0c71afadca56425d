import os
import resource
import signal
import subprocess
import sys

import pytest

from posttrain.errors import DataError, RequestError, StorageError
from posttrain.labelling.answers import Event
from tasks.labelling import log as logs
from tasks.labelling.log import Log, read_log, whole


def event(number, *, text="Ada"):
    return Event(id=str(number), at="2026-01-01T00:00:00+00:00", person=text, kind="skip", item="0", turn=f"t{number}")


@pytest.fixture
def path(tmp_path):
    file = tmp_path / "events.jsonl"
    file.touch()
    return file


def test_events_are_read_as_they_were_written(path):
    log = Log(path)
    first, second, third = event(1), event(2, text="Zoë\u2028"), event(3)
    log.append([first])
    log.append([second, third])
    assert read_log(path) == [first, second, third] == log.events
    log.close()
    log.close()
    again = Log(path)
    assert again.events == [first, second, third] and again.length == path.stat().st_size
    again.close()
    with pytest.raises(StorageError, match=r"events.jsonl is closed, so nothing can be written into it"):
        again.append([event(4)])


def test_an_event_is_on_the_disk_before_append_returns(path, monkeypatch):
    synced = []
    monkeypatch.setattr(logs.os, "fsync", lambda descriptor: synced.append(os.fstat(descriptor).st_size))
    log = Log(path)
    synced.clear()
    log.append([event(1)])
    assert synced == [path.stat().st_size] and path.read_bytes().endswith(b"}\n")
    log.close()


def test_a_second_writer_is_refused_until_the_first_lets_go(path):
    log = Log(path)
    with pytest.raises(RequestError, match=r"batch .* is open in another process \(make label\). One page at a time"):
        Log(path)
    command = [sys.executable, "-c", "import sys, pathlib; from tasks.labelling.log import Log; Log(pathlib.Path(sys.argv[1]))"]
    other = subprocess.run([*command, str(path)], capture_output=True, text=True, check=False)
    assert "RequestError" in other.stderr and "is open in another process" in other.stderr
    assert read_log(path) == []  # who only reads is not refused
    log.close()
    Log(path).close()


@pytest.mark.parametrize("cut", range(1, 30, 4))
def test_half_a_line_is_put_aside_and_the_rest_stands(path, cut):
    log = Log(path)
    log.append([event(1)])
    kept = path.read_bytes()
    log.append([event(2)])
    log.close()
    torn = path.read_bytes()[:-cut]
    path.write_bytes(torn)
    assert read_log(path) == [event(1)] and path.read_bytes() == torn  # a reader leaves it as it is
    log = Log(path)
    assert log.events == [event(1)] and path.read_bytes() == kept
    assert path.with_name("events.jsonl.torn").read_bytes() == torn[len(kept) :] + b"\n"
    log.append([event(3)])
    log.close()
    assert read_log(path) == [event(1), event(3)]


def test_zeros_that_a_power_cut_leaves_are_half_a_line(path):
    log = Log(path)
    log.append([event(1)])
    log.close()
    kept = path.read_bytes()
    for torn in (b"\0" * 40, b'{"id": "2", \0\0\0\0\n', b"\0\0\n\0\0\n"):
        path.write_bytes(kept + torn)
        assert whole(kept + torn) == len(kept)
        log = Log(path)
        assert log.events == [event(1)] and path.read_bytes() == kept
        log.close()
    assert whole(b"") == 0 and whole(b"{") == 0


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("{", "Invalid JSON"),
        ("", "Invalid JSON"),
        ('{"id": "1"}', "at: Field required"),
        ('{"id":"1","at":"","person":"A","kind":"vote","item":"0","turn":"t"}', "kind: Input should be 'lease'"),
        ('{"id":"1","at":"","person":"A","kind":"skip","item":"0","turn":"t","colour":1}', "colour: Extra inputs"),
    ],
)
def test_a_damaged_line_is_told_and_nothing_is_changed(path, line, reason):
    log = Log(path)
    log.append([event(1), event(2)])
    log.close()
    lines = path.read_text().splitlines()
    path.write_text("\n".join([lines[0], line, lines[1], '{"torn']))
    before = path.read_bytes()
    for read in (Log, read_log):
        with pytest.raises(DataError, match=rf"events.jsonl line 2 is no event of a batch: {reason}.*nothing was changed"):
            read(path)
    assert path.read_bytes() == before and not path.with_name("events.jsonl.torn").exists()
    path.write_bytes(before.split(b"\n")[0] + b"\n")
    Log(path).close()  # the refused one has let go of it


def test_a_log_that_is_gone_is_no_empty_log(path):
    path.unlink()
    for read in (Log, read_log):
        with pytest.raises(DataError, match=r"events.jsonl is not there, and it holds what people answered. Restore the folder"):
            read(path)
    assert not path.exists()


def full(path):
    return rf"cannot write .*{path.name}: No space left on device. Nothing of this was counted, and all that was answered before"


@pytest.mark.parametrize("written", [0, 1, 40])
def test_a_full_disk_leaves_the_log_as_it_was(path, monkeypatch, written):
    log = Log(path)
    log.append([event(1)])
    before = path.read_bytes()
    pwrite = os.pwrite

    def no_room(descriptor, content, offset):
        if offset > len(before) or not written:
            raise OSError(28, "No space left on device")
        return pwrite(descriptor, content[:written], offset)

    with monkeypatch.context() as patched:
        patched.setattr(logs.os, "pwrite", no_room)
        with pytest.raises(StorageError, match=full(path)):
            log.append([event(2), event(3)])
    assert path.read_bytes() == before and log.events == [event(1)] and log.length == len(before)
    log.append([event(2)])
    log.close()
    assert read_log(path) == [event(1), event(2)]


def test_a_sync_that_fails_counts_nothing(path, monkeypatch):
    log = Log(path)

    def fails(_):
        raise OSError(5, "Input/output error")

    with monkeypatch.context() as patched:
        patched.setattr(logs.os, "fsync", fails)
        with pytest.raises(StorageError, match=r"Input/output error. Nothing of this was counted"):
            log.append([event(1)])
    assert path.read_bytes() == b""
    log.append([event(2)])
    log.close()
    assert read_log(path) == [event(2)]


def test_what_cannot_be_cut_back_at_once_is_cut_before_the_next_write(path, monkeypatch):
    log = Log(path)
    log.append([event(1)])
    with monkeypatch.context() as patched:

        def fails(*_):
            raise OSError(5, "Input/output error")

        patched.setattr(logs.os, "fsync", fails)
        patched.setattr(logs.os, "ftruncate", fails)
        with pytest.raises(StorageError):
            log.append([event(2)])
        with pytest.raises(StorageError):
            log.append([event(2)])
    assert len(read_log(path)) == 2  # the line is there, though nobody was told that it counts
    log.append([event(3)])
    log.close()
    assert read_log(path) == [event(1), event(3)]


def test_a_file_that_may_grow_no_further(path):
    """The system itself cuts the write short here."""
    log = Log(path)
    log.append([event(1)])
    before = path.read_bytes()
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (len(before) + 20, hard))
        with pytest.raises(StorageError, match=r"File too large. Nothing of this was counted"):
            log.append([event(2)])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, handler)
    assert path.read_bytes() == before
    log.append([event(2)])
    log.close()
    assert read_log(path) == [event(1), event(2)]


@pytest.mark.parametrize("change", ["removed", "replaced", "longer", "shorter"])
def test_a_log_that_another_program_changed_is_written_no_further(path, change):
    log = Log(path)
    log.append([event(1)])
    before = path.read_bytes()
    match change:
        case "removed":
            path.unlink()
        case "replaced":
            path.rename(path.with_suffix(".old"))
            path.write_bytes(before)
        case "longer":
            path.write_bytes(before + b"\n")
        case "shorter":
            path.write_bytes(before[:-1])
    after = path.read_bytes() if path.exists() else None
    with pytest.raises(StorageError, match=r"No such file|was changed by another program while this page wrote into it"):
        log.append([event(2)])
    assert (path.read_bytes() if path.exists() else None) == after and log.events == [event(1)]
    log.close()
