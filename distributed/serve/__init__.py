"""Pages on this machine: MLflow's and Optuna's."""
