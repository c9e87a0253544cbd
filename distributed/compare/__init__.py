"""Comparisons: methods side by side, searched with the same budget."""
