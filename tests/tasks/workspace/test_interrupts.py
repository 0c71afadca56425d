"""Ctrl-C held back, pressed twice, meant the second time; each signal is one that this process sends itself."""

import signal
import threading

import pytest

from tasks.workspace import interrupts as subject
from tasks.workspace.interrupts import PATIENCE, interrupting_once, uninterrupted

BOTH = (signal.SIGINT, signal.SIGTERM)


class Clock:
    """A monotonic clock that stands still until it is moved."""

    def __init__(self):
        self.now = 1000.0

    def monotonic(self):
        return self.now


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(subject, "time", clock)
    return clock


@pytest.fixture(autouse=True)
def handlers():
    """Python's own handling of Ctrl-C, and the same for SIGTERM; afterwards whatever there was."""
    before = {number: signal.getsignal(number) for number in BOTH}
    for number in BOTH:
        signal.signal(number, signal.default_int_handler)
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


# --- once -------------------------------------------------------------------------------------------------------------


def test_the_second_press_is_the_first_pressed_again_until_patience_ends(clock):
    handle = interrupting_once()
    with pytest.raises(KeyboardInterrupt):
        handle(signal.SIGINT, None)
    clock.now += PATIENCE - 0.001
    handle(signal.SIGINT, None)
    clock.now += 0.001  # now exactly PATIENCE after the one that was obeyed: the ignored one started nothing anew
    with pytest.raises(KeyboardInterrupt):
        handle(signal.SIGINT, None)
    handle(signal.SIGINT, None)


def test_two_handlers_know_nothing_of_each_other(clock):
    for handle in (interrupting_once(), interrupting_once()):
        with pytest.raises(KeyboardInterrupt):
            handle(signal.SIGINT, None)


# --- held back --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", BOTH)
def test_the_block_is_finished_first(number):
    done = []
    with pytest.raises(KeyboardInterrupt), uninterrupted():
        signal.raise_signal(number)
        done.append("the rest of the block")
    assert done == ["the rest of the block"]


def test_without_a_signal_nothing_happens_and_the_handlers_are_back():
    before = [signal.getsignal(number) for number in BOTH]
    with uninterrupted():
        assert [signal.getsignal(number) for number in BOTH] != before
    assert [signal.getsignal(number) for number in BOTH] == before


def test_the_handlers_are_back_when_the_interruption_comes_through():
    with pytest.raises(KeyboardInterrupt), uninterrupted():
        signal.raise_signal(signal.SIGINT)
    assert [signal.getsignal(number) for number in BOTH] == [signal.default_int_handler] * 2


def test_an_inner_block_hands_it_to_the_outer():
    done = []
    with pytest.raises(KeyboardInterrupt), uninterrupted():
        with uninterrupted():
            signal.raise_signal(signal.SIGINT)
            done.append("inner")
        done.append("outer")
    assert done == ["inner", "outer"]


def test_pressed_again_at_once_it_is_still_held_back(clock):
    done = []
    with pytest.raises(KeyboardInterrupt), uninterrupted():
        signal.raise_signal(signal.SIGINT)
        clock.now += PATIENCE - 0.001
        signal.raise_signal(signal.SIGINT)
        done.append("the rest")
    assert done == ["the rest"]


def test_pressed_again_after_a_while_it_gets_through(clock):
    with pytest.raises(KeyboardInterrupt), uninterrupted():
        signal.raise_signal(signal.SIGINT)
        clock.now += PATIENCE
        signal.raise_signal(signal.SIGINT)
        pytest.fail("a block that hangs could not be left")


def test_each_signal_goes_to_its_own_handler():
    got = []
    signal.signal(signal.SIGTERM, lambda number, frame: got.append(number))
    with uninterrupted():
        signal.raise_signal(signal.SIGTERM)
        assert got == []
    assert got == [signal.SIGTERM]


def test_a_signal_that_is_ignored_stays_ignored():
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with uninterrupted():
        assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
        signal.raise_signal(signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN


def test_an_error_of_the_block_is_told_unless_there_was_an_interruption():
    with pytest.raises(ValueError, match="the block's own"), uninterrupted():
        raise ValueError("the block's own")
    with pytest.raises(KeyboardInterrupt) as told, uninterrupted():
        signal.raise_signal(signal.SIGINT)
        raise ValueError("the block's own")
    assert isinstance(told.value.__context__, ValueError)


def test_another_thread_holds_nothing_back():
    seen = []

    def work():
        with uninterrupted():
            seen.append(signal.getsignal(signal.SIGINT))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [signal.default_int_handler]
