"""Where things lie, below the folder that the command was started in (the repository's root)."""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Paths:
    """Every path is derived from `root`, so a test or a moved repository only changes that one."""

    root: Path

    @property
    def data(self) -> Path:
        """One folder a dataset, and `expectations/`."""
        return self.root / "data"

    @property
    def store(self) -> Path:
        """Everything that can be made again: stage artifacts, Prefect's database, quarantines. Git-ignored."""
        return self.root / ".posttrain"

    @property
    def stages(self) -> Path:
        """`<stage>/<key>/`: finished artifacts."""
        return self.store / "stages"

    @property
    def checkpoints(self) -> Path:
        """`<stage>/<key>/`: where an interrupted stage goes on from; empty when all are finished."""
        return self.store / "checkpoints"

    @property
    def logs(self) -> Path:
        """`<stage>-<key>/`: what each of several processes printed that computed a stage together, the last time; `dask.log`."""
        return self.store / "logs"

    def findings(self, stage: str, dataset: str) -> Path:
        """`<stage>/<dataset>/`: what a stage found when it refused to go on, the last time; the gate's is there in any case."""
        return self.store / stage / dataset

    @property
    def ledger(self) -> Path:
        """MLflow's SQLite file and artifacts. Git-ignored."""
        return self.root / "mlflow" / "store"

    @property
    def reports(self) -> Path:
        """What pipelines printed, for people and machines. Git-ignored."""
        return self.root / "reports"

    @property
    def labelling(self) -> Path:
        """`<dataset>/<batch>/`: what people were asked and what they answered. Git-ignored; nothing can make it again."""
        return self.root / "labelling"
