"""The base of the convolutionalized classifiers (CVPR section 3.1, PAMI section 4.1).

A classifier is a sequence of stages; some of their outputs are the levels that a decode head takes.
Its fully connected layers are convolutions. Layers are named as in the Caffe files:
``stages.2.inception_3a.1x1.weight`` is the weight of Caffe's ``inception_3a/1x1``.
"""

from collections.abc import Sequence
from itertools import chain
from typing import Any, cast

import torch
from mmengine.model import BaseModule, initialize
from torch import Tensor, nn

from fcn_plugin.errors import UserError
from fcn_plugin.geometry import Layer, compose
from fcn_plugin.models.border import Border, padded, resize_border, thinnable
from fcn_plugin.models.features import Features, Switches
from fcn_plugin.models.layers import windows
from fcn_plugin.models.recompute import checkpointed
from fcn_plugin.system.configs import type_name
from fcn_plugin.weights.pretrained import load_classifier

# Width in pixels of the zeros around the image. With the 100 of the released networks every level
# has an output at any image size; ``border`` computes equal rows once.
BORDERS = {"reference": 100, "same": 0}
# Not fan_out, 200,704 for VGG's fc6 with its 25,088 inputs: the outputs would be too small.
FROM_SCRATCH = [
    dict(type="Kaiming", layer="Conv2d", mode="fan_in", distribution="normal"),
    dict(type="Constant", layer=["_BatchNorm", "GroupNorm"], val=1),
]


class ConvolutionalizedClassifier(BaseModule):
    """Stages in sequence; takes N x in_channels x H x W, H and W of at least 1.

    Args:
        stages: the whole classifier. Stages after the last of ``out_indices`` are not built. One
            that returns a tuple returns its output and the switches of its pooling.
        out_indices: the stages whose outputs are returned.
        padding: 'same', or 'reference' if feature maps extend beyond the image into the padding.
        frozen_stages: number of stages to freeze, counted from the image.
        with_cp: recompute each stage in the backward pass instead of keeping its activations.
        init_cfg: He's by default; a ``Pretrained`` file loads strictly (``weights.pretrained``),
            of which ``keep_colours=True`` gives the first three of more bands the file's filters.
    """

    is_init: bool  # mmengine's, which it does not annotate

    def __init__(
        self,
        stages: Sequence[nn.Module],
        out_indices: Sequence[int],
        padding: str,
        frozen_stages: int,
        with_cp: bool,
        init_cfg: dict | list | None,
    ) -> None:
        if not out_indices or not set(out_indices) <= set(range(len(stages))):
            raise UserError(
                f"{type(self).__name__}: out_indices {tuple(out_indices)}, must be of 0-"
                f"{len(stages) - 1}"
            )
        super().__init__(init_cfg or FROM_SCRATCH)
        built = max(out_indices) + 1
        self.stages = nn.ModuleList(stages[:built])
        # Names in a file of the whole classifier that this network has no use for.
        self.unbuilt = {
            f"stages.{number}.{name}"
            for number, stage in enumerate(stages[built:], start=built)
            for name in stage.state_dict()
        }
        self.layers = [list(windows(stage)) for stage in self.stages]
        self.padding, self.border = padding, BORDERS[padding]
        padded_image = Layer(kernel=1, padding=self.border)
        self.out_indices = tuple(out_indices)
        self.maps = tuple(
            compose([padded_image, *chain(*self.layers[: index + 1])]) for index in out_indices
        )
        self._maps_in_floats = tuple(level.in_floats() for level in self.maps)
        self.frozen_stages = frozen_stages
        self.with_cp = with_cp
        self._set_memory_format()
        self._freeze()

    def _set_memory_format(self, contiguous: bool = False) -> None:
        """Set the weights' memory format: the fastest for compute, or contiguous.

        In another format every step would copy the weights, and copy their gradients back.
        """
        for stage in self.stages:
            fastest = getattr(stage, "memory_format", torch.channels_last)
            memory_format = torch.contiguous_format if contiguous else fastest
            cast(Any, stage).to(memory_format=memory_format)

    def forward(self, image: Tensor) -> Features:
        """The levels of ``out_indices`` for images N x in_channels x H x W."""
        # On CPUs convolutions are twice as fast in channels-last memory.
        x = image.contiguous(memory_format=torch.channels_last)
        levels: list[Tensor] = []
        switches: list[Switches] = []
        # With padding 'same' the border is empty: nothing is padded, left out or copied.
        border = Border.around(image, self.border)
        for number, (stage, layers) in enumerate(zip(self.stages, self.layers, strict=True)):
            needed = border.thinned(layers) if thinnable(stage) else border.whole()
            x = resize_border(x, border, needed) if number else padded(x, self.border, needed)
            # A frozen stage keeps no activations to recompute.
            recomputes = self.with_cp and self.training and number >= self.frozen_stages
            output: Any = checkpointed(stage, x) if recomputes else stage(x)
            if isinstance(output, tuple):
                output, of_pooling = output
                switches.append(of_pooling)
            x = output
            border = needed.through(layers)
            if number in self.out_indices:
                x, border = resize_border(x, border, border.whole()), border.whole()
            levels.append(x)
        return Features(
            [levels[index] for index in self.out_indices],
            self._maps_in_floats,
            (image.shape[-2], image.shape[-1]),
            zero_border=self.padding == "reference",
            switches=switches,
        )

    def init_weights(self) -> None:
        """Initialise; a ``Pretrained`` init_cfg loads strictly, where mmengine only warns."""
        # Random numbers fill memory in order: contiguous weights depend on the seed alone.
        self._set_memory_format(contiguous=True)
        cfgs = self.init_cfg if isinstance(self.init_cfg, list | tuple) else [self.init_cfg]
        pretrained = [cfg for cfg in cfgs if type_name(cfg) in ("Pretrained", "PretrainedInit")]
        if pretrained:
            if not self.is_init:
                initialize(self, FROM_SCRATCH)  # the file may lack some
                cfg = pretrained[-1]
                load_classifier(self, cfg["checkpoint"], cfg.get("keep_colours", False))
                self.is_init = True
        else:
            super().init_weights()
        self._set_memory_format()

    def train(self, mode: bool = True) -> "ConvolutionalizedClassifier":
        super().train(mode)
        self._freeze()
        return self

    def _freeze(self) -> None:
        for stage in self.stages[: max(self.frozen_stages, 0)]:
            stage.eval()
            stage.requires_grad_(False)
