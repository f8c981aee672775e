"""Curves of evaluation without the network, on tiny images."""

from collections.abc import Callable
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import torch
from mmseg.datasets import PascalVOCDataset
from mmseg.structures import SegDataSample

from fcn_plugin.evaluation.measures import MEASURES
from fcn_plugin.evaluation.metric import ConfusionMatrixMetric
from fcn_plugin.models.segmentor import add_predictions
from figures.evaluation import image, scoring
from figures.growth.curve import Curve, Setting
from figures.scores import coarse_scores
from figures.steps import sample

SIDE = 32
IMAGES = (10, 30, 100, 300, 1_000, 3_000, 10_000, 30_000, 100_000)
PROCESSES = (1, 2, 3, 4)
SHARED, FEW = 2_000, 20  # images that processes share; the latter if quick
DIFFERENT = 20


def shared(setting: Setting) -> int:
    return FEW if setting.quick else SHARED


def predicted() -> list[SegDataSample]:
    generator = torch.Generator().manual_seed(0)
    pairs = [image(SIDE, SIDE, generator) for _ in range(DIFFERENT)]
    return [
        one
        for scores, truth in pairs
        for one in add_predictions(coarse_scores(scores, truth.shape), [sample(truth)])
    ]


def evaluation(options: dict[str, Any], images: int, setting: Setting) -> Callable[[], object]:
    """mmseg's evaluation loop with our metric; each image has its own path."""
    samples = predicted()

    def predict(number: int) -> list[SegDataSample]:
        one = samples[number % DIFFERENT]
        one.set_metainfo(dict(img_path=f"{number}.png"))
        return [one]

    return scoring(ConfusionMatrixMetric(**options), range(images), predict)


def by_processes(processes: int, setting: Setting) -> Callable[[], object]:
    """The same shared by processes, which start, count and add up; with intervals."""
    calls = iter(range(1000))

    def call() -> None:
        store = setting.folder / f"store-{next(calls)}"
        context = get_context("fork")
        parts = [
            context.Process(target=_part, args=(rank, processes, store, shared(setting)))
            for rank in range(processes)
        ]
        for part in parts:
            part.start()
        for part in parts:
            part.join()
        if any(part.exitcode for part in parts):
            raise ValueError("a process of the evaluation failed; its error is above")

    return call


def _part(rank: int, processes: int, store: Path, images: int) -> None:
    torch.set_num_threads(1)
    torch.distributed.init_process_group("gloo", f"file://{store}", rank=rank, world_size=processes)
    metric = ConfusionMatrixMetric(interval="image")
    metric.dataset_meta = PascalVOCDataset.METAINFO
    samples = [one.to_dict() for one in predicted()]
    for number in range(rank, images, processes):
        metric.process({}, [samples[number % DIFFERENT] | dict(img_path=f"{number}.png")])
    metric.evaluate(images)
    torch.distributed.destroy_process_group()


METRICS = {
    "evaluate": {},
    "evaluate intervals": dict(interval="image"),
    "evaluate measures": dict(measures=[*MEASURES]),
}
CURVES = [
    *(
        Curve(name, "evaluation", "images", IMAGES, partial(evaluation, options))
        for name, options in METRICS.items()
    ),
    Curve("evaluate processes", "processes", "processes", PROCESSES, by_processes),
]
