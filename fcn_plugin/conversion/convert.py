"""Convert published weights to a checkpoint of MMSegmentation, for one of our networks."""

from pathlib import Path

from fcn_plugin.conversion.late_fusion import joined, of_streams
from fcn_plugin.conversion.network import Conversion
from fcn_plugin.conversion.resnet import CONFIGS as RESNETS
from fcn_plugin.conversion.resnet import ResNetConversion
from fcn_plugin.conversion.writing import write
from fcn_plugin.errors import UserError
from fcn_plugin.system.progress import Progress, silent
from fcn_plugin.weights.recognise import Weights, open_weights, tell_input


def convert(
    source: Path,
    target: Path,
    net: str | None = None,
    dataset: str | None = None,
    num_classes: int | None = None,
    progress: Progress = silent,
    trained_on: str | None = None,
    second: Path | None = None,
) -> Conversion | ResNetConversion:
    """Write the weights in ``source`` to ``target``, a checkpoint that ``init_model`` loads.

    Args:
        source: any file that ``recognise.open_weights`` knows, our own checkpoints included.
        target: safetensors if its name ends with ".safetensors", else PyTorch's format. An existing
            file is replaced at the very end, and kept if anything fails.
        net: one of ``NETS``; default the source's own, for a classifier as ``first_net`` says.
        dataset: score the classes of this data set of mmseg, e.g. 'CamVidDataset'.
        num_classes: score this many classes. If the source scores other classes, the score layers
            start at zero; the same classes in another order are reordered.
        trained_on: 'nyud-color' or 'nyud-hha', of a file of NYUDv2 that may be either.
        second: another such file; the target gets two streams of these networks, on the channels
            of both, whose scores are averaged.

    Raises:
        UserError: the source is missing, damaged or unknown, or does not fit the other arguments.
    """
    if target.is_dir():
        raise UserError(f"{target}: a folder; give the name of a file to write")
    weights = open_weights(source, progress)
    if trained_on is not None:
        tell_input(weights, trained_on)
    other = None if second is None else open_weights(second, progress)
    conversion = conversion_of(weights, net, dataset, num_classes, other)
    write(conversion.checkpoint(), target, progress)
    return conversion


def conversion_of(
    weights: Weights,
    net: str | None = None,
    dataset: str | None = None,
    num_classes: int | None = None,
    second: Weights | None = None,
) -> Conversion | ResNetConversion:
    """The conversion of a network of one or of several streams; with ``second``, of both as two."""
    settings = net, dataset, num_classes
    if second is not None:
        return joined(weights, second, *settings)
    if weights.layout.classifier in RESNETS:
        return ResNetConversion(weights, *settings)
    return (of_streams if weights.layout.streams else Conversion)(weights, *settings)
