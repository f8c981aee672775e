"""Bands are normalised one by one, by whichever family of mmseg."""

import numpy as np
import pytest
import torch

from fcn_plugin.errors import UserError
from fcn_plugin.models import BandsPreProcessor


def test_bands_are_normalised_and_never_swapped():
    mean, std = (1.0, 2.0, 3.0), (2.0, 4.0, 8.0)
    image = torch.arange(24).view(3, 2, 4).to(torch.uint16)
    (found,) = BandsPreProcessor(mean, std)(dict(inputs=[image], data_samples=[]))["inputs"]
    expected = (image.numpy().astype(float) - np.reshape(mean, (3, 1, 1))) / np.reshape(
        std, (3, 1, 1)
    )
    np.testing.assert_allclose(found, expected, rtol=1e-6)
    for settings in ((mean, std[:2]), (mean, (0.0, 1.0, 1.0)), ((), ())):
        with pytest.raises(UserError, match="one of each for every band"):
            BandsPreProcessor(*settings)
