"""Evaluations and runs made up for the tests, and what a page is looked at with."""

import re
from html.parser import HTMLParser
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import torch
from mmengine.config import Config
from mmengine.structures import PixelData
from mmseg.structures import SegDataSample
from PIL import Image

from fcn_plugin.evaluation.metric import ConfusionMatrixMetric
from fcn_plugin.report.hook import EvaluationHook
from fcn_plugin.report.logs import Training
from fcn_plugin.report.run import Run

SIZE = (24, 36)
NAMES = ["a", "b", "c"]
COUNT = 7  # odd, so that two processes have to repeat one
EMPTY = {"br", "img", "input", "link", "meta"}


def samples(folder: Path, count: int, classes: int, seed: int = 0) -> list[SegDataSample]:
    """Of random images and labels, some void and the last one all of it; they go by their names."""
    folder.mkdir(parents=True, exist_ok=True)
    found = []
    for i in range(count):
        chance = np.random.default_rng([seed, i])
        path = folder / f"{i}.png"
        Image.fromarray(chance.integers(0, 256, (*SIZE, 3), dtype=np.uint8)).save(path)
        truth = chance.integers(0, classes, SIZE)
        guess = np.where(chance.random(SIZE) < i / count, truth, chance.integers(0, classes, SIZE))
        truth[chance.random(SIZE) < (1.0 if i == count - 1 else 0.1)] = 255
        sample = SegDataSample(metainfo=dict(img_path=str(path)))
        sample.gt_sem_seg = PixelData(data=torch.from_numpy(truth)[None])
        sample.pred_sem_seg = PixelData(data=torch.from_numpy(guess)[None])
        scores = torch.nn.functional.one_hot(sample.pred_sem_seg.data[0], classes).movedim(-1, 0)
        sample.seg_logits = PixelData(data=scores * torch.from_numpy(chance.random((1, *SIZE))))
        found.append(sample)
    return found


class Images(list):
    """A data set as far as the hook asks: its length and its classes."""

    def __init__(self, items: list, names: list[str]) -> None:
        super().__init__(items)
        palette = np.random.default_rng(1).integers(0, 256, (len(names), 3)).tolist()
        self.metainfo = dict(classes=tuple(names), palette=palette)


def keep(hook: EvaluationHook, images: Images, dealt: list, absent: str = "skip") -> dict:
    """Scores and intervals of a test of ``images``; this process is ``dealt`` some of them."""
    metric = ConfusionMatrixMetric(absent=absent, interval="image")
    metric.dataset_meta = images.metainfo
    dataset = dict(type="ShapesDataset", ann_file="val.txt")
    cfg = Config(dict(load_from="none.pth", test_dataloader=dict(dataset=dataset)))
    runner = SimpleNamespace(
        test_dataloader=SimpleNamespace(dataset=images),
        test_evaluator=SimpleNamespace(metrics=[metric]),
        cfg=cfg,
        model=torch.nn.Linear(1, 1),
    )
    hook.before_test(runner)
    for i, sample in enumerate(dealt):
        metric.process({}, [sample.to_dict()])
        hook.after_test_iter(runner, i, None, [sample])
    scores = metric.evaluate(len(images))
    hook.after_test_epoch(runner, scores)
    return scores


def made_up_run(name: str = "one", **settings: object) -> Run:
    """With curves, without an evaluation."""
    training = Training(
        train={step: dict(loss=1 / step, lr=0.1) for step in range(10, 110, 10)},
        val={50: dict(mIoU=30.5, aAcc=60.0), 100: dict(mIoU=40.25, aAcc=70.0)},
        sessions=2,
        seconds=3700,
        environment=dict(Python="3.11.7"),
    )
    return Run(name, Config(dict(train_cfg=dict(max_iters=100), **settings)), training)


class Page(HTMLParser):
    """A page taken apart.

    Attributes:
        faults: tags not closed, ids twice, links to elsewhere, images without a text, headers
            without a scope, headings that skip a level or none of the first, regions of one name,
            controls and places to scroll without a name.
        numbers: the values of its <data> elements.
        text: all text that is shown.
        sources, charts: the pictures, and those of them that are curves.
    """

    def __init__(self, html: str) -> None:
        super().__init__()
        self.faults, self.tags, self.sources, self._open = [], [], [], []
        self.numbers, self.text, self._ids = [], "", set()
        self._level, self._regions = 0, []
        self.feed(html)
        self.close()
        self.faults += [f"{tag} is not closed" for tag in self._open]
        names = self._regions
        self.faults += [f"{name}: a region's name twice" for name in names if names.count(name) > 1]
        if self.tags.count("html") and self.tags.count("h1") != 1:
            self.faults.append("not one h1")
        self.charts = [source for source in self.sources if "image/svg" in source]

    def handle_startendtag(self, tag: str, attrs: list) -> None:
        self._look_at(tag, dict(attrs))

    def handle_starttag(self, tag: str, attrs: list) -> None:
        self._look_at(tag, dict(attrs))
        if tag not in EMPTY:
            self._open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if not self._open or self._open.pop() != tag:
            self.faults.append(f"/{tag} closes nothing")

    def handle_data(self, data: str) -> None:
        if not {"style", "script"} & set(self._open):
            self.text += data
        if "h2" in self._open:  # names the section around it
            self._regions.append(data)
        if "url(" in data or "http" in data or "@import" in data:
            self.faults.append(f"reaches out: {data[:80]}")

    def _look_at(self, tag: str, attributes: dict[str, str]) -> None:
        self.tags.append(tag)
        for name in ("src", "href", "action", "data"):
            if not attributes.get(name, "#").startswith(("#", "data:image/")):
                self.faults.append(f"{tag} reaches out: {attributes[name][:80]}")
        if tag == "img":
            self.sources.append(attributes["src"])
            if not attributes.get("alt"):
                self.faults.append("img without alt")
        if tag == "th" and attributes.get("scope") not in ("row", "col"):
            self.faults.append("th without scope")
        if tag == "input" and "label" not in self._open:
            self.faults.append("input without label")
        if "tabindex" in attributes and not attributes.get("aria-label"):
            self.faults.append(f"{tag} without a name")
        if attributes.get("role") == "region":
            self._regions.append(attributes["aria-label"])
        if re.fullmatch("h[1-6]", tag):
            if self._level and int(tag[1]) > self._level + 1:
                self.faults.append(f"{tag} below h{self._level}")
            self._level = int(tag[1])
        if tag in ("link", "iframe", "object") or any(name.startswith("on") for name in attributes):
            self.faults.append(f"{tag} {attributes}")
        if "id" in attributes and attributes["id"] in self._ids:
            self.faults.append(f"id {attributes['id']} twice")
        self._ids.add(attributes.get("id", ""))
        if tag == "data" and attributes["value"]:
            self.numbers.append(float(attributes["value"]))


def kept_by(world: int, folder: str, data: str, count: int = COUNT) -> dict:
    """Scores; runs in each of so many processes, which find this module but no test."""
    items = samples(Path(data), count, len(NAMES))
    dealt = (items + items)[: -(-count // world) * world]
    rank = torch.distributed.get_rank()
    return keep(EvaluationHook(Path(folder)), Images(items, NAMES), dealt[rank::world])
