"""Find the images to predict, and check the folder that predictions go to."""

import glob
import inspect
from collections.abc import Collection, Sequence
from itertools import takewhile
from pathlib import Path

from fcn_plugin.errors import UserError
from fcn_plugin.system.configs import class_of, innermost

# Suffixes of images in folders and globs. A single file may have any suffix, and so may the files
# of a glob that ends in one.
SUFFIXES = {".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp", ".ppm", ".pgm"}
# Folders of predictions, never read as input; the file MARK beside them says they are ours.
WRITTEN = ("labels", "overlays", "probabilities", "confidence")
MARK = ".predictions"


def check_target(out: Path) -> None:
    """Refuse an output folder where predictions would overwrite other files.

    A data set, for example, often keeps its training labels in a folder ``labels``, too.
    """
    if out.is_file():
        raise UserError(f"{out}: is a file; give --out a folder")
    for folder in (out / name for name in WRITTEN):
        if folder.exists() and not (out / MARK).exists():
            raise UserError(
                f"{folder}: exists and was not written by an earlier prediction; give --out "
                "another folder, or move this one away"
            )


def suffixes_of(dataset: dict) -> set[str]:
    """The suffixes of image files, from a data set's config.

    >>> suffixes_of(dict(type="BaseSegDataset", img_suffix="_bands.npy"))
    {'.npy'}
    """
    from mmseg.registry import DATASETS  # here, because to find files takes no mmseg

    suffixes: set[str] = set()
    for part in innermost(dataset):
        kind = class_of(part, DATASETS)
        setting = inspect.signature(kind).parameters.get("img_suffix") if kind else None
        endings = part.get("img_suffix", setting.default if setting else "")
        endings = [endings] if isinstance(endings, str) else endings
        suffixes |= {Path(f"name{ending}").suffix.lower() for ending in endings}
    suffixes.discard("")
    # If the data set has its own image format, a JPEG beside an image is likely a preview.
    return suffixes if suffixes - SUFFIXES else SUFFIXES


def find_images(
    inputs: Sequence[str], out: Path, suffixes: Collection[str] = SUFFIXES
) -> dict[Path, Path]:
    """Name -> image file, of all images that files, folders and globs mean.

    The inputs keep their order; the images of a folder (with its subfolders) or a glob are sorted.

    Args:
        suffixes: of images in folders, and in globs that do not end in a suffix.

    Returns:
        The name is the image's path without suffix, relative to the folder, or to the part of
        the glob before the first wildcard; a single file has its own name.

    Raises:
        UserError: an input has no images, or two images have the same name.
    """
    images: dict[Path, Path] = {}
    for text in inputs:
        root, files = _expanded(text, out, suffixes)
        if not files:
            usual = " ".join(sorted(suffixes))
            raise UserError(f"{text}: no images there; give files, folders or globs of {usual}")
        for file in files:
            other = images.setdefault(file.relative_to(root).with_suffix(""), file)
            if other.resolve() != file.resolve():
                raise UserError(
                    f"{file}: {other} has the same name, and one prediction would overwrite the "
                    "other; give the folder above both, a glob such as 'DIR/*.jpg', or predict "
                    "them into different folders"
                )
    return images


def _expanded(text: str, out: Path, suffixes: Collection[str]) -> tuple[Path, list[Path]]:
    """The folder that names are relative to, and the images, without hidden files and outputs."""
    path = Path(text)
    if path.is_dir():
        root = path
        # Hidden folders are left out, too: they may hold thumbnails.
        files = [file for file in path.rglob("*") if "/." not in f"/{file.relative_to(path)}"]
    elif path.exists():
        return path.parent, [path]
    elif not glob.has_magic(text):
        raise UserError(f"{text}: no such image or folder; check its name")
    else:
        root = Path(*takewhile(lambda part: not glob.has_magic(part), path.parts[:-1]))
        files = [Path(file) for file in glob.iglob(text, recursive=True)]
        if path.suffix and not glob.has_magic(path.suffix):
            suffixes = {path.suffix.lower()}
    written = [(out / folder).resolve() for folder in WRITTEN]
    return root, sorted(
        file
        for file in files
        if file.suffix.lower() in suffixes
        and not file.name.startswith(".")
        and file.is_file()
        and not any(map(file.resolve().is_relative_to, written))
    )
