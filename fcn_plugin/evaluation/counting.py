"""Count the samples of a test, on several processes, and add the counts up."""

from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from mmengine import dist
from torch import Tensor

from fcn_plugin.data.tasks import fields
from fcn_plugin.errors import UserError
from fcn_plugin.evaluation.calibration import calibration_counts, confidence_of
from fcn_plugin.evaluation.measures import NOTHING_MORE, WHOLE, Counts, Measures, stacked
from fcn_plugin.evaluation.scores import class_counts, confusion_matrix
from fcn_plugin.system.machine import available_cores

# Images per check, by device type: reading a count makes the CPU wait for a GPU.
CHECKED_TOGETHER = {"cpu": 1}
CHECKED_TOGETHER_ELSEWHERE = 64
WORKERS = 4  # most threads that measure label maps while the network predicts the next images
WAITING = 2  # most images that wait for each of them, so that memory does not grow

Then = Callable[[np.ndarray | None], None]


class _Waiting(NamedTuple):
    """An image that is counted on the device, and may be measured in the background."""

    number: int
    path: str
    counts: dict[str, Tensor]
    future: Future[Counts] | None


@dataclass(frozen=True)
class Counted:
    """All counts of a test, equal on all processes.

    Attributes:
        total: int64 arrays by their name in ``measures``, and ``matrix``, [C, C].
        paths: of the images in the order of the data set, if they were counted one by one.
        by_image: their counts, [N, ...].
    """

    total: Counts
    paths: list[str]
    by_image: Counts


