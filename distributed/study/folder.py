"""The folder of a study: the name of every file in it, in one place."""

from dataclasses import dataclass
from pathlib import Path

from mixunlearn.data.names import known_names
from mixunlearn.errors import InputError, MixUnlearnError
from mixunlearn.trial_names import trial_name

STUDIES = "studies"  # folder in the home and in `storage.files`; it has a folder for each study
CHECKPOINTS, MODELS = "checkpoints", "models"  # folders of Tune's runs: of trials, of references
# Other folders, such as a comparison's, have files of these names as well.
REPORT_WITH_IMAGES = "report-images.html"  # stays in the home
REPORT, SPOOL, LOCK = "report.html", "tracking.spool", "driver.lock"


@dataclass(frozen=True, kw_only=True)
class StudyFolder:
    """Names the files of a study; it neither reads nor creates any.

    Args:
        path: path of the folder.
    """

    path: Path

    @property
    def experiment(self) -> Path:
        """The experiment with every default filled in; every study that was started has it."""
        return self.path / "experiment.yaml"

    @property
    def published(self) -> Path:
        """The experiment without lists of images to be forgotten: what others may read."""
        return self.path / "published" / "experiment.yaml"

    @property
    def purged(self) -> Path:
        """The note of `purge`: the study has no images, ids or originals any more."""
        return self.path / "purged.json"

    @property
    def environment(self) -> Path:
        """The package versions and the machine with which trials ran."""
        return self.path / "environment.json"

    @property
    def stages(self) -> Path:
        """The model's feature stages, so that the study can be read without the model's code."""
        return self.path / "stages.json"

    @property
    def original(self) -> Path:
        """What the user's own model was, so that the study can be read without its file."""
        return self.path / "original.json"

    @property
    def database(self) -> Path:
        """The study's record as an SQLite file, unless a database server has it."""
        return self.path / "study.db"

    @property
    def journal(self) -> Path:
        """The study's record as a journal, on a network file system."""
        return self.path / "study.journal"

    @property
    def spool(self) -> Path:
        """The records that are not delivered to MLflow yet."""
        return self.path / SPOOL

    @property
    def run_ids(self) -> Path:
        """The ids of the study's runs in MLflow; the tracker keeps them beside its spool."""
        return self.spool.with_suffix(".json")

    @property
    def lock(self) -> Path:
        """The file that is locked by the process that may change the study."""
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
    def finished(self) -> Path:
        """The note that nothing is left to do, and of which files that depends."""
        return self.path / "finished.json"

    @property
    def leaderboard(self) -> Path:
        """The best trials, with the references for comparison."""
        return self.path / "leaderboard.json"

    @property
    def report(self) -> Path:
        """The page about the study."""
        return self.path / REPORT

    @property
    def plots(self) -> Path:
        """The folder of plots."""
        return self.path / "plots"

    @property
    def errors(self) -> Path:
        """The folder of failed trials' tracebacks."""
        return self.path / "errors"

    def error(self, trial: int) -> Path:
        """Return the file with a failed trial's traceback."""
        return self.errors / trial_name(trial) / "error.txt"

    def model(self, trial: int) -> Path:
        """Return the folder of a trial's model, in MLflow's format."""
        return self.path / "model" / f"trial-{trial}"

    def require(self) -> None:
        """Check that no folder has the name of a file, nor a file that of a folder.

        Raises:
            MixUnlearnError: something has to be moved away; it may be a user's.
        """
        files = (self.experiment, self.environment, self.database, self.journal, self.lock)
        derived = (
            self.stages,
            self.original,
            self.spool,
            self.trials,
            self.summary,
            self.leaderboard,
            self.report,
        )
        wrong = {path: ("folder", "file") for path in (*files, *derived) if path.is_dir()}
        folders = (self.plots, self.errors, self.model(0).parent, self.path / CHECKPOINTS)
        wrong |= {path: ("file", "folder") for path in folders if path.is_file()}
        for path, (found, wanted) in wrong.items():
            what = f"{path} is a {found}, but a {wanted} of the study belongs there"
            raise MixUnlearnError(f"{what}; move it away, then run the same command again")

    @property
    def artifacts(self) -> tuple[Path, ...]:
        """The files that the study's run in MLflow gets as artifacts."""
        return (self.plots, self.summary, self.published, self.environment, self.report)

    @property
    def results(self) -> tuple[Path, ...]:
        """The files that are copied to the study's shared folder."""
        return (*self.artifacts, self.trials, self.leaderboard, self.errors)


def study_folder(home: Path, study: str) -> StudyFolder:
    """Return the folder of a study by its name; it need not exist."""
    return StudyFolder(path=home / STUDIES / study)


def begun_studies(home: Path, names: str = "*") -> list[StudyFolder]:
    """Return the studies in a home that were started, sorted by name.

    Args:
        home: where results are kept.
        names: a pattern, as for `glob`.
    """
    found = sorted((home / STUDIES).glob(f"{names}/experiment.yaml"))
    return [StudyFolder(path=path.parent) for path in found]


def require_study(home: Path, words: str) -> str:
    """Return the name of the only study that begins so.

    Raises:
        InputError: no study begins so, or several do.
    """
    study = full_name(home, words)
    known = [folder.path.name for folder in begun_studies(home)]
    if study not in known:
        remedy = f"no such study in {home / STUDIES}; {known_names(study, known)}"
        raise InputError("STUDY", study, remedy)
    return study


def full_name(home: Path, words: str, key: str = "STUDY") -> str:
    """Return the name of the only study that begins so; the words as they are if none does.

    Args:
        home: where results are kept.
        words: a study's name, or its beginning.
        key: what messages call the word.

    Raises:
        InputError: several studies begin so.
    """
    known = [folder.path.name for folder in begun_studies(home)]
    found = [name for name in known if words and name.startswith(words)]
    if words in known or not found:
        return words
    if len(found) > 1:
        remedy = f"{len(found)} studies begin so: {', '.join(found)}; write more of the name"
        raise InputError(key, words, remedy)
    return found[0]
