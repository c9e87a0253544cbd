"""MLflow: runs, metrics, artifacts and registered models."""
