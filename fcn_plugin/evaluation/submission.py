"""The predictions of a test set as an archive for its leaderboard."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from mmengine import dist
from mmengine.evaluator import BaseMetric
from mmengine.logging import MMLogger
from mmseg.registry import METRICS

from fcn_plugin.data.labels import save_labels
from fcn_plugin.data.numbering import numbering_of
from fcn_plugin.errors import UserError
from fcn_plugin.evaluation.leaderboards import choose_comp, leaderboard_of
from fcn_plugin.evaluation.submission_archive import write_submission
from fcn_plugin.system.ranks import on_first_process


@METRICS.register_module()
class SubmissionMetric(BaseMetric):
    """Writes the predictions of a test set as an archive for its leaderboard; scores nothing.

    With the classes of VOC or ADE20K, in any order, it is what their servers take; for any other
    data set a zip of index PNGs in its own numbers. Until all samples are predicted the PNGs wait
    in the folder ``.NAME.spool`` beside the archive; all processes have to see it. One process and
    many write the same bytes. Killed at any moment, ``file`` is as it was, or whole.

    Args:
        file: the archive, ``.tgz`` or ``.tar.gz`` for VOC, ``.zip`` for ADE20K and all others.
        comp: VOC's competition: 5, trained on VOC only, or 6 (default), on other data too, such
            as ImageNet or SBD.
        collect_device, prefix: as for every metric of mmengine.

    Raises:
        UserError: before the first sample if the data set, the name or the folder of ``file`` will
            not do; in the end if the archive, read back, is not what the server wants.
    """

    default_prefix = ""  # None would make mmengine warn

    def __init__(
        self,
        file: str,
        comp: int | None = None,
        collect_device: str = "cpu",
        prefix: str | None = None,
    ) -> None:
        super().__init__(collect_device, prefix)
        self.file = Path(file)
        self.comp = comp

    @BaseMetric.dataset_meta.setter
    def dataset_meta(self, meta: dict) -> None:
        """mmengine sets it in every process, once, before the first sample."""
        self._dataset_meta = meta
        classes = meta["classes"]
        # mmseg's data sets, of which a config takes some classes, have a map of them.
        own = meta.get("label_map", {}) is None
        self.board = leaderboard_of(classes, meta.get("palette"), own, numbering_of(meta))
        self.comp = choose_comp(self.board, self.file, self.comp)
        number_of = dict(zip(self.board.classes, self.board.numbers, strict=True))
        self.numbers = np.array([number_of[name] for name in classes], np.uint8)
        self.spool = spool_of(self.file)
        on_first_process(self._make_spool)

    def _make_spool(self) -> None:
        if self.file.is_dir():
            raise UserError(f"{self.file}: a folder; give the archive another name")
        with _writing(self.file):
            if self.spool.exists():  # of a run that was killed
                shutil.rmtree(self.spool)
            self.spool.mkdir(parents=True)

    def process(self, data_batch: dict, data_samples: list[dict]) -> None:
        """Keep the predictions of a batch, ``pred_sem_seg`` of 1 x H x W integers, as PNGs."""
        # Each process has a folder, as samplers repeat some samples on two of them.
        folder = self.spool / str(dist.get_rank())
        for sample in data_samples:
            image = sample["img_path"]
            labels = sample["pred_sem_seg"]["data"].squeeze(0).cpu().numpy()
            if labels.max() >= len(self.numbers):
                raise UserError(
                    f"{image}: predicted outside the {len(self.numbers)} classes of the data set; "
                    "set the decode head's num_classes to the data set's"
                )
            png = folder / f"{Path(image).stem}.png"
            with _writing(self.file):
                save_labels(self.numbers[labels], png, self.board.palette)
            self.results.append((image, png))

    def evaluate(self, size: int) -> dict[str, float]:
        """Write the archive, if the images are the ``size`` of the data set; scores nothing."""
        gathered = dist.all_gather_object(self.results)
        predictions = {image: png for part in gathered for image, png in part}
        self.results.clear()
        on_first_process(lambda: self._write(predictions, size))
        return {}

    def _write(self, predictions: dict[str, Path], size: int) -> None:
        try:
            if len(predictions) != size:
                raise UserError(
                    f"{self.file}: not written, {len(predictions)} images are predicted and the "
                    f"data set has {size}; take repeated lines out of its list"
                )
            with _writing(self.file):
                line = write_submission(self.file, self.board, self.comp, predictions)
        finally:
            shutil.rmtree(self.spool, ignore_errors=True)
        logger = MMLogger.get_current_instance()
        logger.info("%s", line)
        if self.board.images not in (None, size):
            logger.warning(
                "%s is a rehearsal only: the server wants the %s images of its test list, and "
                "these are %s",
                *(self.file, f"{self.board.images:,}", f"{size:,}"),
            )

    def compute_metrics(self, results: list) -> dict[str, float]:
        """None."""
        return {}


def spool_of(file: Path) -> Path:
    """The folder where predictions wait for the last one."""
    return file.with_name(f".{file.name}.spool")


@contextmanager
def _writing(file: Path) -> Iterator[None]:
    """Turn what the disk refuses into one line with the remedy."""
    try:
        yield
    except OSError as error:
        where = error.filename or file
        raise UserError(
            f"{where}: {error.strerror or error}; {file} was not written, make room, or choose a "
            "folder for it that all processes can write to"
        ) from error
