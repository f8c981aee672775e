"""Figure of VOC's training loader: pictures a second by the number of its workers.

The loader is the one that the runner builds for a training, with its order, its collate function
and its workers, and the files are those of the figure "input pipeline VOC".
"""

import tempfile
import time
from pathlib import Path
from statistics import median

from mmengine.config import Config
from mmengine.registry import DefaultScope
from mmengine.runner import Runner

from fcn_plugin.engine.train_loop import placed
from figures.framework import Figure, Result, Row, Setting, quartiles
from figures.pipeline import DATASETS, IMAGES, one_core, voc_picture, write

WORKERS = (0, 1, 2, 3, 4)
BATCHES, PREFETCHED = 12, 2  # batches to time; PyTorch's of each worker, read ahead


def workers(setting: Setting, repeats: int) -> Result:
    """Pictures a second for each number of workers, which alternate."""
    counts, images = (WORKERS[:2], 2) if setting.quick else (WORKERS, IMAGES)
    rates: dict[int, list[float]] = {count: [] for count in counts}
    with tempfile.TemporaryDirectory(prefix="workers") as folder:
        loader = voc_loader(Path(folder), images)
        if setting.quick:
            loader["batch_size"] = images
        for _ in range(repeats):
            for count in counts:
                rates[count].append(rate(loader, count))
    alone = rates[0]
    rows = (
        Row(
            f"workers: {count}, rate",
            median(taken),
            "/s",
            median(alone),
            (quartiles(taken), quartiles(alone)),
        )
        for count, taken in rates.items()
    )
    return Result(tuple(rows))


def voc_loader(folder: Path, images: int) -> dict:
    """The config of VOC's training loader, on files written to ``folder``."""
    for index in range(images):
        write(folder, index, voc_picture(index))
    (folder / "train.txt").write_text("\n".join(map(str, range(images))))
    loader = Config.fromfile(DATASETS / "voc2012.py").train_dataloader
    here = dict(img_path="", seg_map_path="")
    loader.dataset.update(data_root=str(folder), data_prefix=here, ann_file="train.txt")
    return loader.to_dict()


def rate(loader: dict, workers: int) -> float:
    """Pictures a second of a loader with so many workers, once all of them are at work."""
    loader = dict(loader, num_workers=workers, persistent_workers=workers > 0)
    with one_core(), DefaultScope.overwrite_default_scope("mmseg"):
        batches = Runner.build_dataloader(placed(loader, seed=0), seed=0)
        batches.batch_sampler.begin = 0
        stream = iter(batches)
        for _ in range(1 + PREFETCHED * workers):
            next(stream)
        start = time.perf_counter()
        for _ in range(BATCHES):
            next(stream)
        return BATCHES * loader["batch_size"] / (time.perf_counter() - start)


FIGURES = [Figure("workers", "pipeline", "the same loader without workers", reading=workers)]
