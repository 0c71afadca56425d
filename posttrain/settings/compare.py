"""How methods are compared. None of it enters a stage's key: it decides what is run together and said, never what a run gives."""

from typing import Literal

from posttrain.settings.section import Positive, Section, WholeNumber


class CompareSettings(Section):
    """Comparison of methods (`make compare`): what is compared with what, how it is decided, and where the pipelines run."""

    reference: str = "sft"
    """The method that each other is compared with; it is run as well where METHODS does not name it. SFT by default: all methods
    but PPO from the base start from it, and a reader wants to know what they add. With LOGS: the name of a system in the logs,
    the first one where it is not set."""
    metric: str = "auto"
    """What decides, declared before anything runs: `accuracy`, held-out questions answered right greedily; `accuracy_sampled`,
    by samples; `reference_loss`, of the dataset's own completions, nats a token; `auto`, accuracy where held-out questions have
    answers, else the loss. With LOGS: the name of a metric in the logs."""
    margin: Positive = 0.02
    """δ, within which two methods count as equal, in the unit of the metric: 0.02 is two points of accuracy, about what another
    machine or number of threads moves a result by."""
    groups: str = "auto"
    """Groups of held-out questions, in which gains are shown as well. auto: by the `group` that questions have, else by how many
    numbers they hold; none: no groups."""
    runner: Literal["processes", "dask", "ray"] = "processes"
    """Where the pipelines run: as processes on this machine, or on the workers of a Dask or a Ray cluster, which must see this
    folder (the stage store lies in it). The last two are extras: `pip install 'posttrain[dask]'`."""
    address: str = ""
    """Of the Dask or Ray cluster, "tcp://10.0.0.1:8786" or "ray://10.0.0.1:10001"; empty: a cluster on this machine, which ends
    with the comparison."""
    workers: WholeNumber = 0
    """Pipelines at a time, each with one thread; 0: as many as this machine has cores, fewer where a real base would not fit into
    the memory as often, or one where models run on a GPU."""
