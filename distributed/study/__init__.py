"""The study in Optuna's storage: the record of all trials, and its lock."""
