"""Memory: a stage's peak is its own, and what it held is given back."""

import sys

import numpy
import psutil
import pytest

from tasks.workspace import memory
from tasks.workspace.memory import give_back, own_memory, peak_rss_mb

HUNDRED_MB = 100 * 2**20
linux = pytest.mark.skipif(sys.platform != "linux", reason="needs /proc")


def resident():
    return psutil.Process().memory_info().rss


def hold():
    """Hold 100 MB in pieces that the C library keeps when they are freed, in a circle that only the collector frees."""
    circle = [[numpy.ones(2_000) for _ in range(HUNDRED_MB // 16_000)]]
    circle.append(circle)


@linux
def test_a_peak_is_of_its_own_stage():
    with own_memory():
        numpy.ones(HUNDRED_MB // 8)
        high = peak_rss_mb()
    with own_memory():
        low = peak_rss_mb()
    assert high - low > 80


@linux
def test_what_a_stage_held_is_given_back_however_it_ended():
    give_back()
    before = resident()
    with pytest.raises(ZeroDivisionError), own_memory():
        hold()
        assert resident() - before > 0.8 * HUNDRED_MB
        raise ZeroDivisionError
    assert resident() - before < 0.3 * HUNDRED_MB


def test_without_proc_the_peak_is_the_processs(monkeypatch, tmp_path):
    monkeypatch.setattr(memory, "_SELF", tmp_path)
    with own_memory():
        assert peak_rss_mb() > 1


def test_where_the_peak_cannot_begin_anew_it_is_still_told(monkeypatch, tmp_path):
    monkeypatch.setattr(memory, "_SELF", tmp_path)
    (tmp_path / "status").write_text("Name:\tpython\nVmHWM:\t  204800 kB\nVmRSS:\t 1 kB\n")
    (tmp_path / "clear_refs").mkdir()
    with own_memory():
        assert peak_rss_mb() == 200.0
