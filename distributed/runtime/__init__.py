"""Signals, progress, threads, addresses and text: what every part of a command uses."""
