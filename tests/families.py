"""What families of mmseg and old PyTorch cannot do; tests that need it are skipped and say why."""

import pytest
import torch

from fcn_plugin import compat
from fcn_plugin.system.newer_torch import LEAST

ONEDL = compat.check_host() is compat.ONEDL

CLASS_WEIGHTS = pytest.mark.skipif(
    ONEDL, reason="OneDL's weighted cross entropy leaves ignored pixels out, or fails on them"
)
OPERATORS = pytest.mark.skipif(
    ONEDL, reason="OneDL's mmcv without compiled operators refuses this head"
)
NEWER_TORCH = pytest.mark.skipif(
    torch.__version__ < LEAST,
    reason="torch.compile and export need a newer torch",
)
