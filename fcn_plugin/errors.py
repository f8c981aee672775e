"""The one exception for what a user can put right."""

import re

from fcn_plugin.text import printable


class UserError(ValueError):
    """A mistake in a config, a file or the installation.

    The message is one line: it names the file or setting and ends with the remedy. What a terminal
    would obey is escaped in it, for names and texts come from files.
    The tools print it without a traceback; from Python it is a ``ValueError``.
    """

    def __init__(self, message: str) -> None:
        # A data loader's worker hands its whole traceback over as the message.
        if message.startswith("Caught ") and "\n" in message:
            message = re.split(r"\b(?:UserError|DamagedFile): ", message)[-1].splitlines()[0]
        super().__init__(printable(message.strip()))


class DamagedFile(UserError):
    """A file whose content cannot be read; training can be told to go on without it."""
