"""Machine unlearning: methods, data, models and metrics relative to retrained references."""
