"""Predict labels of images: as a whole, in batches, or in windows where memory is short."""

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from math import isqrt
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from mmengine.config import Config
from mmengine.device import get_device
from mmengine.registry import init_default_scope
from mmseg.structures import SegDataSample
from PIL import Image
from torch import Tensor

from fcn_plugin.config import pipeline_of
from fcn_plugin.errors import UserError
from fcn_plugin.evaluation.bands import shown
from fcn_plugin.prediction.checkpoints import find_checkpoint
from fcn_plugin.prediction.memory import HIDDEN, TensorBytes, budget, side_within
from fcn_plugin.prediction.network import image_channels, load_network
from fcn_plugin.prediction.reading import Picture, Reader
from fcn_plugin.prediction.result import Prediction
from fcn_plugin.prediction.windowed import class_probabilities, label_array, predict_in_windows
from fcn_plugin.prediction.windows import layouts

# What is as small as this is predicted as a whole, and no memory is measured for it.
SMALL = 256 * 256
# Elements of a tensor that every kernel can count, and the channels that an image's size may have.
COUNTABLE, CHANNELS = 2**31 - 1, 64


class Predictor:
    """A trained network for any image.

    Images go through the config's test pipeline, as in ``tools/test.py``, and labels have the
    image's own size. An image that would take more memory than there is goes in windows.

    Args:
        config: its file, or a config that was read.
        checkpoint: file, or a work dir (its best checkpoint, else its last).
        device: e.g. 'cpu' or 'cuda:1'; default: a GPU if there is one.
        max_memory: bytes that this process may have; on a GPU, what it may have there. Default:
            what is free, but for a reserve.
        tta: test-time augmentation by the config's ``tta_pipeline`` and ``tta_model``; then always
            as a whole.
        progress: told of an image in windows: how many are done, and of how many.

    Raises:
        UserError: config and checkpoint do not fit each other, or one cannot be used.
    """

    def __init__(
        self,
        config: str | Path | Config,
        checkpoint: str | Path,
        device: str | None = None,
        max_memory: int | None = None,
        tta: bool = False,
        progress: Callable[[int, int], None] = lambda done, total: None,
    ) -> None:
        cfg = config if isinstance(config, Config) else Config.fromfile(config)
        if tta and not {"tta_pipeline", "tta_model"} <= set(cfg):
            raise UserError(f"--tta: {cfg.filename} has no tta_pipeline and tta_model; add them")
        init_default_scope(cfg.get("default_scope", "mmseg"))
        self.device = _device(device)
        self.max_memory, self.tta, self.progress = max_memory, tta, progress
        file = find_checkpoint(Path(checkpoint))
        self.model, self.classes = load_network(cfg, file, self.device, tta)
        steps = cfg.tta_pipeline if tta else pipeline_of(cfg.test_dataloader.dataset)
        network: Any = self.model.module if tta else self.model
        self.read = Reader(steps, image_channels(network))
        self._peaks: dict[tuple[int, bool], int] = {}

    def __call__(
        self, image: str | Path | np.ndarray | Image.Image, probabilities: bool | Path = False
    ) -> Prediction:
        """Predict one image.

        Args:
            image: a file, a picture of Pillow, or H x W x 3 uint8 in BGR, as OpenCV and the host
                have it; of a config with a loader of its own, an array as that gives it.
            probabilities: of each class at each pixel as well: in memory, or in this .npy file.

        Raises:
            UserError: it cannot be read, or there is no memory even for windows.
        """
        return self.predict([self.read(image)], [probabilities])[0]

    def predict(
        self, pictures: Sequence[Picture], probabilities: Sequence[bool | Path]
    ) -> list[Prediction]:
        """Predict pictures of one ``shape``, together as far as memory allows."""
        results = [
            Prediction.empty(shown(picture.image), self.classes, each is True)
            for picture, each in zip(pictures, probabilities, strict=True)
        ]
        with ExitStack() as files:
            for result, each in zip(results, probabilities, strict=True):
                if isinstance(each, Path):
                    files.enter_context(result.probabilities_in(each))
            self._fill(pictures, results)
        return [result.numbered() for result in results]

    def _fill(self, pictures: Sequence[Picture], results: Sequence[Prediction]) -> None:
        scored = any(result.probabilities is not None for result in results)
        if scored and self.tta:
            raise UserError("test-time augmentation keeps no scores; ask for no probabilities")
        pixels = pictures[0].pixels
        if self.tta:
            side, together = 0, 1
        else:
            side = self._side(pixels * len(pictures), scored)
            together = side**2 // pixels
        for start in range(0, len(pictures), max(together, 1)):
            some = slice(start, start + max(together, 1))
            if together:
                self._as_a_whole(pictures[some], results[some])
            else:
                self._in_windows(pictures[start], results[start], side)

    def _as_a_whole(self, pictures: Sequence[Picture], results: Sequence[Prediction]) -> None:
        # One batch; with test-time augmentation one of each variant.
        inputs = [list(each) for each in zip(*(p.inputs for p in pictures), strict=True)]
        samples = [list(each) for each in zip(*(p.samples for p in pictures), strict=True)]
        if self.tta:
            found = self._run(dict(inputs=inputs, data_samples=samples))
        else:
            found = self._run(dict(inputs=inputs[0], data_samples=samples[0]))
        for sample, result in zip(found, results, strict=True):
            result.labels[:] = label_array(sample)
            if result.probabilities is not None:
                result.probabilities[:] = class_probabilities(sample.seg_logits.data)

    def _in_windows(self, picture: Picture, result: Prediction, side: int) -> None:
        threshold = getattr(getattr(self.model, "decode_head", None), "threshold", None) or 0.5
        predict_in_windows(
            picture, result, self._one, layouts(self.model), side, threshold, self.progress
        )

    def _one(self, image: Tensor, sample: SegDataSample) -> SegDataSample:
        return self._run(dict(inputs=[image], data_samples=[sample]))[0]

    @torch.no_grad()
    def _run(self, batch: dict) -> list[SegDataSample]:
        return cast(Any, self.model).test_step(batch)

    def _side(self, pixels: int, scored: bool) -> int:
        """Side of the largest square that can be predicted at once; 256 at least, not measured."""
        if pixels <= SMALL:
            return isqrt(SMALL)
        channels = max(CHANNELS, len(self.classes.names))
        weights = max((p.nbytes for p in self.model.parameters()), default=0)
        most = (budget(self.device, self.max_memory) - weights) / HIDDEN
        return min(
            side_within(lambda side: self._peak(side, scored), int(most)),
            isqrt(COUNTABLE // channels),
        )

    def _peak(self, side: int, scored: bool) -> int:
        """Bytes of tensors to predict a square, with the scores if these are read as well."""
        if (side, scored) not in self._peaks:
            size = (side, side)
            sample = SegDataSample(metainfo=dict(img_shape=size, ori_shape=size, pad_shape=size))
            with TensorBytes() as tensors:
                found = self._one(torch.zeros(self.read.channels, *size, dtype=torch.uint8), sample)
                label_array(found)
                if scored:
                    class_probabilities(found.seg_logits.data)
            self._peaks[side, scored] = tensors.peak
        return self._peaks[side, scored]


def _device(name: str | None) -> torch.device:
    try:
        device = torch.device(name or get_device())
        torch.empty(0, device=device)
    # torch's own words for what is not there differ by device and build.
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise UserError(f"--device {name}: {reason}; give cpu, cuda or cuda:1") from error
    return device
