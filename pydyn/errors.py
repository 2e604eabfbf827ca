"""Errors that a user can mend: shown as one line, without a traceback."""

from typing import ClassVar


class PydynError(Exception):
    """A user's mistake or a broken input. The message names the file or key, the value, what is allowed and what to do."""

    status: ClassVar[int] = 1
    """Exit status of a process that it ends."""


class ConfigError(PydynError):
    """The configuration is wrong."""


class DataError(PydynError):
    """A data set, an image or a store is wrong."""


class RunError(PydynError):
    """A Run cannot be trained, resumed or read."""


class Stopped(PydynError):
    """Work was asked to end, has saved what it had and can go on from there."""

    # EX_TEMPFAIL of sysexits.h: try again.
    status = 75
