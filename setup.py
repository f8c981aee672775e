"""Adds to setup.cfg what that cannot say: mim's folder, and archives that can be built again.

``mim train fcn_plugin fcn8s_vgg16_voc.py`` looks in the folder ``.mim`` of the installed package.
A wheel gets copies there; an editable install gets links to the folders of the source tree.
"""

import gzip
import os
import re
import shutil
import tarfile
import time
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py
from setuptools.command.sdist import sdist

SHIPPED = ("configs", "tools", "model-index.yml")
# On a package index, a link to a file of the repository would lead nowhere: its text is left, and
# nothing of a picture.
RELATIVE_LINK = re.compile(r"(!?)\[([^]]+)\]\((?!https?:)[^)]+\)")


def standing_alone(page: str) -> str:
    """A page in Markdown without links and pictures of the repository."""
    return RELATIVE_LINK.sub(lambda link: "" if link[1] else link[2], page)


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


class ReproducibleSdist(sdist):
    """Writes the same bytes wherever and whenever the same files are packed.

    setuptools does so for wheels only, given SOURCE_DATE_EPOCH; into an sdist it writes the time,
    the builder's name and the modes of a checkout.
    """

    def make_archive(self, base_name, format, base_dir=None, **owner) -> str:
        date = int(os.environ.get("SOURCE_DATE_EPOCH", time.time()))

        def plain(member: tarfile.TarInfo) -> tarfile.TarInfo:
            member.mtime, member.uid, member.gid, member.uname, member.gname = date, 0, 0, "", ""
            member.mode = 0o755 if member.mode & 0o100 else 0o644
            return member

        if format != "gztar":
            return super().make_archive(base_name, format, base_dir=base_dir, **owner)
        self.mkpath(self.dist_dir)
        path = f"{base_name}.tar.gz"
        with (
            open(path, "wb") as file,
            gzip.GzipFile("", "wb", fileobj=file, mtime=date) as packed,
            tarfile.open(fileobj=packed, mode="w") as archive,
        ):
            archive.add(base_dir, filter=plain)
        return path


os.umask(0o022)  # of the metadata's files in a wheel
setup(
    cmdclass={"build_py": BuildWithConfigs, "sdist": ReproducibleSdist},
    long_description=standing_alone(Path("README.md").read_text(encoding="utf-8")),
)
