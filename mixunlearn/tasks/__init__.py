"""Kinds of unlearning tasks: what is to be forgotten."""
