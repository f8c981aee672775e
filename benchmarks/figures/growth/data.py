"""Curves of fcn-plugin score and fcn-plugin prepare_data own, on folders of tiny images.

The tools run in the process that is measured. Its memory is without that of workers.
"""

import os
import sys
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout
from functools import partial
from importlib import import_module
from pathlib import Path
from unittest import mock

import cv2
import numpy as np

from figures.growth.counting import IMAGES, PROCESSES, shared
from figures.growth.curve import Curve, Setting

SIDE, CLASSES = 16, 21
LABELS = 4  # that occur
CORES = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []


def pictures(folder: Path, number: int, channels: int, seed: int) -> Path:
    """A new folder of PNGs of few colours, or of labels of the first classes."""
    folder.mkdir(parents=True)
    chance = np.random.default_rng(seed)
    most = 256 if channels == 3 else LABELS
    for name in range(number):
        cells = chance.integers(0, most, (SIDE // 4, SIDE // 4, channels), np.uint8)
        cv2.imwrite(str(folder / f"{name:06}.png"), cells.repeat(4, 0).repeat(4, 1))
    return folder


def tool(name: str, *words: object) -> None:
    """Run a tool in this process, without its output."""
    argv = [name, *map(str, words)]
    with (
        open(os.devnull, "w") as nothing,
        redirect_stdout(nothing),
        redirect_stderr(nothing),
        mock.patch.object(sys, "argv", argv),
    ):
        import_module(name).main()


def score(options: tuple[object, ...], images: int, setting: Setting) -> Callable[[], object]:
    truth, prediction = (
        pictures(setting.folder / name, images, 1, seed)
        for seed, name in enumerate(("truth", "pred"))
    )
    folders = "--truth", truth, "--pred", prediction, "--protocol", "voc"
    return partial(tool, "score", *folders, "--num-classes", CLASSES, *options)


def score_processes(processes: int, setting: Setting) -> Callable[[], object]:
    return score(("--jobs", processes), shared(setting), setting)


def own(images: int, setting: Setting) -> Callable[[], object]:
    source = setting.folder / "source"
    pictures(source / "images", images, 3, 0)
    pictures(source / "masks", images, 1, 1)
    (source / "classes.txt").write_text("".join(f"class {n}\n" for n in range(LABELS)))
    roots = (setting.folder / f"made-{number}" for number in range(1000))
    return lambda: tool("prepare_data", "own", source, "--root", next(roots))


def own_processes(processes: int, setting: Setting) -> Callable[[], object]:
    """On as many of the cores as there are processes, since it takes one of each."""
    os.sched_setaffinity(0, CORES[:processes])
    return own(shared(setting), setting)


OPTIONS = {
    "score": (),
    "score intervals": ("--interval",),
    "score measures": ("--measures", "all"),
}
CURVES = [
    *(
        Curve(name, "scoring", "images", IMAGES, partial(score, (*options, "--jobs", 1)))
        for name, options in OPTIONS.items()
    ),
    Curve("prepare own", "prepare", "images", IMAGES, own),
    Curve("score processes", "processes", "processes", PROCESSES, score_processes),
    Curve("prepare processes", "processes", "processes", PROCESSES[: len(CORES)], own_processes),
]
