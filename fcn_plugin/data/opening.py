"""Files of pictures, opened: what cannot be decoded is refused by its name, and told what it is."""

import io
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import mmengine.fileio as fileio
from PIL import Image, ImageFile
from PIL.TiffImagePlugin import TiffImageFile

from fcn_plugin.data.kinds import is_raw, kind_of, tiff_in_words
from fcn_plugin.data.whole import open_picture
from fcn_plugin.errors import DamagedFile, UserError
from fcn_plugin.system.files import is_special
from fcn_plugin.system.memory import check_picture

CheckSize = Callable[[str | Path, tuple[int, int]], None]


def content_of(path: str | Path, kind: str, backend_args: dict | None) -> bytes:
    """The bytes of a file."""
    if not backend_args and is_special(path):
        raise DamagedFile(f"{path}: a pipe, device or socket; save the {kind} to a file")
    try:
        return fileio.get(path, backend_args=backend_args)
    except FileNotFoundError:
        remedy = "add the file, or take its name out of the data set's list"
        raise UserError(f"{path}: no such {kind}; {remedy}") from None
    except OSError as error:
        raise DamagedFile(f"{path}: cannot be read ({error.strerror}); make it readable") from error


@contextmanager
def damage_named(path: str | Path, kind: str, content: bytes | None) -> Iterator[None]:
    """Whatever a decoder raises, as the fault of this file."""
    lenient = ImageFile.LOAD_TRUNCATED_IMAGES  # another package may have set it
    ImageFile.LOAD_TRUNCATED_IMAGES = False
    try:
        yield
    except UserError:
        raise
    # What a decoder raises on arbitrary bytes is not documented: OSError, SyntaxError, struct.error
    # and more have been seen.
    except Exception as error:
        unknown = isinstance(error, Image.UnidentifiedImageError)
        if unknown and content and (other := kind_of(content)):
            raise DamagedFile(f"{path}: {other.name}; {other.remedy}") from error
        if content == b"":
            reason = "the file is empty"
        elif unknown:
            reason = "no image format is recognised in it"
        else:
            reason = " ".join(str(error).split())  # OpenCV's go over several lines
        remedy = "copy, download or unpack it again"
        raise DamagedFile(f"{path}: damaged {kind}, {reason}; {remedy}") from error
    finally:
        ImageFile.LOAD_TRUNCATED_IMAGES = lenient


def open_checked(
    content: bytes, path: str | Path, kind: str, check_size: CheckSize = check_picture
) -> ImageFile.ImageFile:
    """A picture whose pixels are still to be decoded; of a PNG all checksums are right.

    Pillow does not look at those of the pixels when it decodes them.

    Raises:
        UserError: it is damaged or no picture, or ``check_size`` refuses it.
    """
    with damage_named(path, kind, content):
        image = open_picture(io.BytesIO(content))
        if image.format == "EPS":  # a program, which Pillow would have Ghostscript run
            raise Image.UnidentifiedImageError
        raw = isinstance(image, TiffImageFile) and is_raw(content, image.tag_v2)
        if raw or isinstance(image, ImageFile.StubImageFile):  # of which Pillow only knows the name
            raise Image.UnidentifiedImageError
        if image.format == "PNG":
            image.verify()
            image = open_picture(io.BytesIO(content))  # the verified one cannot be used further
    check_size(path, image.size)
    return image


def raw_mode_of(image: ImageFile.ImageFile) -> str:
    """Pillow's name for the pixels as the file has them, before it has decoded them."""
    if not image.tile:
        return image.mode
    raw_mode = image.tile[0][3]
    return str(raw_mode[0] if isinstance(raw_mode, tuple) else raw_mode)


def numbers_in_words(image: Image.Image) -> str:
    """A picture whose numbers are no levels of 8 or 16 bits, such as ``a TIFF of 1 band ...``."""
    tags = getattr(image, "tag_v2", None)
    return tiff_in_words(tags) if tags else "a picture of numbers beyond 16 bits"
