"""Reruns: a recorded trial is run again and compared."""
