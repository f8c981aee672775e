"""The one exception for what a user can put right."""


class UserError(ValueError):
    """A mistake in a config, a file or the installation.

    The message is one line: it names the file or setting and ends with the remedy.
    The tools print it without a traceback; from Python it is a ``ValueError``.
    """


class DamagedFile(UserError):
    """A file whose content cannot be read; training can be told to go on without it."""
