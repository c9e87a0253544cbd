"""The folder of a study: the name of every file in it, in one place."""

from dataclasses import dataclass
from pathlib import Path

from mixunlearn.trial_names import trial_name

STUDIES = "studies"  # of a home, and of files that machines share: a folder for each study
CHECKPOINTS, MODELS = "checkpoints", "models"  # Tune's runs: of trials, of references
# Folders that are no study's have such files as well.
REPORT, SPOOL, LOCK = "report.html", "tracking.spool", "driver.lock"


@dataclass(frozen=True, kw_only=True)
class StudyFolder:
    """Names the files of a study; it looks at none of them, and makes none.

    Args:
        path: of the folder.
    """

    path: Path

    @property
    def experiment(self) -> Path:
        """The experiment with every default filled in; a study that has it was begun."""
        return self.path / "experiment.yaml"

    @property
    def environment(self) -> Path:
        """The versions of packages and the machine that trials ran on."""
        return self.path / "environment.json"

    @property
    def database(self) -> Path:
        """The study's record, unless a server has it."""
        return self.path / "study.db"

    @property
    def journal(self) -> Path:
        """The study's record on a network file system."""
        return self.path / "study.journal"

    @property
    def spool(self) -> Path:
        """What still waits for MLflow."""
        return self.path / SPOOL

    @property
    def lock(self) -> Path:
        """The file that the process which may change the study has locked."""
        return self.path / LOCK

    @property
    def trials(self) -> Path:
        """The table of finished trials."""
        return self.path / "trials.parquet"

    @property
    def summary(self) -> Path:
        """The verdict."""
        return self.path / "summary.json"

    @property
    def leaderboard(self) -> Path:
        """The best trials beside the references."""
        return self.path / "leaderboard.json"

    @property
    def report(self) -> Path:
        """The page on the study."""
        return self.path / REPORT

    @property
    def plots(self) -> Path:
        """The folder of pictures."""
        return self.path / "plots"

    @property
    def errors(self) -> Path:
        """The folder of failed trials' tracebacks."""
        return self.path / "errors"

    def error(self, trial: int) -> Path:
        """Return where a failed trial's traceback is kept."""
        return self.errors / trial_name(trial) / "error.txt"

    def model(self, trial: int) -> Path:
        """Return the folder of a trial's model, as MLflow has it."""
        return self.path / "model" / f"trial-{trial}"

    @property
    def artifacts(self) -> tuple[Path, ...]:
        """What the study's run in MLflow gets of it."""
        return (self.plots, self.summary, self.experiment, self.environment, self.report)

    @property
    def results(self) -> tuple[Path, ...]:
        """What is copied to where machines share files."""
        return (*self.artifacts, self.trials, self.leaderboard, self.errors)


def study_folder(home: Path, study: str) -> StudyFolder:
    """Return the folder of a study by its name; it need not be there."""
    return StudyFolder(path=home / STUDIES / study)


def begun_studies(home: Path, names: str = "*") -> list[StudyFolder]:
    """Return the studies of a home that were begun, sorted by name.

    Args:
        home: where results are kept.
        names: a pattern, as for `glob`.
    """
    found = sorted((home / STUDIES).glob(f"{names}/experiment.yaml"))
    return [StudyFolder(path=path.parent) for path in found]
