"""What a file says, fit for a message."""

from fcn_plugin.errors import printable

LENGTH = 100  # characters


def quoted(said: str | Exception) -> str:
    """The first line of a name or an error, without what a terminal would obey."""
    text = str(said).strip() or type(said).__name__
    return printable(text.splitlines()[0][:LENGTH])
