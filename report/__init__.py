"""Reads results: tables and plots. Knows no Ray."""
