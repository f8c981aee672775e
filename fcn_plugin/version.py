"""The version, apart from the package, whose import loads mmseg."""

__version__ = "0.1.0.dev0"
