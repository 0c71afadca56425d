"""The background services of `make up`. None of it enters a stage's key: it decides where results are kept, not what they are."""

from typing import Annotated

from pydantic import Field

from posttrain.settings.section import Count, Section

Port = Annotated[int, Field(ge=1024, le=65535)]


class ServersSettings(Section):
    """Background services (`make up`): Prefect's server, MLflow's server and the worker (docs/services.md)."""

    host: str = "127.0.0.1"
    """The address that both servers listen on. Any but this machine's own (127.0.0.1, localhost) needs `password`."""
    names: str = ""
    """Names by which other machines call the servers, with commas between: "prefect, mlflow.example.org". A request that comes by
    any other name is refused, and so is a page. One without a port stands for the server's own port and for a proxy's."""
    prefect_port: Port = 4200
    """Of Prefect's server; `make up PORT=4201` says the same. 4200 is Prefect's own default."""
    mlflow_port: Port = 5000
    """Of MLflow's server; 5000 is MLflow's own default."""
    worker_port: Port = 4280
    """Where the worker says whether it is well; on this machine only, whatever `host` is."""
    prefect_database: str = ""
    """postgresql+asyncpg://user@host:5432/prefect; empty: the SQLite file below `.posttrain/prefect/`."""
    mlflow_database: str = ""
    """postgresql+psycopg2://user@host:5432/mlflow, another database than Prefect's; empty: the store below `mlflow/`. Needs the
    extra `postgres`."""
    database_password: str = ""
    """Where the password of both databases is: env:NAME or file:PATH. Never the password itself."""
    artifacts: str = ""
    """Where MLflow's server keeps files: a folder, or "s3://bucket" (extra `s3`; keys and endpoint by AWS's and MLflow's own
    environment variables); empty: `mlflow/store/artifacts`."""
    password: str = ""
    """Where `user:password` is, which both servers and all that talk to them need: env:NAME or file:PATH. Empty: none is asked
    for, which is possible on this machine only."""
    concurrent_runs: Count = 1
    """Flow runs that the worker executes at a time; later ones wait. One pipeline fills a machine."""
