"""Each version of a dataset is announced once."""

from tasks.data.announced import mark_announced, unannounced
from tasks.data.dvc_memory import Memory
from tasks.workspace.paths import Paths


def found(paths, **versions):
    paths.store.mkdir(exist_ok=True)
    memory = Memory.load(paths)
    memory.versions |= versions
    memory.save()


def test_a_version_is_news_until_it_is_marked(tmp_path):
    paths = Paths(tmp_path)
    assert unannounced(paths) == {}
    found(paths, mine="1", world="2")
    assert unannounced(paths) == {"mine": "1", "world": "2"}
    mark_announced(paths, {"mine": "1"})
    assert unannounced(paths) == {"world": "2"}
    found(paths, mine="3")
    assert unannounced(paths) == {"mine": "3", "world": "2"}
    mark_announced(paths, unannounced(paths))
    assert unannounced(paths) == {}
    found(paths, mine="1")
    assert unannounced(paths) == {"mine": "1"}, "back to an earlier version is a change as well"


def test_a_damaged_memory_announces_again_and_nothing_breaks(tmp_path):
    paths = Paths(tmp_path)
    found(paths, mine="1")
    (paths.store / "announced.json").write_text("[")
    assert unannounced(paths) == {"mine": "1"}
    mark_announced(paths, {"mine": "1"})
    assert unannounced(paths) == {}
