"""What runs of a pipeline share lives as long as the tests do."""

import pytest

from tests.flows.houses import READY


@pytest.fixture(scope="session", autouse=True)
def ready(tmp_path_factory):
    READY.folder = tmp_path_factory.mktemp("ready")
    yield
    READY.end()
