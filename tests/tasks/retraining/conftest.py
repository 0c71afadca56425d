"""The ledger of the tests of promotion, on a real store."""

from tests.tasks.promotion.conftest import _quiet, empty_store, ledger

__all__ = ["_quiet", "empty_store", "ledger"]
