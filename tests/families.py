"""What the families of mmseg cannot do; tests that need it are skipped there and say why."""

import pytest

from fcn_plugin import compat

ONEDL = compat.check_host() is compat.ONEDL

CLASS_WEIGHTS = pytest.mark.skipif(
    ONEDL, reason="OneDL's weighted cross entropy leaves ignored pixels out, or fails on them"
)
BANDS = pytest.mark.skipif(ONEDL, reason="OneDL's mmseg refuses means of other than 1 or 3 bands")
OPERATORS = pytest.mark.skipif(
    ONEDL, reason="OneDL's mmcv without compiled operators refuses this head"
)
