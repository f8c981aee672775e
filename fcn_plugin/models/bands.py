"""Normalise images of any number of bands, which have no channel order to swap."""

from collections.abc import Sequence
from typing import Any

import torch
from mmseg.models.data_preprocessor import SegDataPreProcessor
from mmseg.registry import MODELS

from fcn_plugin.errors import UserError


@MODELS.register_module()
class BandsPreProcessor(SegDataPreProcessor):
    """mmseg's ``SegDataPreProcessor`` for any number of bands, in the order of the files.

    One family of mmseg refuses means of other than one or three numbers. Channels are never
    swapped, also not of pictures with three bands.

    Args:
        mean, std: of each band, in the units of the files. Networks train best on standardised
            bands: the mean and the standard deviation over the training pictures.
        size, size_divisor, pad_val, seg_pad_val, batch_augments, test_cfg: as in mmseg. Padding
            comes after normalising: 0 is the mean.

    Raises:
        UserError: mean and std differ in length, or a std is not positive.
    """

    def __init__(self, mean: Sequence[float], std: Sequence[float], **settings: Any) -> None:
        super().__init__(**settings)
        if len(mean) != len(std) or not len(mean) or min(std) <= 0:
            raise UserError(
                f"model.data_preprocessor: mean of {len(mean)} and std of {len(std)} numbers; give "
                "one of each for every band, std above 0"
            )
        for name, values in (("mean", mean), ("std", std)):
            self.register_buffer(
                name, torch.tensor(values, dtype=torch.float32).view(-1, 1, 1), False
            )

    def forward(self, data: dict, training: bool = False) -> dict[str, Any]:
        """As mmseg's, of ``inputs`` [bands, H, W] of any dtype."""
        data = self.cast_data(data)
        mean, std = self.get_buffer("mean"), self.get_buffer("std")
        for image in data["inputs"]:
            if len(image) != len(mean):
                raise UserError(
                    f"images of {len(image)} bands, but model.data_preprocessor has mean and std "
                    f"of {len(mean)}; give one of each for every band"
                )
        inputs = [(image.float() - mean) / std for image in data["inputs"]]
        return super().forward({**data, "inputs": inputs}, training)
