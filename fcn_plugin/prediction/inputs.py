"""Which images files, folders and globs mean, and where predictions may be written."""

import glob
import inspect
from collections.abc import Collection, Sequence
from itertools import takewhile
from pathlib import Path

from mmseg.registry import DATASETS

from fcn_plugin.errors import UserError
from fcn_plugin.system.configs import class_of, innermost

# Of images in a folder or a glob. A file that is named by itself, or by a glob that ends in a
# suffix, may be called anything.
SUFFIXES = {".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp", ".ppm", ".pgm"}
# Folders of predictions, which are never read as input, and a file beside them.
WRITTEN = ("labels", "overlays", "probabilities")
MARK = ".predictions"


def check_target(out: Path) -> None:
    """Refuse a folder where predictions would replace something else.

    Such as the labels that a data set is trained on, which lie in a folder ``labels`` as well.
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
    """The suffixes of images in folders, by a data set's config.

    >>> suffixes_of(dict(type="BaseSegDataset", img_suffix="_bands.npy"))
    {'.npy'}
    """
    named: set[str] = set()
    for part in innermost(dataset):
        kind = class_of(part, DATASETS)
        setting = inspect.signature(kind).parameters.get("img_suffix") if kind else None
        endings = part.get("img_suffix", setting.default if setting else "")
        endings = [endings] if isinstance(endings, str) else endings
        named |= {Path(f"name{ending}").suffix.lower() for ending in endings}
    named.discard("")
    # Beside images of another format the usual ones are something else, such as previews.
    return named if named - SUFFIXES else SUFFIXES


def find_images(
    given: Sequence[str], out: Path, suffixes: Collection[str] = SUFFIXES
) -> dict[Path, Path]:
    """The images of files, folders (with those below) and globs, in the order given, each sorted.

    Args:
        suffixes: of images in folders, and in globs that end in none.

    Returns:
        Name -> image. The name is the path without its suffix, below the folder or the part of
        the glob that has no wildcard; of a single file, that of the file.

    Raises:
        UserError: there are none, or two images would have predictions of one name.
    """
    images: dict[Path, Path] = {}
    for text in given:
        root, files = _expanded(text, out, suffixes)
        if not files:
            known = " ".join(sorted(suffixes))
            raise UserError(f"{text}: no images there; give files, folders or globs of {known}")
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
    """The folder that names are relative to, and the images; none that is hidden or was written."""
    path = Path(text)
    if path.is_dir():
        root = path
        # Nor those below a hidden folder, such as one of thumbnails.
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
