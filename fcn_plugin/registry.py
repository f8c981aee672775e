"""The scope ``fcn_plugin``, for parts of ours that have the same name as one of mmseg's.

All else is registered in ``mmseg.registry`` itself. The module lies here because mmengine imports
``registry`` from the package that has a scope's name.
"""

from mmengine.registry import Registry
from mmseg.registry import TRANSFORMS as HOST_TRANSFORMS

TRANSFORMS = Registry(
    "transform",
    parent=HOST_TRANSFORMS,
    scope="fcn_plugin",
    locations=["fcn_plugin.data.images"],
)
