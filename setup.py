"""Adds to setup.cfg what OpenMMLab's ``mim`` expects: configs and tools inside the package.

``mim train fcn_plugin fcn8s_vgg16_voc.py`` looks in the folder ``.mim`` of the installed package.
A wheel gets copies there; an editable install gets links to the folders of the source tree.
"""

import shutil
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py

SHIPPED = ("configs", "tools", "model-index.yml")


class BuildWithConfigs(build_py):
    def run(self) -> None:
        super().run()
        home = Path("." if self.editable_mode else self.build_lib, "fcn_plugin", ".mim")
        # What an earlier build left would otherwise stay, even after its source is gone.
        shutil.rmtree(home, ignore_errors=True)
        home.mkdir(parents=True)
        for source in filter(Path.exists, map(Path, SHIPPED)):
            target = home / source.name
            if self.editable_mode:
                target.symlink_to(Path("..", "..", source), target_is_directory=source.is_dir())
            elif source.is_dir():
                shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__"))
            else:
                shutil.copy2(source, target)


setup(cmdclass={"build_py": BuildWithConfigs})
