"""Deletion requests: what was forgotten, with what, and the records that prove it."""
