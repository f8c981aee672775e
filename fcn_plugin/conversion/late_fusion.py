"""Two networks side by side, as one of two streams whose scores are averaged (``models.streams``).

The published one is FCN-32s on color and FCN-32s on HHA (Caffe ``nyud-fcn32s-color-hha``). Each
stream is converted as the network that it is by itself.
"""

import re
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from fcn_plugin.conversion.network import Conversion
from fcn_plugin.errors import UserError
from fcn_plugin.weights.fill import Report
from fcn_plugin.weights.names import OWN_SCORE
from fcn_plugin.weights.networks import STREAMS, of_stream
from fcn_plugin.weights.recognise import Weights
from fcn_plugin.weights.sources import BANDS, Input

# The mean of two scores is the sum of their halves, and half of a number is exact.
HALF = 0.5
# A layer of one of our heads: the head, what it does, its level and the rest of the name.
OF_LEVEL = re.compile(r"(decode_head|task_heads\.\w+)\.(score|upscore)\.(\d+)\.(.+)")


class LateFusion(Conversion):
    """Networks that were converted one by one, as the streams of one.

    Args:
        weights: of the whole.
        streams: the networks, alike in levels and classes.
        factor: of the score layers; 1 if the source has our sum of scores.
    """

    def __init__(self, weights: Weights, streams: Sequence[Conversion], factor: float) -> None:
        first = streams[0]
        self.streams, self.weights, self.path = streams, weights, weights.path
        self.factor = factor
        self.net, self.scale, self.settings = first.net, first.scale, first.settings
        self.dataset_meta, self.order, self.tasks = first.dataset_meta, first.order, first.tasks
        self.state_dict, self.report = {}, Report()
        for number, stream in enumerate(streams):
            for name, tensor in stream.state_dict.items():
                if OWN_SCORE.match(name):
                    tensor = tensor * factor
                # Both have the file's learned kernels, if there are any.
                self.state_dict.setdefault(self._name(name, number), tensor)
            self.report.used += [
                name for name in stream.report.used if name not in self.report.used
            ]
            self.report.dropped |= stream.report.dropped
            self.report.new += [self._name(name, number) for name in stream.report.new]
        self.state_dict = dict(sorted(self.state_dict.items()))

    def _name(self, name: str, number: int) -> str:
        """The name in the whole of a tensor of a stream."""
        if name.startswith("backbone."):
            return name.replace("backbone.", f"backbone.streams.{number}.", 1)
        if not (match := OF_LEVEL.fullmatch(name)):
            return name
        head, part, level, rest = match.groups()
        # Each level is there once for each stream; the first stream's is upsampled.
        first = int(level) * len(self.streams)
        return f"{head}.{part}.{first + number if part == 'score' else first}.{rest}"

    @property
    def config(self) -> str | None:
        """The shipped config for this checkpoint; None if there is none."""
        alike = all(stream.settings == self.settings for stream in self.streams)
        return super().config if alike else None

    @property
    def summary(self) -> str:
        """One line with the network and its shipped config."""
        return f"{len(self.streams)} streams of {super().summary}"

    def __str__(self) -> str:
        halved = "score layers are halved, so that their sum is the mean of the streams"
        return super().__str__() if self.factor == 1 else f"{super().__str__()}\n  {halved}"


def of_streams(weights: Weights, *settings: Any) -> LateFusion:
    """The conversion of a file of streams; ``settings`` are those of ``Conversion``."""
    factor = HALF if weights.layout.published else 1.0
    streams = [_stream(weights, name) for name in weights.layout.streams]
    return LateFusion(weights, [Conversion(stream, *settings) for stream in streams], factor)


def _stream(weights: Weights, stream: str) -> Weights:
    """One stream of a file, as if it were alone in it, with what belongs to no stream."""
    streams = {name: of_stream(weights.tensors, name) for name in weights.layout.streams}
    shared = weights.tensors.keys() - {whole for one in streams.values() for whole in one.values()}
    names = streams[stream] | {name: name for name in shared}
    return replace(
        weights,
        layout=replace(weights.layout, title=f"{weights.layout.title}, {stream}", streams=()),
        tensors={name: weights.tensors[whole] for name, whole in names.items()},
        names={name: weights.names[whole] for name, whole in names.items()},
    )


def joined(first: Weights, second: Weights, *settings: Any) -> LateFusion:
    """Two networks of files of their own, as the authors begin with (``solve.py``).

    Raises:
        UserError: they are not alike in levels and classes; or one has streams, factors or learned
            upsampling itself, or does not tell its input.
    """
    for weights in (first, second):
        if weights.layout.streams or weights.scale:
            raise UserError(
                f"{weights.path}: has streams or factors on its levels itself; give two networks "
                "of one stream, not trained at once"
            )
        if weights.input is None:
            raise UserError(
                f"{weights.path}: does not tell what it was trained on; convert it by itself, with "
                "--input, and give what that writes"
            )
    streams = [Conversion(weights, *settings) for weights in (first, second)]
    for stream in streams:
        if any(".upscore." in name for name in stream.state_dict):
            raise UserError(
                f"{stream.path}: its upsampling is learned, which the sum of two networks has not "
                "got for each; give networks with fixed upsampling"
            )
    for what, values in (
        ("network", [stream.net for stream in streams]),
        ("further tasks", [stream.tasks for stream in streams]),
        ("classes", [stream.dataset_meta["classes"] for stream in streams]),
        ("padding", [stream.weights.padding for stream in streams]),
    ):
        if values[0] != values[1]:
            raise UserError(
                f"{second.path}: other {what} than {first.path}; give two networks that are alike"
            )
    assert first.input and second.input
    both = Input(BANDS, first.input.mean + second.input.mean, first.input.std + second.input.std)
    title = f"{first.layout.title} and {second.path.name}"
    layout = replace(first.layout, title=title, streams=STREAMS)
    weights = replace(
        first, layout=layout, known=None, hashed=False, input=both, input_untold=False
    )
    return LateFusion(weights, streams, HALF)
