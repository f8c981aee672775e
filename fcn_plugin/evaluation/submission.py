"""Write the predictions of a test set as an archive for its leaderboard."""

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

    A data set with the classes of VOC or ADE20K, in any order, gives an archive for their servers;
    any other gives a zip of index PNGs in its own numbers. Until all samples are predicted the PNGs
    are kept in ``.NAME.spool`` beside the archive, a folder that all processes must share. Any
    number of processes writes the same bytes. If killed, ``file`` is unchanged or complete.

    Args:
        file: the archive, ``.tgz`` or ``.tar.gz`` for VOC, ``.zip`` for ADE20K and all others.
        comp: VOC's competition: 5 if trained on VOC only, 6 (default) if on other data too, such
            as ImageNet or SBD.
        collect_device, prefix: as in mmengine's ``BaseMetric``.

    Raises:
        UserError: before the first sample if the data set, or the name or folder of ``file``, is
            unsuitable; at the end if the archive, read back, is not valid for the server.
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
        """Prepare for a data set; mmengine sets this once per process, before the first sample."""
        BaseMetric.dataset_meta.fset(self, meta)
        classes = meta["classes"]
        # In mmseg's data sets label_map is a dict if a config chooses some of the classes.
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
            if self.spool.exists():  # left by a killed run
                shutil.rmtree(self.spool)
            self.spool.mkdir(parents=True)

    def process(self, data_batch: dict, data_samples: list[dict]) -> None:
        """Save the predictions of a batch, ``pred_sem_seg`` [1, H, W] integers, as PNGs."""
        # A folder per process, because samplers repeat some samples on two processes.
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
        """Write the archive and return {}; an error unless ``size`` images were predicted."""
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
        """No scores, {}."""
        return {}


def spool_of(file: Path) -> Path:
    """The folder for PNGs until the archive is written."""
    return file.with_name(f".{file.name}.spool")


@contextmanager
def _writing(file: Path) -> Iterator[None]:
    """Turn an ``OSError`` into a ``UserError`` of one line with the remedy."""
    try:
        yield
    except OSError as error:
        where = error.filename or file
        raise UserError(
            f"{where}: {error.strerror or error}; {file} was not written, make room, or choose a "
            "folder for it that all processes can write to"
        ) from error
