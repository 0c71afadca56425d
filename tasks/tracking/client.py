"""MLflow's client for a store that several processes write at once. Imports mlflow, which is slow: import this module late."""

import functools
import re
from collections.abc import Callable
from typing import ParamSpec, TypeVar

from mlflow import MlflowClient
from mlflow.exceptions import MlflowException

Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")

# MLflow looks whether a row is there and then writes it, in two steps. Of two processes that write the same one at the same
# moment, one is told so, in the words of PostgreSQL, SQLite and MySQL; at the next try it finds the other's row
TAKEN = re.compile(r"UniqueViolation|UNIQUE constraint failed|Duplicate entry", re.IGNORECASE)
TRIES = 5
"""Ours: the second one finds the row, unless somebody has taken it away again in between."""


def _again_where_taken(call: Callable[Arguments, Result]) -> Callable[Arguments, Result]:
    """Repeat a call that writes the same thing whether it runs once or twice, where another process was there first."""

    @functools.wraps(call)
    def wrapper(*args: Arguments.args, **kwargs: Arguments.kwargs) -> Result:
        for _ in range(TRIES - 1):
            try:
                return call(*args, **kwargs)
            except MlflowException as error:
                if error.error_code != "BAD_REQUEST" or not TAKEN.search(str(error)):
                    raise
        return call(*args, **kwargs)

    return wrapper


class SharedClient(MlflowClient):
    """`MlflowClient` whose writes of rows that runs share (a dataset, an alias, a tag) survive that another process writes them.

    Experiments, registered models, numbers of versions and tags of logged models need nothing here: MLflow sees to those.
    """

    log_inputs = _again_where_taken(MlflowClient.log_inputs)
    set_tag = _again_where_taken(MlflowClient.set_tag)
    set_experiment_tag = _again_where_taken(MlflowClient.set_experiment_tag)
    set_registered_model_tag = _again_where_taken(MlflowClient.set_registered_model_tag)
    set_registered_model_alias = _again_where_taken(MlflowClient.set_registered_model_alias)
    set_model_version_tag = _again_where_taken(MlflowClient.set_model_version_tag)
