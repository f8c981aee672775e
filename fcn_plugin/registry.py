"""The scope ``fcn_plugin``, for parts of ours that stand under a name of the host's.

All else is registered in ``mmseg.registry`` itself. mmengine imports ``registry`` of the package that a
scope names.
"""

from mmengine.registry import Registry
from mmseg.registry import TRANSFORMS as HOST_TRANSFORMS

TRANSFORMS = Registry(
    "transform",
    parent=HOST_TRANSFORMS,
    scope="fcn_plugin",
    locations=["fcn_plugin.data.loading"],
)
