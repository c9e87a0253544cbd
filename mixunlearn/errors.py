"""Errors that a user can fix: a one-line message and the exit code of the console script."""


class MixUnlearnError(Exception):
    """Something failed while running; the message says what failed and what to do."""

    exit_code = 1


class InputError(MixUnlearnError):
    """The user's input is wrong; nothing was written.

    Args:
        key: dotted name of the setting, as in the experiment file.
        value: the value that was given.
        remedy: what is wrong and how to fix it, in a few words.
    """

    exit_code = 2

    def __init__(self, key: str, value: object, remedy: str) -> None:
        super().__init__(f"{key} = {value!r}: {remedy}")
        self.key, self.value, self.remedy = key, value, remedy
        self.others: tuple[InputError, ...] = ()  # further mistakes of the same file


class DivergedError(MixUnlearnError):
    """A loss, a weight or an output is infinite or NaN: the settings of the training are useless.

    Args:
        what: what is not finite, for example `loss = nan`.
    """

    def __str__(self) -> str:
        return f"{self.args[0]}: diverged; lower the learning rate"


class MissingError(MixUnlearnError):
    """Something required does not exist; the message names the command that creates it."""


class CorruptError(MixUnlearnError):
    """A stored file was changed or damaged; the message says how to create it again."""
