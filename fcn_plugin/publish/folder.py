"""The three files of a published folder: weights named by their hash, config and model card."""

from collections.abc import Iterable
from pathlib import Path

from fcn_plugin.errors import UserError
from fcn_plugin.system.download import digest_in
from fcn_plugin.weights.files import verify

CARD, CONFIG = "README.md", "config.py"


def check_free(target: Path) -> None:
    """Refuse ``target`` if publishing it would replace something in its folder.

    Raises:
        UserError: a card, a config, published weights or ``target`` are there already, or the
            folder is a file.
    """
    folder = target.parent
    if folder.exists() and not folder.is_dir():
        raise UserError(f"{folder}: a file; give the weights a folder of their own")
    names = [file.name for file in folder.iterdir()] if folder.exists() else []
    ours = (CARD, CONFIG, target.name)
    if taken := [name for name in names if name in ours or digest_in(name)]:
        raise UserError(
            f"{folder / sorted(taken)[0]}: is there already; give the weights a folder of their "
            f"own, which also gets {CARD} and {CONFIG}, or delete it"
        )


def weights_among(place: object, names: Iterable[str]) -> str:
    """The name of the weights among the names of a published folder's files.

    Args:
        place: the folder, for messages.

    Raises:
        UserError: they are not the files of one published network.
    """
    present = set(names)
    hashed = sorted(name for name in present if digest_in(name) and "/" not in name)
    missing = [name for name in (CARD, CONFIG) if name not in present]
    if len(hashed) != 1 or missing:
        lacks = f"no {missing[0]}" if missing else f"{len(hashed)} files NAME-HASH.safetensors"
        raise UserError(
            f"{place}: {lacks}, so not one published network; fcn-plugin convert_weights "
            "--publish RUN FOLDER/NAME.safetensors writes one"
        )
    return hashed[0]


def check_folder(folder: Path) -> Path:
    """The weights in a published folder, whose hash is compared.

    Raises:
        UserError: it is no published folder, or the weights have another hash than their name says.
    """
    if not folder.is_dir():
        raise UserError(f"{folder}: no such folder; give one that --publish has written")
    file = folder / weights_among(folder, (path.name for path in folder.iterdir()))
    verify(file)
    return file
