"""Errors a user can act on: one line each, with the exit code of the console script."""


class MixUnlearnError(Exception):
    """Something failed while running; the message says what and what to do."""

    exit_code = 1


class InputError(MixUnlearnError):
    """What the user typed cannot be carried out; nothing was written.

    Args:
        key: dotted name of the setting, as in the experiment file.
        value: what it was set to.
        remedy: what is wrong and what to do about it, in a few words.
    """

    exit_code = 2

    def __init__(self, key: str, value: object, remedy: str) -> None:
        super().__init__(f"{key} = {value!r}: {remedy}")
        self.key = key


class MissingError(MixUnlearnError):
    """Something that must exist does not; the message names the command that makes it."""


class CorruptError(MixUnlearnError):
    """A stored file is not what was written; the message says how to make it again."""
