"""Predict with a file of ``fcn-plugin export_onnx``, without PyTorch."""

import json
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np

from fcn_plugin.data.numbering import numbering_of
from fcn_plugin.errors import UserError, quoted, width_by_height
from fcn_plugin.prediction.classes import Classes, palette_of
from fcn_plugin.prediction.cost import HIDDEN, Cost
from fcn_plugin.prediction.photos import Photo, PhotoReader
from fcn_plugin.prediction.pipeline import Pipeline, bytes_for_waiting
from fcn_plugin.prediction.result import INDICES, Prediction
from fcn_plugin.prediction.runtimes import load
from fcn_plugin.system.memory import PIXEL, SMALL, Memory
from fcn_plugin.system.progress import Progress, silent

OTHERWISE = "predict it with the config and the checkpoint, which can do so in windows"
EXPORT_AGAIN = "export it again: fcn-plugin export_onnx CONFIG CHECKPOINT FILE"


class ExportedPredictor:
    """Predicts labels as ``Predictor`` does, of whole images, from an ONNX file.

    Args:
        file: as ``export_onnx`` writes it, with preprocessing.
        backend: the runtime, one of ``RUNTIMES``.
        max_memory: bytes that this process may use; default: what is free.
        progress: called for each frame of a video.

    Attributes:
        classes: of the labels.
        read: reads a picture file, or takes an array [H, W, 3] uint8, BGR.

    Raises:
        UserError: the file cannot be used so, or its runtime is not installed.
    """

    def __init__(
        self,
        file: str | Path,
        backend: str = "onnxruntime",
        max_memory: int | None = None,
        progress: Progress = silent,
    ) -> None:
        self.file, self.backend, self.limit = Path(file), backend, max_memory
        self.progress, self.reserve = progress, 0
        self.runtime = load(self.file, backend)
        told = _settings(self.file, self.runtime.metadata)
        self._check(told)
        self.classes = _classes(self.file, told)
        self.cost, self.threshold = Cost(**told["memory"]), told["threshold"]
        self.scored = self.runtime.output == "scores"
        self.read = PhotoReader(told.get("bits"), told["resizing"])
        self.read.check_size = self._check_size

    def predict(
        self,
        pictures: Sequence[Photo],
        probabilities: Sequence[bool | Path],
        confidence: bool = False,
    ) -> list[Prediction]:
        """Predict pictures of the same ``shape``; as ``Predictor.predict``.

        Raises:
            UserError: scores are asked for that the file does not give, or memory is too short.
        """
        if (confidence or any(probabilities)) and not self.scored:
            raise UserError(
                f"{self.file}: gives labels alone; for probabilities and confidence export it "
                "with --scores"
            )
        size = pictures[0].image.shape[:2]
        results: list[Prediction] = []
        at_once = self._at_once(pictures[0].name, size, len(pictures))
        for start in range(0, len(pictures), at_once):
            batch = slice(start, start + at_once)
            outputs = self._run(pictures[batch])
            for picture, output, wanted in zip(
                pictures[batch], outputs, probabilities[batch], strict=True
            ):
                results.append(self._result(picture, output, wanted, confidence))
        return results

    def pipeline(self, number: int, writers: int) -> Pipeline:
        """Reads and writes beside this predictor; see ``Predictor.pipeline``."""
        self.reserve = bytes_for_waiting(self.limit)
        return Pipeline(self.reserve, number, writers)

    def _run(self, pictures: Sequence[Photo]) -> np.ndarray:
        batch = np.stack([picture.image[..., ::-1] for picture in pictures])
        try:
            return self.runtime.run(batch)
        except Exception as error:  # neither package has a common error class
            size = width_by_height(pictures[0].image.shape)
            raise UserError(
                f"{pictures[0].name}: {self.backend} cannot predict {size} pixels "
                f"({quoted(error)}); {OTHERWISE}"
            ) from error

    def _result(
        self, picture: Photo, output: np.ndarray, wanted: bool | Path, confidence: bool
    ) -> Prediction:
        """The prediction of an output: labels [H, W] or scores [C, H, W]."""
        dtype = np.uint8 if max(self.classes.numbers) < INDICES else np.uint16
        image = picture.image[..., ::-1]
        if not self.scored:
            return Prediction(output.astype(dtype, copy=False), image, self.classes)
        single = len(output) == 1
        if single:
            indices = (_sigmoid(output[0]) > self.threshold).astype(np.uint8)
        else:
            indices = output.argmax(0).astype(np.uint16)
        labels = self.classes.numbering.labels(indices).astype(dtype, copy=False)
        result = Prediction(labels, image, self.classes)
        if confidence or wanted:
            values = _probabilities(output)
            if confidence:
                chosen = np.take_along_axis(values, indices[None].astype(np.intp), 0)[0]
                result.confidence = (255 * chosen).round().astype(np.uint8)
            with ExitStack() as files:
                if isinstance(wanted, Path):
                    files.enter_context(result.probabilities_in(wanted))
                    result.probabilities[:] = values  # type: ignore[index]  # set just now
                elif wanted:
                    result.probabilities = values.astype(np.float16)
        return result

    # --- what fits --------------------------------------------------------------------------------

    def _at_once(self, name: str, size: tuple[int, int], count: int) -> int:
        """How many pictures (H, W) can be predicted at once.

        Raises:
            UserError: not even one.
        """
        fixed = self.runtime.axes[1:3]
        if any(axis not in (None, side) for axis, side in zip(fixed, size, strict=True)):
            raise UserError(
                f"{name}: {width_by_height(size)} pixels, and {self.file} takes "
                f"{width_by_height([axis or 0 for axis in fixed])} only; export it without --size"
            )
        need = self._need(size)
        memory = Memory.of_process()
        left = memory.left(self.limit) - self.reserve
        if left < need:
            label = f"{name}: a picture of {width_by_height(size)} pixels"
            memory.refuse(label, int(need) + self.reserve, self.limit, OTHERWISE)
        return max(min(int(left / need), count), 1)

    def _need(self, size: tuple[int, int]) -> float:
        return HIDDEN * self.cost.bytes(*size)

    def _check_size(self, path: str | Path, size: tuple[int, int]) -> None:
        """Refuse a picture that is too large for the memory left, before it is decoded."""
        width, height = size
        if width * height > SMALL:
            need = PIXEL * width * height + int(self._need((height, width)))
            name = f"{path}: a picture of {width}x{height} pixels"
            Memory.of_process().refuse(name, need + self.reserve, self.limit, OTHERWISE)

    def _check(self, told: dict[str, Any]) -> None:
        """Refuse a file that leaves to the caller what changes labels, or takes no photos."""
        fault = ""
        if told["preprocessing"] != "inside":
            fault = "leaves normalising to the caller; export it without --no-preprocessing"
        elif (self.runtime.dtype, self.runtime.axes[3:]) != ("uint8", (3,)):
            fault = "takes no photos of three bands of 8 bits; predict with the config"
        elif left := [step.get("type") for step in told.get("left_to_caller") or ()]:
            steps = ", ".join(map(str, left))
            fault = f"leaves {steps} to the caller; export it without --no-resize, or predict "
            fault += "with the config and the checkpoint"
        if fault:
            raise UserError(f"{self.file}: {fault}")


