"""Fill in the templates of this folder; what they share is in ``pieces.html`` and ``style.css``."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from fcn_plugin.errors import without_secrets
from fcn_plugin.evaluation.intervals import Bounds
from fcn_plugin.evaluation.tables import in_brackets

MINUS, NONE = "\u2212", "\u2013"  # a minus sign; a dash for a missing number


@dataclass(frozen=True)
class Number:
    """A value in percent or percentage points, or None, its text, and its interval's."""

    value: float | None
    signed: bool = False
    interval: str = ""

    @property
    def text(self) -> str:
        if self.value is None:
            return NONE
        if not self.signed and 0 < self.value < 0.005:
            return "<\u00a00.01"  # not to be taken for none
        return f"{self.value:{'+' if self.signed else ''}.2f}".replace("-", MINUS)


def in_percent(fraction: float, bounds: Bounds | None = None) -> Number:
    """A fraction in percent, with its interval; None for NaN."""
    if math.isnan(fraction):
        return Number(None)
    return Number(100 * float(fraction), interval=in_brackets(bounds) if bounds else "")


def in_points(change: float, bounds: Bounds | None = None) -> Number:
    """A difference of two fractions in percentage points, with its interval; None for NaN."""
    number = in_percent(change, bounds)
    return replace(number, signed=True, interval=number.interval.replace("-", MINUS))


def joined(parts: Sequence[str]) -> str:
    """
    >>> joined(["a", "b", "c"])
    'a, b and c'
    """
    return " and ".join(filter(None, [", ".join(parts[:-1]), *parts[-1:]]))


def rendered(template: str, **values: Any) -> str:
    """The HTML page of a template; a missing value is an error.

    Texts are escaped, and addresses in them lose what may be secret.
    """
    environment = Environment(
        loader=PackageLoader("fcn_plugin.report", "."),
        autoescape=True,
        # A chart is markup, a subclass of str, and has no addresses.
        finalize=lambda value: without_secrets(value) if type(value) is str else value,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=StrictUndefined,
    )
    return environment.get_template(template).render(values)


def hex_colour(rgb: Sequence[int]) -> str:
    """
    >>> hex_colour((0, 128, 255))
    '#0080ff'
    """
    return "#{:02x}{:02x}{:02x}".format(*map(int, rgb))
