"""First in PYTHONPATH, it makes Python refuse what an exported file is predicted without."""

import sys
from importlib.abc import MetaPathFinder

REFUSED = {"torch", "mmseg", "mmengine", "mmcv"}


class Refusing(MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in REFUSED:
            raise ImportError(f"{name} is refused")


sys.meta_path.insert(0, Refusing())