class Counting:
    """Counts samples as the network predicts them; label maps are measured in the background.

    Each process counts its own samples. One that a distributed sampler repeats to fill the last
    round counts once. Confusions and confidences are counted on the predictions' device. Labels
    outside the classes raise an error: on the CPU at each image, on other devices every 64 images,
    to avoid waiting for the device after each.

    Args:
        num_classes: C; labels are 0 .. C - 1.
        ignore_index: true label that is not counted.
        measures: what is measured beside the confusion matrix.
        by_image: keep the counts of each image, too.
        task: of which labels, see ``fcn_plugin.data.tasks``.
    """

    def __init__(
        self,
        num_classes: int,
        ignore_index: int = 255,
        measures: Measures = NOTHING_MORE,
        by_image: bool = False,
        task: str | None = None,
    ) -> None:
        self.num_classes, self.ignore_index = num_classes, ignore_index
        self.measures, self.by_image, self.task = measures, by_image, task
        self._workers = max(1, min(WORKERS, available_cores() - 1))
        self._pool: ThreadPoolExecutor | None = None
        self.forget()

    def forget(self) -> None:
        """Start anew."""
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)
        self._pool, self._samples = None, 0
        self._unchecked: list[tuple[str, Tensor]] = []
        self._waiting: deque[_Waiting] = deque()
        self._total: dict[str, Tensor] = {}
        self._images: dict[int, tuple[str, dict[str, Tensor]]] = {}  # by their number here

    def skip(self) -> None:
        """Pass over a sample that is not to be scored."""
        self._samples += 1

    def add(self, sample: dict, then: Then | None = None) -> None:
        """Count a sample.

        Args:
            sample: ``gt_sem_seg`` and ``pred_sem_seg``, integers [1, H, W], or those of the task;
                for the measure 'confidence' also the scores.
            then: called in the background with the kind of each pixel's error, [H, W], see
                ``error_kinds``; None if these are not measured.

        Raises:
            UserError: a sample has no label or one of another size than the prediction, or labels
                are outside the classes (raised up to 64 samples later, or by ``finish``).
        """
        path = sample.get("img_path", "an image without img_path")
        truth, prediction = label_maps(sample, path, self.task)
        matrix = confusion_matrix(truth, prediction, self.num_classes, self.ignore_index)
        self._check_later(path, matrix)
        matrix = matrix[: self.num_classes, : self.num_classes]
        counts = {"matrix": matrix}
        if self.by_image:
            counts["regions"] = class_counts(matrix)
        if "confidence" in self.measures:
            confidence = confidence_of(sample, self.task)
            labels = truth, prediction, confidence, self.num_classes, self.ignore_index
            counts["confidence_by_class"] = by_class = calibration_counts(*labels)
            counts["confidence"] = by_class.sum(1)
        future = None
        if then or self.measures.of_label_maps:
            self._pool = self._pool or ThreadPoolExecutor(self._workers)
            # Bytes are several times faster than the network's int64. They are made here: torch
            # would start threads of its own for each thread in the background.
            void, dtype = (255, torch.uint8) if self.num_classes <= 255 else (-1, torch.int32)
            truth = truth.masked_fill(truth == self.ignore_index, void)
            maps = [labels.to(dtype) for labels in (truth, prediction)]
            future = self._pool.submit(self._measure, maps, then)
        self._waiting.append(_Waiting(self._samples, path, counts, future))
        self._samples += 1
        while len(self._waiting) > (1 if future is None else self._workers * WAITING):
            self._take(self._waiting.popleft())

    def _measure(self, maps: list[Tensor], then: Then | None) -> Counts:
        truth, prediction = (labels.cpu().numpy() for labels in maps)
        counts, kinds = self.measures.of_maps(truth, prediction, self.num_classes)
        if then:
            then(kinds)
        return counts

    def _take(self, image: _Waiting) -> None:
        counts = dict(image.counts)
        if image.future is not None:
            try:
                measured = image.future.result()
            except BaseException:
                self.forget()  # the next evaluation starts from zero
                raise
            counts |= {name: torch.from_numpy(each) for name, each in measured.items()}
        for name, each in counts.items():
            self._total[name] = self._total[name] + each if name in self._total else each
        if self.by_image:
            kept = {name: each for name, each in counts.items() if name not in WHOLE}
            self._images[image.number] = image.path, kept

    def _check_later(self, path: str, matrix: Tensor) -> None:
        classes = self.num_classes
        outside = torch.stack((matrix[classes].sum(), matrix[:, classes].sum()))
        self._unchecked.append((path, outside))
        together = CHECKED_TOGETHER.get(matrix.device.type, CHECKED_TOGETHER_ELSEWHERE)
        if len(self._unchecked) >= together:
            self._refuse_illegal()

    def _refuse_illegal(self) -> None:
        """Check all unchecked images with one transfer from the device."""
        if not self._unchecked:
            return
        paths, outside = zip(*self._unchecked, strict=True)
        self._unchecked = []
        for path, (truth, prediction) in zip(paths, torch.stack(outside).tolist(), strict=True):
            if truth or prediction:
                self.forget()  # the next evaluation starts from zero
            if truth:
                raise UserError(
                    f"{path}: {truth} pixels of its label are neither one of the "
                    f"{self.num_classes} classes nor ignored; check the label file and the data "
                    "set's classes"
                )
            if prediction:
                raise UserError(
                    f"{path}: {prediction} pixels are predicted outside the {self.num_classes} "
                    "classes of the data set; set the decode head's num_classes to the data set's"
                )

    def finish(self, size: int) -> Counted:
        """The counts of a data set of ``size`` samples over all processes; starts anew.

        Each process waits for the others, even one without samples.

        Raises:
            UserError: labels are outside the classes, or the sampler distributed the samples in
                an unknown way, so that repeated ones cannot be found.
        """
        self._refuse_illegal()
        repeated = self._last_is_repeated(size)
        while self._waiting:
            image = self._waiting.popleft()
            if not (repeated and image.number == self._samples - 1):
                self._take(image)
        images = self._all_images(size) if self.by_image else {}
        # gloo adds the memory of a tensor, whatever its strides: a view would be summed wrongly.
        total = {
            name: self._total.get(name, none).contiguous() for name, none in self._nothing().items()
        }
        self.forget()
        for counts in total.values():
            dist.all_reduce(counts)
        summed = {name: counts.cpu().numpy() for name, counts in total.items()}
        summed["regions"] = class_counts(summed["matrix"])
        if "confidence" in self.measures:
            summed["confidence"] = summed["confidence_by_class"].sum(1)
        ordered = [images[place] for place in sorted(images)]
        return Counted(summed, [path for path, _ in ordered], stacked([c for _, c in ordered]))

    def _nothing(self) -> dict[str, Tensor]:
        """What is summed over the processes, of an image without pixels."""
        none, classes = np.zeros((0, 0), np.uint8), self.num_classes
        counts = {"matrix": torch.zeros(classes, classes, dtype=torch.int64)}
        if "confidence" in self.measures:
            labels = torch.zeros(0, 0, dtype=torch.int64)
            empty = labels, labels, labels.float(), classes, self.ignore_index
            counts["confidence_by_class"] = calibration_counts(*empty)
        measured, _ = self.measures.of_maps(none, none, classes)
        return counts | {name: torch.from_numpy(each) for name, each in measured.items()}

    def _last_is_repeated(self, size: int) -> bool:
        """Whether another process has counted this process's last sample, too.

        The distributed samplers of torch and mmengine deal samples out in turn and fill the last
        round from the start of the data set: 5 samples on 3 processes are 0 3, 1 4, 2 0.
        """
        world = dist.get_world_size()
        if world == 1:
            return False
        dealt = [int(n) for n in dist.all_gather(torch.tensor(self._samples))]
        repeated = sum(dealt) - size
        if repeated <= 0:
            return False
        if repeated >= world or len(set(dealt)) > 1:
            raise UserError(
                f"the processes scored {dealt} samples of a data set of {size}; use "
                "DefaultSampler with shuffle=False in val_dataloader and test_dataloader"
            )
        return dist.get_rank() >= world - repeated

    def _all_images(self, size: int) -> dict[int, tuple[str, Counts]]:
        """Path and counts of each image by its place in the data set, the same on all processes."""
        world, rank = dist.get_world_size(), dist.get_rank()
        own = {}
        if self._images:
            paths, tensors = zip(*self._images.values(), strict=True)
            # One transfer from the device for each name.
            counts = {
                n: torch.stack([each[n] for each in tensors]).cpu().numpy() for n in tensors[0]
            }
            by_image = ({name: each[i] for name, each in counts.items()} for i in range(len(paths)))
            places = (number * world + rank for number in self._images)
            own = dict(zip(places, zip(paths, by_image, strict=True), strict=True))
        parts = dist.all_gather_object(own)
        return {place: image for part in parts for place, image in part.items() if place < size}


def label_maps(sample: dict, path: str, task: str | None) -> tuple[Tensor, Tensor]:
    """The true and the predicted labels of a sample, [H, W], on the prediction's device.

    Raises:
        UserError: it lacks one of them, or they differ in size.
    """
    names = fields(task)
    if names.prediction not in sample:
        raise UserError(
            f"{path}: the network predicts no such task as {task!r}, which is to be scored; add it "
            "to model.task_heads, or take the metric out"
        )
    if names.truth not in sample:
        raise UserError(
            f"{path}: no label to score against; add the label, or give --out (output_dir) to "
            "write the predictions of images without labels"
        )
    truth, prediction = (sample[key]["data"].squeeze(0) for key in (names.truth, names.prediction))
    if truth.shape != prediction.shape:
        raise UserError(
            f"{path}: label is {tuple(truth.shape)}, prediction {tuple(prediction.shape)}; load "
            "the label after the resizing steps of the test pipeline"
        )
    # Only to the GPU: a non-blocking copy to the CPU may be read before it is finished.
    return truth.to(prediction.device, non_blocking=prediction.is_cuda), prediction
