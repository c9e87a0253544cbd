"""Reads results: tables and plots. Knows no Ray."""

import logging

# Where HOME cannot be written, Matplotlib would say in two lines that it is slower without a cache.
logging.getLogger("matplotlib").setLevel(logging.ERROR)
