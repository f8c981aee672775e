"""Predict the frames of a video, and write them in the colours of their classes.

Frames are read, predicted and written a batch at a time. OpenCV's wheels have no H.264 encoder.
MPEG-4 is written some fifteen times as fast as VP8, but browsers do not show it.
"""

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np

from fcn_plugin.errors import UserError
from fcn_plugin.prediction.result import Prediction
from fcn_plugin.system.files import is_special, replacing

if TYPE_CHECKING:  # an exported file is predicted without torch
    from fcn_plugin.prediction.exported import ExportedPredictor, Photo
    from fcn_plugin.prediction.predictor import Predictor
    from fcn_plugin.prediction.reading import Picture

# What FFmpeg would write to stderr of damaged frames: nothing. Read once, at OpenCV's first video.
os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")

SUFFIXES = {".mp4", ".m4v", ".mov", ".avi", ".mkv", ".webm"}
CODECS = {"mp4": "mp4v", "webm": "VP80"}  # suffix of a file to write -> OpenCV's name of its codec
USUAL_RATE = 25.0  # frames a second, where a file does not tell
FASTEST_RATE = 1000.0  # as some files tell whose frames come at irregular times
SLACK = 1.0  # seconds that sound, for example, may go on after the last frame


def take_videos(files: dict[Path, Path]) -> dict[Path, Path]:
    """Those of name -> file that are videos by their suffix; the others are left in ``files``."""
    names = [name for name, file in files.items() if file.suffix.lower() in SUFFIXES]
    return {name: files.pop(name) for name in names}


class Video:
    """A video file; iterate over it once for its frames, [H, W, 3] uint8, BGR, turned upright.

    Attributes:
        rate: frames a second.
        count: number of frames; 0 if the file does not tell.
        size: width and height of a frame in pixels.
        position, length: seconds until the last frame that was read, and of the whole video.

    Raises:
        UserError: OpenCV cannot read it.
    """

    def __init__(self, file: Path) -> None:
        if is_special(file):
            raise UserError(f"{file}: a pipe, device or socket; save the video to a file")
        with _silent():
            self._capture = cv2.VideoCapture(str(file), cv2.CAP_FFMPEG)
        get = self._capture.get
        self.size = int(get(cv2.CAP_PROP_FRAME_WIDTH)), int(get(cv2.CAP_PROP_FRAME_HEIGHT))
        if not self._capture.isOpened() or min(self.size) < 1:
            raise UserError(
                f"{file}: damaged or cut off, or no video that OpenCV can read; copy it again, or "
                "convert it to MP4"
            )
        rate, self.count = get(cv2.CAP_PROP_FPS), max(int(get(cv2.CAP_PROP_FRAME_COUNT)), 0)
        # The number of frames may be an estimate by the rate, and the length is not.
        self.length = self.count / rate if rate > 0 else 0.0
        self.rate = rate if 0 < rate < FASTEST_RATE else USUAL_RATE
        self.position = 0.0

    def __iter__(self) -> Iterator[np.ndarray]:
        while True:
            is_frame, frame = self._capture.read()
            if not is_frame:
                return
            self.position = self._capture.get(cv2.CAP_PROP_POS_MSEC) / 1000
            yield frame


def predict_video(
    file: Path,
    predictor: "Predictor | ExportedPredictor",
    target: Path | None = None,
    at_once: int = 1,
    confidence: bool = False,
) -> Iterator[tuple["Picture | Photo", Prediction]]:
    """Each frame and what is predicted for it, in turn; the predictor's ``progress`` tells of it.

    Args:
        target: write a video of the overlays here, NAME.mp4 or NAME.webm, of the same size and
            rate; it appears after the last frame. OpenCV leaves out the last row or column of an
            odd size. Sound is left out.
        at_once: frames in a batch.
        confidence: see ``Predictor``.

    Raises:
        UserError: the file cannot be read, or, after the last frame, it ends before its length; a
            frame cannot be predicted; or ``target`` cannot be written.
    """
    if predictor.read.takes_bands:
        raise UserError(f"{file}: a video, but the network takes bands; give TIFFs like its own")
    video, number = Video(file), 0
    frames = iter(video)
    with ExitStack() as stack:
        write = target and stack.enter_context(_writer(target, video.rate, video.size))
        while batch := list(islice(frames, at_once)):
            predictor.progress(f"Predicting {file.name}", number, video.count)
            try:
                pictures: list[Any] = [predictor.read(frame) for frame in batch]
                results = predictor.predict(pictures, [False] * len(batch), confidence)
            except UserError as error:
                raise UserError(f"{file}, frame {number + 1}: {error}") from None
            for picture, result in zip(pictures, results, strict=True):
                if write:
                    write(result.tinted())
                yield picture, result
            number += len(batch)
        if not number:
            raise UserError(f"{file}: damaged, no frame of it can be read; copy it again")
    if video.position + 1 / video.rate < video.length - SLACK:
        raise UserError(
            f"{file}: damaged or cut off after {video.position:.1f} of {video.length:.1f} seconds; "
            "the frames until there are predicted; copy it again for the others"
        )


@contextmanager
def _writer(
    target: Path, rate: float, size: tuple[int, int]
) -> Iterator[Callable[[np.ndarray], None]]:
    """A function that adds a frame, [H, W, 3] uint8, RGB; the file appears when all are written."""
    codec = cv2.VideoWriter.fourcc(*CODECS[target.suffix[1:]])
    # OpenCV goes by the suffix.
    with replacing(target, ending=f".part{target.suffix}") as part:
        with _silent():
            writer = cv2.VideoWriter(str(part), cv2.CAP_FFMPEG, codec, rate, size)
        if not writer.isOpened():
            raise UserError(
                f"{target}: OpenCV here cannot write it with {size[0]}x{size[1]} pixels; give "
                f"another --video of {', '.join(CODECS)}, or --no-overlays"
            )
        number = 0

        def write(frame: np.ndarray) -> None:
            nonlocal number
            writer.write(cv2.cvtColor(frame, cv2.COLOR_RGB2BGR))
            number += 1

        try:
            yield write
        finally:
            writer.release()
        # OpenCV does not tell when the disk is full.
        if abs(Video(part).count - number) > 1:
            raise UserError(f"{target}: cannot be written whole; make room on the disk")


@contextmanager
def _silent() -> Iterator[None]:
    """Keep OpenCV and FFmpeg from writing to stderr, which they do without Python."""
    sys.stderr.flush()
    stderr, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    try:
        yield
    finally:
        os.dup2(stderr, 2)
        os.close(nowhere)
        os.close(stderr)