def _settings(file: Path, metadata: Any) -> dict[str, Any]:
    """The metadata of a file; texts that are no JSON stay texts."""
    if "made_by" not in metadata:
        raise UserError(f"{file}: was not made by fcn_plugin; {EXPORT_AGAIN}")
    if "memory" not in metadata:
        raise UserError(
            f"{file}: {metadata['made_by']} wrote too little into it to predict by; {EXPORT_AGAIN}"
        )
    told: dict[str, Any] = {}
    for name, text in metadata.items():
        try:
            told[name] = json.loads(text)
        except json.JSONDecodeError:
            told[name] = text
    return told


def _classes(file: Path, told: dict[str, Any]) -> Classes:
    names = told["classes"]
    if not names:
        raise UserError(
            f"{file}: names no classes; set model.dataset_meta before export_onnx, or "
            f"{EXPORT_AGAIN}"
        )
    meta = dict(told, label_map=dict(told["label_map"]))
    numbering = numbering_of(meta, len(names))
    palette = palette_of(told["palette"], None, len(names))
    return Classes(tuple(names), palette, numbering.reduce_zero_label, numbering.label_map)


def _sigmoid(scores: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-scores))


def _probabilities(scores: np.ndarray) -> np.ndarray:
    """[C, H, W] from scores; of a single channel those of classes 0 and 1."""
    if len(scores) == 1:
        second = _sigmoid(scores)
        return np.concatenate((1 - second, second))
    powers = np.exp(scores - scores.max(0))
    powers /= powers.sum(0)
    return powers
