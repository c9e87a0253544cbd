"""What is measured of an unlearned model, relative to retrained references."""
