"""Metrics of an unlearned model, relative to retrained references."""
