"""Predict the labels of images: whole, in batches, or in windows if memory is short."""

from collections.abc import Sequence
from contextlib import ExitStack
from math import inf
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

from fcn_plugin.data.display import Shown, shown
from fcn_plugin.engine.resuming import find_checkpoint
from fcn_plugin.errors import UserError
from fcn_plugin.models.segmentor import final_head
from fcn_plugin.models.tta import check_tta
from fcn_plugin.prediction.memory import Budget, memory_of
from fcn_plugin.prediction.network import image_channels, load_network
from fcn_plugin.prediction.pipeline import Pipeline, bytes_for_waiting
from fcn_plugin.prediction.reading import Picture, Reader
from fcn_plugin.prediction.result import Prediction
from fcn_plugin.prediction.windows import (
    Window,
    class_probabilities,
    label_array,
    layouts,
    predict_in_windows,
    put,
)
from fcn_plugin.system.configs import config_file, pipeline_of
from fcn_plugin.system.memory import Memory, check_picture, peak_resident
from fcn_plugin.system.progress import Progress, silent
from fcn_plugin.weights.mapped import MappedFile

# Batches of at most this many pixels are predicted whole, without measuring memory.
SMALL = 256 * 256


class Predictor:
    """Predicts the labels of any image with a trained network.

    Images go through the config's test pipeline, as in ``fcn-plugin test``; labels have the size of
    the image. An image that needs more memory than there is is predicted in windows.

    Args:
        config: a config file, the name of a shipped one (``config_file``), or a loaded config.
        checkpoint: a file, its address, or a work dir (its best checkpoint, else its last).
        device: e.g. 'cpu' or 'cuda:1'; default: a GPU if there is one.
        max_memory: bytes that this process may use on the device. Default: the free memory
            without a reserve.
        tta: test-time augmentation by the config's ``tta_pipeline`` and ``tta_model``; images are
            then always predicted whole.
        task: of a network with ``task_heads`` the one to predict; default: the main one.
        progress: called for each window of an image that is predicted in windows.

    Raises:
        UserError: config and checkpoint do not fit each other, or one is unusable.
    """

    def __init__(
        self,
        config: str | Path | Config,
        checkpoint: str | Path,
        device: str | None = None,
        max_memory: int | None = None,
        tta: bool = False,
        progress: Progress = silent,
        task: str | None = None,
    ) -> None:
        cfg = config if isinstance(config, Config) else Config.fromfile(config_file(config))
        if tta:
            check_tta(cfg)
        init_default_scope(cfg.get("default_scope", "mmseg"))
        self.device, self.tta, self.progress = _device(device), tta, progress
        peak = peak_resident()
        file = find_checkpoint(checkpoint)
        self._mapped = MappedFile(file)
        self.model, self.classes = load_network(cfg, file, self.device, tta, task)
        steps = cfg.tta_pipeline if tta else pipeline_of(cfg.test_dataloader.dataset)
        network: Any = self.model.module if tta else self.model
        self.read = Reader(steps, image_channels(network))
        self.layouts = layouts(self.model)
        self.smallest = max(layout.smallest for layout in self.layouts)
        self.budget = Budget(self.model, self._predict_square, self.device, max_memory)
        self.read.check_size = self._check_size
        self._check_network(file, peak)

    def __call__(
        self,
        image: str | Path | np.ndarray | Image.Image,
        probabilities: bool | Path = False,
        confidence: bool = False,
    ) -> Prediction:
        """Predict one image.

        Args:
            image: a file, a Pillow image, or an array H x W x 3, uint8, BGR, as OpenCV and mmseg
                use it; if the config has its own loader, an array as that loader returns it.
            probabilities: also return the probability of each class at each pixel: True in
                memory, a path in this .npy file.
            confidence: also return the probability of the label of each pixel.

        Raises:
            UserError: the image cannot be read, or memory is too short even for windows.
        """
        return self.predict([self.read(image)], [probabilities], confidence)[0]

    def predict(
        self,
        pictures: Sequence[Picture],
        probabilities: Sequence[bool | Path],
        confidence: bool = False,
    ) -> list[Prediction]:
        """Predict pictures of the same ``shape``, in batches as large as memory allows."""
        results = [
            Prediction.empty(self.shown(picture.image), self.classes, wanted is True, confidence)
            for picture, wanted in zip(pictures, probabilities, strict=True)
        ]
        with ExitStack() as files:
            for result, wanted in zip(results, probabilities, strict=True):
                if isinstance(wanted, Path):
                    files.enter_context(result.probabilities_in(wanted))
            self._fill(pictures, results)
        return [result.numbered() for result in results]

    def pipeline(self, number: int, writers: int) -> Pipeline:
        """Reads and writes beside this predictor, which leaves a part of memory to that."""
        on_gpu = self.device.type == "cuda"
        most = bytes_for_waiting(None if on_gpu else self.budget.limit)
        self.budget.reserve = 0 if on_gpu else most
        return Pipeline(most, number, writers, on_gpu)

    def shown(self, image: np.ndarray) -> Shown:
        """A viewable picture of an image as the config's loader gives it."""
        return shown(image, self.read.display_bands)

    def _fill(self, pictures: Sequence[Picture], results: Sequence[Prediction]) -> None:
        scored = any(result.scored for result in results)
        if scored and self.tta:
            raise UserError(
                "test-time augmentation keeps no scores; ask for no probabilities or confidence"
            )
        at_once = 1 if self.tta else self._batch_size(pictures[0], results, scored)
        for start in range(0, len(pictures), max(at_once, 1)):
            batch = slice(start, start + max(at_once, 1))
            if at_once:
                self._as_a_whole(pictures[batch], results[batch])
            else:
                self.in_windows(pictures[start], results[start])

    def _as_a_whole(self, pictures: Sequence[Picture], results: Sequence[Prediction]) -> None:
        # One batch, or with test-time augmentation one batch per view.
        inputs = [list(view) for view in zip(*(p.inputs for p in pictures), strict=True)]
        samples = [list(view) for view in zip(*(p.samples for p in pictures), strict=True)]
        predicted = self._run(inputs, samples) if self.tta else self._run(inputs[0], samples[0])
        for sample, result in zip(predicted, results, strict=True):
            put(sample, [Window(0, size, 0, size) for size in result.labels.shape], result)

    def in_windows(self, picture: Picture, result: Prediction, most: float = inf) -> None:
        """Fill ``result`` with class indices, and what else it has, window by window.

        Args:
            most: pixels of a window, if memory allows as many.

        Raises:
            UserError: memory is too short even for the smallest windows.
        """
        (rows, cols), input_size = picture.sizes
        # If the pipeline made the image smaller, its scores are enlarged again.
        enlarged = max(rows / input_size[0], 1) * max(cols / input_size[1], 1)
        scored = result.scored or input_size != (rows, cols)
        cost, held = self.budget.cost(scored), _unfilled([result])
        least = cost.area(self.smallest, self.smallest)
        area = min(cost.area_within(self.budget.left(held)) / enlarged, most)
        if area < least:
            name = f"{picture.samples[0].img_path}: a picture of {cols}x{rows} pixels"
            need = int(self.budget.need(self.smallest, scored) * enlarged) + held
            memory_of(self.device).refuse(name, need, self.budget.limit)
        threshold = getattr(final_head(self.model), "threshold", None)
        predict_in_windows(
            picture,
            result,
            self._one,
            self.layouts,
            cost.window(*input_size, max(area, least)),
            0.5 if threshold is None else threshold,
            self.progress,
        )

    def _one(self, image: Tensor, sample: SegDataSample) -> SegDataSample:
        return self._run([image], [sample])[0]

    @torch.no_grad()
    def _run(self, inputs: list, samples: list) -> list[SegDataSample]:
        if self.device.type == "cpu":
            self._mapped.check()
        return cast(Any, self.model).test_step(dict(inputs=inputs, data_samples=samples))

    def _batch_size(self, picture: Picture, results: Sequence[Prediction], scored: bool) -> int:
        """How many pictures of this shape fit in memory at once; 0 if not even one."""
        if len(results) * max(rows * cols for rows, cols in picture.sizes) <= SMALL:
            return len(results)
        cost = self.budget.cost(scored)
        area = cost.area_within(self.budget.left(_unfilled(results)))
        return int(area / max(cost.area(*size) for size in picture.sizes))

    def _predict_square(self, side: int, scored: bool) -> None:
        """Predict a black square image, to measure its memory."""
        size = (side, side)
        sample = SegDataSample(metainfo=dict(img_shape=size, ori_shape=size, pad_shape=size))
        predicted = self._one(torch.zeros(self.read.channels, *size, dtype=torch.uint8), sample)
        label_array(predicted)
        if scored:
            class_probabilities(predicted.seg_logits.data)

    def _check_network(self, file: Path, peak: int) -> None:
        """Refuse a memory limit that loading or running the network alone exceeds."""
        limit = self.budget.limit
        if limit is not None and self.device.type != "cuda":
            memory = Memory.of_process()
            loading = memory.peak - memory.used if memory.peak > peak else 0
            need = max(loading, self._least())
            memory.refuse(f"{file}: the network", need, limit, "take a smaller network")

    def _check_size(self, path: str | Path, size: tuple[int, int]) -> None:
        """Refuse a picture that is too large for the memory left, before it is decoded."""
        limits = () if self.device.type == "cuda" else (self.budget.limit, self._least)
        check_picture(path, size, *limits)

    def _least(self) -> int:
        """Bytes needed for the smallest windows."""
        return 0 if self.tta else self.budget.need(self.smallest)


def _unfilled(results: Sequence[Prediction]) -> int:
    """Bytes of the empty result arrays in memory: the system counts them once they are filled."""
    arrays = (a for r in results for a in (r.labels, r.probabilities, r.confidence))
    return sum(a.nbytes for a in arrays if a is not None and not isinstance(a, np.memmap))


def _device(name: str | None) -> torch.device:
    try:
        device = torch.device(name or get_device())
        torch.empty(0, device=device)
    # torch raises different errors for a missing device, by device and build.
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise UserError(f"--device {name}: {reason}; give cpu, cuda or cuda:1") from error
    return device
