"""Great Expectations tells nobody of its use."""

import pytest


@pytest.fixture(scope="module", autouse=True)
def _no_analytics():
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GX_ANALYTICS_ENABLED", "false")
        yield
