"""Labels that are pictures, in all usual layouts of folders and names.

VOC's and CVAT's folders, CamVid's, mmseg's, ``images`` and ``masks`` with train, val and test above
or below them, and labels beside their pictures that end in ``_mask`` or the like.
"""

import re
from collections import Counter
from functools import partial
from pathlib import Path

from fcn_plugin.errors import UserError, some
from fcn_plugin.prepare.own.class_tables import find_table
from fcn_plugin.prepare.own.folder import Folder, key_of, split_of
from fcn_plugin.prepare.own.source import Item, Job, Source
from fcn_plugin.prepare.own.values import meaning_of, read_picture

# What the pictures in a folder are by its name, in lower case.
KINDS = {
    "image": ("images", "image", "imgs", "img", "img_dir", "jpegimages", "pictures", "photos"),
    "label": (
        *("labels", "label", "masks", "mask", "annotations", "annotation", "annot", "ann_dir"),
        *("segmentationclass", "segmentationclasspng", "segmentation", "gt", "ground_truth"),
    ),
    # Numbers of objects, and labels drawn over pictures.
    "neither": ("segmentationobject", "segmentationobjectpng", "segmentationclassvisualization"),
}
KIND_OF = {name: kind for kind, names in KINDS.items() for name in names}
ANNOT = "annot"  # CamVid's trainannot has the labels of train
# Ends of names of labels and of pictures.
LABEL_END = re.compile(r"(.+)[_.-](masks?|labels?|gt|seg|segmentation|annotation|l)", re.IGNORECASE)
IMAGE_ENDS = ("", "_image", "_img", "_rgb")
LOSSLESS = (".png", ".bmp", ".tif", ".tiff")
Paths = dict[str, Path]


def read(folder: Folder, job: Job) -> Source | None:
    """See ``Reader.read``: label pictures, whose classes ``find_table`` and ``meaning_of`` tell.

    Raises:
        UserError: a label has no image, or two images or labels have the same name.
    """
    images, labels = _by_key(folder)
    if not labels:
        return None
    stems = Counter(key.rpartition("/")[2] for key in images)
    by_stem = {key.rpartition("/")[2]: key for key in images if stems[key.rpartition("/")[2]] == 1}
    pairs: dict[str, Path] = {}
    splits: dict[str, str | None] = {}
    for key, label in labels.items():
        own = _image_key(key, images) or by_stem.get(key.rpartition("/")[2], "")
        splits[own] = split_of(Path(key))
        if own not in images or split_of(Path(own)) not in (None, splits[own]):
            raise UserError(
                f"{label}: no image {key}; add it, move this away, or give --images DIR with the "
                "images"
            )
        if (other := pairs.setdefault(own, label)) != label:
            raise UserError(f"{label}: {other} is a label of the same image; delete one of them")
    items = [Item(key, images.pop(key), label, splits[key]) for key, label in pairs.items()]
    classes, meaning = meaning_of(list(labels.values()), find_table(folder, job), job)
    places = sorted({label.parent.relative_to(folder.path).as_posix() for label in labels.values()})
    return Source(
        layout=f"label pictures in {some(places, 3)}",
        items=items + [Item(key, path, None, split_of(Path(key))) for key, path in images.items()],
        classes=classes,
        read=partial(read_picture, meaning=meaning),
    )


def _by_key(folder: Folder) -> tuple[Paths, Paths]:
    """The images and the labels, by their paths without what tells images from labels."""
    kinds: dict[str | None, Paths] = {"image": {}, "label": {}, None: {}}
    annotated = {file.with_suffix("") for file in folder.having(".json")}
    for file in folder.pictures:
        kind, key = _kind(file)
        if kind == "label" and file.suffix.lower() not in LOSSLESS:
            kind = "neither" if file.with_suffix("") in annotated else kind  # labelme's images
        if kind != "neither":
            _add(kinds[kind], key, folder.path / file, is_label=kind == "label")
    images, labels, others = kinds["image"], kinds["label"], kinds[None]
    # Beside a folder of images, pictures elsewhere are not of the data set, unless of a split.
    candidates = {
        key: path for key, path in others.items() if not kinds["image"] or split_of(Path(key))
    }
    if not labels:  # they may lie among the images
        candidates, images = images | candidates, {}
    whole = images | candidates
    for key, path in candidates.items():
        end = LABEL_END.fullmatch(key)
        is_label = end and path.suffix.lower() in LOSSLESS and _image_key(end[1], whole)
        _add(labels if is_label else images, key, path, is_label=bool(is_label))
    for key, path in folder.elsewhere_pictures.items():
        _add(images, key, path, is_label=False)
    return images, labels


def _kind(file: Path) -> tuple[str | None, str]:
    """What a path's folders make of a picture, and its key; of several, the deepest one counts."""
    folders, name = list(file.parts[:-1]), file.with_suffix("").name
    for depth in reversed(range(len(folders))):
        folder = folders[depth].lower()
        if kind := KIND_OF.get(folder):
            return kind, "/".join([*folders[:depth], *folders[depth + 1 :], name])
        if folder.endswith(ANNOT):
            folders[depth] = folders[depth][: -len(ANNOT)].rstrip("_-")
            return "label", "/".join([*folders, name])
    return None, key_of(file)


def _add(paths: Paths, key: str, path: Path, is_label: bool) -> None:
    """Add a path; of two labels in one folder, the one without loss stays."""
    other = paths.setdefault(key, path)
    if other == path:
        return
    lossless = [one for one in (other, path) if one.suffix.lower() in LOSSLESS]
    if not is_label or other.parent != path.parent or len(lossless) != 1:
        raise UserError(
            f"{path}: {other} has the same name; rename one of them, a label to {path.stem}_mask"
        )
    paths[key] = lossless[0]


def _image_key(key: str, images: Paths) -> str | None:
    """The key of the image of a label with this key; None if it is not there."""
    end = LABEL_END.fullmatch(key)
    stems = (key, end[1]) if end else (key,)
    names = (f"{stem}{image_end}" for stem in stems for image_end in IMAGE_ENDS)
    return next((name for name in names if name in images), None)
