"""Which images are meant by files, folders and globs, and where their predictions go."""

import glob
import inspect
from collections.abc import Collection, Iterable, Sequence
from pathlib import Path

from mmseg.registry import DATASETS

from fcn_plugin.errors import UserError
from fcn_plugin.system.configs import class_of, innermost

# What is an image in a folder or a glob; a file that is named by itself, or a glob that ends in a
# suffix, may be called anything.
SUFFIXES = {".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp", ".ppm", ".pgm"}
# What is written, and so never read, in the folder of the predictions.
WRITTEN = ("labels", "overlays", "probabilities")
MARK = ".predictions"  # file in that folder


def check_target(out: Path) -> None:
    """Refuse a folder where predictions would take the place of something else.

    Such as of the labels that a data set is trained on, which lie in a folder ``labels`` as well.
    """
    if out.is_file():
        raise UserError(f"{out}: is a file; give --out a folder")
    if not (out / MARK).exists():
        for folder in (out / name for name in WRITTEN):
            if folder.exists():
                raise UserError(
                    f"{folder}: is there and has no predictions of before; give --out another "
                    "folder, or move this one away"
                )


def suffixes_of(dataset: dict) -> set[str]:
    """The suffixes of images in folders, by a data set's config.

    >>> suffixes_of(dict(type="BaseSegDataset", img_suffix="_bands.npy"))
    {'.npy'}
    """
    own = {
        Path(f"name{suffix}").suffix.lower()
        for part in innermost(dataset)
        for suffix in _img_suffixes(part)
    }
    # Of a kind of its own, the usual pictures beside it are others, such as previews.
    return own - {""} if own - SUFFIXES - {""} else SUFFIXES


def _img_suffixes(dataset: dict) -> Sequence[str]:
    kind = class_of(dataset, DATASETS)
    setting = inspect.signature(kind).parameters.get("img_suffix") if kind else None
    given = dataset.get("img_suffix", setting.default if setting else "")
    return [given] if isinstance(given, str) else given


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
        UserError: nothing is there, or two images would have predictions of one name.
    """
    named: dict[Path, Path] = {}
    for text in given:
        root, files = _expanded(text, out, suffixes)
        if not files:
            known = " ".join(sorted(suffixes))
            raise UserError(f"{text}: no images there; give files, folders or globs of {known}")
        for file in files:
            name = file.relative_to(root).with_suffix("")
            other = named.setdefault(name, file)
            if not _same(other, file):
                raise UserError(
                    f"{file}: {other} has the same name, and one prediction would overwrite the "
                    "other; give the folder above both, a glob such as 'DIR/*.jpg', or predict "
                    "them into different folders"
                )
    return named


def _expanded(text: str, out: Path, suffixes: Collection[str]) -> tuple[Path, list[Path]]:
    """The folder that names are relative to, and the images."""
    path = Path(text)
    if path.is_dir():
        shown = (file for file in path.rglob("*") if not _hidden(file.relative_to(path)))
        return path, _images(shown, out, suffixes)
    if path.exists():
        return path.parent, [path]
    if not glob.has_magic(text):
        raise UserError(f"{text}: no such image or folder; check its name")
    plain = []
    for part in path.parts[:-1]:
        if glob.has_magic(part):
            break
        plain.append(part)
    found = (Path(file) for file in glob.iglob(text, recursive=True))
    if path.suffix and not glob.has_magic(path.suffix):
        suffixes = {path.suffix.lower()}
    return Path(*plain), _images(found, out, suffixes)


def _images(paths: Iterable[Path], out: Path, suffixes: Collection[str]) -> list[Path]:
    """Those that are images, sorted; no hidden ones, and none that were written before."""
    written = [(out / folder).resolve() for folder in WRITTEN]
    return sorted(
        path
        for path in paths
        if path.suffix.lower() in suffixes
        and not path.name.startswith(".")
        and path.is_file()
        and not any(map(path.resolve().is_relative_to, written))
    )


def _hidden(path: Path) -> bool:
    """Also below a hidden folder, such as one of thumbnails."""
    return any(part.startswith(".") for part in path.parts)


def _same(a: Path, b: Path) -> bool:
    return a == b or a.resolve() == b.resolve()
