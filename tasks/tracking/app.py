"""MLflow's app behind our guard. uvicorn is started with this module (tasks/tracking/server.py).

`mlflow server` would start a second process for it, and takes another app only from an installed package.
"""

import os

from tasks.services.guard import LOGIN, App, further_names, guarded
from tasks.services.loading import loading

STORE = "POSTTRAIN_MLFLOW_STORE"
"""In the environment: the address of the database. Of a PostgreSQL it may tell the host, and so is kept from command lines."""
ARTIFACTS = "POSTTRAIN_MLFLOW_ARTIFACTS"
"""In the environment: the folder, or the address of the object store, that files lie in."""


@loading()
def create_app() -> App:
    """Return MLflow's app, guarded.

    Raises:
        MlflowException: the database cannot be used: damaged, locked, of another version, not reached.
    """
    import mlflow.server.constants as known
    from mlflow.store.tracking import DEFAULT_ARTIFACTS_URI

    store = os.environ[STORE]
    # what `mlflow server` tells its workers
    told = {
        known.BACKEND_STORE_URI_ENV_VAR: store,
        known.REGISTRY_STORE_URI_ENV_VAR: store,
        known.ARTIFACT_ROOT_ENV_VAR: DEFAULT_ARTIFACTS_URI,
        known.SERVE_ARTIFACTS_ENV_VAR: "true",
        known.ARTIFACTS_DESTINATION_ENV_VAR: os.environ[ARTIFACTS],
        "_MLFLOW_IN_JOB_EXECUTOR": "false",  # code that users stored is never run here
        "_MLFLOW_SGI_NAME": "uvicorn",
    }
    os.environ.update(told)
    from mlflow.server.handlers import initialize_backend_stores

    # now, so that a database that cannot be used ends the start and not the first request
    initialize_backend_stores(store, store, DEFAULT_ARTIFACTS_URI)
    from mlflow.server.fastapi_app import app

    return guarded(app, names=further_names(), login=os.environ.get(LOGIN, ""))
