"""Evidence: whether an unlearned model is like models retrained without the data."""
