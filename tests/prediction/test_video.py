"""Videos: every frame is predicted as a picture of it is, and what is wrong with a file is said."""

import os
import struct
from pathlib import Path

import cv2
import numpy as np
import pytest
from prediction.trained import CLASSES, trained

from fcn_plugin.errors import UserError
from fcn_plugin.prediction import Predictor
from fcn_plugin.prediction.video import CODECS, Video, predict_video

RATE, FRAMES, SIZE = 12.5, 25, (64, 48)  # two seconds; width and height


@pytest.fixture(scope="module")
def predictor(tmp_path_factory) -> Predictor:
    meta = dict(classes=CLASSES, palette=[[40 * i, 250 - 60 * i, 99] for i in range(5)])
    return Predictor(*trained(tmp_path_factory.mktemp("network"), dataset_meta=meta), "cpu")


@pytest.fixture(scope="module")
def film(tmp_path_factory) -> Path:
    return filmed(tmp_path_factory.mktemp("film") / "film.mp4")


def filmed(path: Path, codec: str = "mp4v") -> Path:
    """A video of slowly moving blocks of colour, with one corner always white."""
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*codec), RATE, SIZE)
    blocks = np.random.default_rng(0).integers(0, 200, (6, 12, 3)).astype(np.uint8)
    scene = blocks.repeat(8, 0).repeat(8, 1)
    for number in range(FRAMES):
        frame = scene[:, number : number + SIZE[0]].copy()
        frame[:16, :16] = 255
        writer.write(frame)
    writer.release()
    return path


def frames_of(path: Path) -> list[np.ndarray]:
    capture, frames = cv2.VideoCapture(str(path)), []
    while (read := capture.read())[0]:
        frames.append(read[1])
    return frames


@pytest.mark.parametrize("suffix", CODECS)
def test_each_frame_is_predicted_as_a_picture(film, predictor, tmp_path, suffix):
    target = tmp_path / f"overlay.{suffix}"
    found = [result for _, result in predict_video(film, predictor, target, at_once=4)]
    frames, written = frames_of(film), frames_of(target)
    assert len(found) == len(frames) == len(written) == FRAMES
    for frame, result, overlay in zip(frames, found, written, strict=True):
        expected = predictor(frame)
        assert np.array_equal(result.labels, expected.labels) and result.confidence is None
        assert overlay.shape == frame.shape
        right, turned_round = (
            np.abs(colours.astype(int) - expected.tinted()).mean()
            for colours in (overlay[..., ::-1], overlay)
        )
        assert right < 10 < 15 < turned_round
    assert cv2.VideoCapture(str(target)).get(cv2.CAP_PROP_FPS) == pytest.approx(RATE)
    assert list(tmp_path.iterdir()) == [target]


def test_few_frames_are_in_memory(film, predictor, monkeypatch):
    """A frame is read only when those before it have been taken."""
    read = []
    frames = Video.__iter__

    def counted(video: Video):
        for frame in frames(video):
            read.append(frame)
            yield frame

    monkeypatch.setattr(Video, "__iter__", counted)
    for number, _ in enumerate(predict_video(film, predictor, at_once=2), start=1):
        assert len(read) <= number + 1


def test_a_turned_video_is_read_upright(film, tmp_path, predictor):
    """As a phone writes it: turned by a matrix in the header of its track."""
    content = bytearray(film.read_bytes())
    at = content.index(b"tkhd") + 44
    turned = struct.pack(">9i", 0, 1 << 16, 0, -1 << 16, 0, 0, 0, 0, 1 << 30)
    content[at : at + 36] = turned
    (tmp_path / "turned.mp4").write_bytes(content)
    target = tmp_path / "overlay.mp4"
    picture, result = next(predict_video(tmp_path / "turned.mp4", predictor))
    assert result.labels.shape == SIZE
    assert (picture.image[:12, -12:] > 230).all()  # the white corner, by a quarter to the right
    list(predict_video(tmp_path / "turned.mp4", predictor, target))
    assert frames_of(target)[0].shape == (*SIZE, 3)


def test_what_is_wrong_with_a_video_is_said(film, tmp_path, predictor, capfd):
    whole = filmed(tmp_path / "whole.avi", "MJPG").read_bytes()
    (tmp_path / "cut.avi").write_bytes(whole[: len(whole) // 3])
    (tmp_path / "cut.mp4").write_bytes(film.read_bytes()[:-300])
    (tmp_path / "text.mp4").write_text("no video " * 99)
    os.mkfifo(tmp_path / "pipe.mp4")
    target, frames = tmp_path / "overlay.mp4", []
    for name, message in (
        ("cut.avi", r"cut\.avi: damaged or cut off after 0\.\d of 2\.0 seconds; the frames until"),
        ("cut.mp4", r"cut\.mp4: damaged or cut off, or no video that OpenCV can read; copy it"),
        ("text.mp4", r"text\.mp4: damaged or cut off, or no video"),
        ("pipe.mp4", r"pipe\.mp4: a pipe, device or socket"),
    ):
        with pytest.raises(UserError, match=message):
            frames += list(predict_video(tmp_path / name, predictor, target))
    written = frames_of(target)  # what could be read of the first
    assert 3 < len(written) < 15 and frames == []
    assert capfd.readouterr().err == ""
