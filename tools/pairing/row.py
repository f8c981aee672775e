"""What the table says of a pair."""

from typing import NamedTuple

from pairing.pair import Levels, Pair

YES, SKIPPED = "yes", "not run"


class Row(NamedTuple):
    """A check is "yes", "yes, but ...", "no: why" or "not run: why"."""

    name: str
    forward: str
    backward: str
    onnx: str
    levels: Levels | None = None  # those that the head takes
    parameters: int | None = None
    operations: int | None = None  # of one image; a multiplication and an addition are two

    @classmethod
    def of(cls, pair: Pair, outcome: str) -> "Row":
        """Where all checks have the same outcome."""
        return cls(pair.name, outcome, outcome, outcome)

    @property
    def checks(self) -> tuple[str, str, str]:
        return self.forward, self.backward, self.onnx

    @property
    def skipped(self) -> bool:
        return self.forward.startswith(SKIPPED)

    @property
    def failed(self) -> bool:
        return not self.skipped and not all(found.startswith(YES) for found in self.checks)
