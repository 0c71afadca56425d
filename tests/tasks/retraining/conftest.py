"""The ledger of the tests of promotion, on a real store."""

from tests.tasks.promotion.conftest import _quiet, ledger

__all__ = ["_quiet", "ledger"]
