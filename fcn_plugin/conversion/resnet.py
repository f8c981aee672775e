"""Convert torchvision's FCN on ResNet to a checkpoint of mmseg's own FCN.

The layers are the same under other names; mmseg's config has torchvision's dilations (the first
block of a stage still has those of the stage before) and its upsampling of the scores.
"""

from dataclasses import asdict
from typing import Any

import torch

from fcn_plugin.conversion.classes import VOC_CLASSES, classes_by_number, storable
from fcn_plugin.conversion.ours import numbers
from fcn_plugin.errors import UserError
from fcn_plugin.weights.fill import Report
from fcn_plugin.weights.networks import COUNT
from fcn_plugin.weights.recognise import Weights
from fcn_plugin.weights.sources import TORCHVISION
from fcn_plugin.weights.structure import check_tensors

# Name of the backbone in a layout -> shipped config.
CONFIGS = {"resnet50": "fcn_r50-d8_voc", "resnet101": "fcn_r101-d8_voc"}
HEAD, AUXILIARY = "decode_head.", "auxiliary_head."


class ResNetConversion:
    """``weights`` as a checkpoint of mmseg's FCN; ``str`` of it is a report.

    Attributes:
        config: the shipped config that runs it; None if it scores other classes than VOC's, or has
            no auxiliary classifier.
        state_dict: the checkpoint's tensors.
        report: which of the file's tensors are used, and which of mmseg's are new.
    """

    def __init__(
        self, weights: Weights, net: str | None, dataset: str | None, num_classes: int | None
    ) -> None:
        self.weights = weights
        shipped = CONFIGS[weights.layout.classifier]
        count = len(weights.tensors[f"{HEAD}conv_seg.bias"])
        whole = f"{AUXILIARY}conv_seg.weight" in weights.tensors
        self.config = shipped if whole and count == VOC_CLASSES else None
        if net or dataset or num_classes not in (None, count):
            raise UserError(
                f"{weights.path}: {weights.layout.title} is converted as it is; leave out --net, "
                f"--dataset and --num-classes. For other classes train {shipped} from the result"
            )
        check_tensors(weights.path, weights.tensors)
        self.dataset_meta = storable(classes_by_number(count))
        counts = [
            name.replace("running_var", COUNT)
            for name in weights.tensors
            if name.endswith("running_var")
        ]
        new = [name for name in counts if name not in weights.tensors]
        self.state_dict = weights.tensors | {name: torch.tensor(0) for name in new}
        self.report = Report(list(weights.names.values()), dict(weights.dropped), new)

    def checkpoint(self) -> dict[str, Any]:
        """What is written to the target: tensors, texts and numbers only."""
        meta = dict(
            dataset_meta=self.dataset_meta,
            source=self.weights.origin,
            input=asdict(TORCHVISION),
        )
        made_for = dict(made_for=self.config) if self.config else {}
        return dict(meta=meta | made_for, state_dict=self.state_dict)

    @property
    def summary(self) -> str:
        """One line with the network and its shipped config."""
        hint = f"; config: {self.config}" if self.config else ""
        classes = len(self.dataset_meta["classes"])
        return f"mmseg's FCN on {self.weights.layout.classifier}, {classes} classes{hint}"

    def __str__(self) -> str:
        mean, std = numbers(TORCHVISION.mean), numbers(TORCHVISION.std)
        lines = [self.weights.heading, str(self.report), f"input RGB, mean {mean}, std {std}"]
        return "\n  ".join(lines)
