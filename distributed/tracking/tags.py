"""The names of all tags of runs and models in MLflow. Their meaning: see docs/tracking.md."""

# A run is found again by these.
STUDY, TRIAL, KEY = "mixunlearn.study", "mixunlearn.trial", "mixunlearn.key"
# How far a run got, and how it ended.
STATE, STEP = "mixunlearn.state", "mixunlearn.step"
ERROR, REASON = "mixunlearn.error", "mixunlearn.reason"
# What MLflow could not store as it was.
DROPPED, CUT = "mixunlearn.dropped_metrics", "mixunlearn.cut_params"
# Links between studies and the references they use.
REFERENCES, USED_BY = "mixunlearn.references", "mixunlearn.used_by."
# What a run is about.
EXPERIMENT, METHOD = "mixunlearn.experiment", "mixunlearn.method"
TASK, LABELS, MODEL = "mixunlearn.task", "mixunlearn.labels", "mixunlearn.model"
DATA, SPLITS, CODE = "mixunlearn.data", "mixunlearn.splits", "mixunlearn.code"
COMPARISON = "mixunlearn.comparison"
NIGHTLY, DATE, VERDICT = "mixunlearn.nightly", "mixunlearn.date", "mixunlearn.verdict"
ROLE, TRIAL_ID = "mixunlearn.role", "mixunlearn.trial_id"

# MLflow's own tags.
DESCRIPTION = "mlflow.note.content"  # shown as Markdown
TABLES = "mlflow.loggedArtifacts"  # names of the artifacts that are shown as tables
PARENT, USER = "mlflow.parentRunId", "mlflow.user"
VERSIONS = "mlflow.modelVersions"
CONTEXT = "mlflow.data.context"
