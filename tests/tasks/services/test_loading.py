"""Nothing is collected while a service loads, and what it loaded is not looked at again."""

import gc

import pytest

from tasks.services.loading import loading


@pytest.fixture(autouse=True)
def _thawed():  # type: ignore[no-untyped-def]
    yield
    gc.unfreeze()
    gc.enable()


def test_while_it_loads_nothing_is_collected_and_then_it_is_again() -> None:
    with loading():
        assert not gc.isenabled()
    assert gc.isenabled() and gc.get_freeze_count() > 1_000


def test_a_failure_leaves_it_as_it_was() -> None:
    with pytest.raises(ValueError, match="no"), loading():
        raise ValueError("no")
    assert gc.isenabled()


def test_one_that_was_off_stays_off() -> None:
    gc.disable()
    with loading():
        pass
    assert not gc.isenabled()
