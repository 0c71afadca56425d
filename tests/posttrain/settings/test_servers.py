"""The settings of background services: safe by default, and bounds."""

import pytest

from posttrain.errors import RequestError
from posttrain.settings.config import Config, merge


def test_by_default_nothing_is_reached_from_elsewhere_and_nothing_is_secret() -> None:
    servers = Config().servers
    assert servers.host == "127.0.0.1" and servers.names == ""
    assert (servers.prefect_port, servers.mlflow_port, servers.worker_port) == (4200, 5000, 4280)
    assert servers.password == servers.database_password == servers.prefect_database == servers.mlflow_database == ""
    assert servers.concurrent_runs == 1


@pytest.mark.parametrize(
    ("word", "sentence"),
    [
        ("servers.prefect_port=80", "servers.prefect_port must be at least 1024, got 80"),
        ("servers.worker_port=70000", "servers.worker_port must be at most 65535, got 70000"),
        ("servers.concurrent_runs=0", "servers.concurrent_runs must be at least 1, got 0"),
        ("servers.pasword=env:X", "there is no setting servers.pasword; did you mean servers.password?"),
    ],
)
def test_bounds_and_names(word: str, sentence: str) -> None:
    with pytest.raises(RequestError) as told:
        merge({}, [word])
    assert str(told.value) == sentence
