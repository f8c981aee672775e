"""All pairs that are tried, and those that names choose."""

from collections.abc import Sequence
from difflib import get_close_matches

from fcn_plugin.errors import UserError
from pairing.backbones import BACKBONES
from pairing.heads import HEADS
from pairing.pair import Pair

# By the title of their table.
GROUPS: dict[str, list[Pair]] = {
    "backbone": BACKBONES,
    "head": [head.on("ConvolutionalizedVGG") for head in HEADS],
}


def choose(names: Sequence[str]) -> list[Pair]:
    """Those with one of ``names``; all without names."""
    pairs = [pair for group in GROUPS.values() for pair in group]
    known = [pair.name for pair in pairs]
    for name in names:
        if name not in known:
            close = get_close_matches(name, known, n=1, cutoff=0.4)
            hint = f"did you mean {close[0]!r}?" if close else "--list shows all"
            raise UserError(f"{name!r}: no such pair; {hint}")
    return [pair for pair in pairs if not names or pair.name in names]
