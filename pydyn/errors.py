"""Errors that a user can mend: shown as one line, without a traceback."""


class PydynError(Exception):
    """A user's mistake or a broken input. The message names the file or key, the value, what is allowed and what to do."""


class ConfigError(PydynError):
    """The configuration is wrong."""


class DataError(PydynError):
    """A data set, an image or a store is wrong."""


class RunError(PydynError):
    """A Run cannot be trained, resumed or read."""
