"""Several machines that compute the stages of one pipeline together. None of it enters a stage's key."""

from typing import Annotated

from pydantic import Field

from posttrain.settings.section import Count, NotInKey, Section, WholeNumber


class LaunchSettings(Section):
    """One pipeline on several machines: the same `make pipeline` on each, but for `node_rank` (docs/scale.md)."""

    nnodes: Annotated[Count, NotInKey()] = 1
    """How many machines compute each training stage together, with `model.processes` processes each. torchrun's `--nnodes`."""
    node_rank: Annotated[WholeNumber, NotInKey()] = 0
    """Which of them this one is, from 0. Node 0 has the pipeline: its runs, models and report; the others compute for it, and
    register nothing. torchrun's `--node-rank`."""
    rdzv_endpoint: Annotated[str, NotInKey()] = ""
    """`host:port` of node 0, by the name that the others reach it by; node 0 listens there. torchrun's `--rdzv-endpoint`."""
    join_seconds: Annotated[float, Field(gt=0.0, allow_inf_nan=False), NotInKey()] = 600.0
    """Seconds that nodes wait for each other: at the start, and before each stage, while the others fetch what it reads.
    The default is that of torchrun's own rendezvous."""
