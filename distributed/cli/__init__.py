"""The command line: what a user types, and what it prints.

Heavy packages are imported by the commands that need them, so that `--help` is quick.
"""
