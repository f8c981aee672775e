"""Archives for leaderboards, by other code than the package's."""

import io
import tarfile
import zipfile

import numpy as np
from PIL import Image

from fcn_plugin.evaluation.leaderboards import LEADERBOARDS, Leaderboard

VOC, MIT = LEADERBOARDS
FOLDER = "results/VOC2012/Segmentation/comp6_test_cls/"
Members = list[tuple[str, bytes]]


def path_of(board: Leaderboard, name: str) -> str:
    return f"{FOLDER if board is VOC else ''}{name}.png"


def png(board: Leaderboard, labels: np.ndarray, mode: str = "", palette=None) -> bytes:
    image, stream = Image.fromarray(labels), io.BytesIO()
    image = image.convert(mode) if mode else image
    if board.palette and not mode:
        image.putpalette([level for colour in palette or board.palette for level in colour])
    image.save(stream, "PNG")
    return stream.getvalue()


def packed(board: Leaderboard, members: Members) -> bytes:
    stream = io.BytesIO()
    if board is MIT:
        with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
            for name, content in members:
                archive.writestr(name, content)
        return stream.getvalue()
    with tarfile.open(fileobj=stream, mode="w:gz") as archive:
        for name, content in members:
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return stream.getvalue()


def unpacked(content: bytes) -> dict[str, bytes]:
    """The members as Python's own modules see them."""
    stream = io.BytesIO(content)
    if zipfile.is_zipfile(stream):
        with zipfile.ZipFile(stream) as archive:
            return {name: archive.read(name) for name in archive.namelist()}
    stream.seek(0)
    with tarfile.open(fileobj=stream) as archive:
        assert all(info.isfile() for info in archive)
        return {info.name: archive.extractfile(info).read() for info in archive}
