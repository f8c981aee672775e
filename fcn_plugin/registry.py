"""The scope ``fcn_plugin``, for our transforms that have the same name as one of mmseg's.

All else is registered in ``mmseg.registry``. mmengine looks for a scope's registries in the module
``registry`` of the package with the scope's name, hence this file's place.
"""

from mmengine.registry import Registry
from mmseg.registry import TRANSFORMS as MMSEG_TRANSFORMS

TRANSFORMS = Registry(
    "transform",
    parent=MMSEG_TRANSFORMS,
    scope="fcn_plugin",
    locations=["fcn_plugin.data.images"],
)
