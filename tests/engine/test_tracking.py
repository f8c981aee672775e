"""Scores, class scores and pictures arrive in each tracker at their iteration, once.

TensorBoard always; W&B, MLflow and ClearML, offline, where they are installed.
"""

import json
import math
import re
import struct
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from engine.processes import results
from engine.spy import Spy, sent
from mmengine.config import Config
from mmengine.logging import MMLogger
from mmengine.structures import PixelData
from mmseg.registry import METRICS
from mmseg.structures import SegDataSample
from PIL import Image
from tools.running import config

from fcn_plugin.engine import BriefRunner, TrackingHook
from fcn_plugin.engine.trackers import PAUSE
from fcn_plugin.errors import UserError
from fcn_plugin.evaluation.metric import ConfusionMatrixMetric
from fcn_plugin.prepare.shapes import write_shapes

STEPS = (2, 4, 4, 6)  # of the validations
ODD = "circle, (any)"
# Of three panels of 32 pixels, enlarged to 256, with their margins.
WIDTH = 8 + 3 * (256 + 8)
SECRET = "0123456789abcdef0123456789abcdef01234567"


@METRICS.register_module()
class Scored(ConfusionMatrixMetric):
    """With class scores of its own."""

    @property
    def class_scores(self) -> dict[str, dict[str, float]]:
        return dict(IU={"sky": 91.5, ODD: 50.0, "star": math.nan}, accuracy=dict(sky=1.5))

    @class_scores.setter
    def class_scores(self, value: Any) -> None:
        pass


class Stored(SimpleNamespace):
    """What a tracker has: scalars as (name, step, value), pictures as (name, step, size)."""

    scalars: list[tuple[str, int, float]]
    pictures: list[tuple[str, int, tuple[int, int]]]

    def values(self, name: str) -> list[tuple[int, float]]:
        """Of a scalar, by step."""
        return sorted((step, value) for key, step, value in self.scalars if key == name)


# --- the trackers, and how to read what they keep -------------------------------------------------


def tensorboard(folder: Path) -> Stored:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    stored = Stored(scalars=[], pictures=[])
    for path in folder.glob("run/*/vis_data"):
        events = EventAccumulator(str(path), dict(images=0)).Reload()
        tags = events.Tags()
        stored.scalars += [(t, e.step, e.value) for t in tags["scalars"] for e in events.Scalars(t)]
        stored.pictures += [
            (tag, e.step, (e.width, e.height)) for tag in tags["images"] for e in events.Images(tag)
        ]
    return stored


def wandb(folder: Path) -> Stored:
    from wandb.proto.wandb_internal_pb2 import Record

    stored = Stored(scalars=[], pictures=[])
    for path in folder.glob("run/*/vis_data/wandb/offline-run-*/*.wandb"):
        end = time.monotonic() + 30
        while True:  # its process writes the rest after the run's end
            parts = [Record.FromString(part) for part in records(path.read_bytes())]
            if parts[-1].WhichOneof("record_type") == "exit" or time.monotonic() > end:
                break
            time.sleep(0.1)
        for record in parts:
            values: dict[str, Any] = {}
            for item in record.history.item:
                name, *part = item.nested_key
                value = json.loads(item.value_json)
                if part:
                    values.setdefault(name, {})[part[0]] = value
                else:
                    values[name] = value
            step = values.pop("_step", None)
            for name, value in values.items():
                if isinstance(value, dict):
                    assert (path.parent / "files" / value["path"]).stat().st_size == value["size"]
                    size = value["width"], value["height"]
                    stored.pictures.append((name, step, size))
                elif not name.startswith("_"):
                    stored.scalars.append((name, step, value))
    return stored


def records(content: bytes, block: int = 1 << 15) -> Iterator[bytes]:
    """The records of a log in LevelDB's format, after a header of seven bytes."""
    place, parts = 7, b""
    while place + 7 <= len(content):
        if block - place % block < 7:
            place += block - place % block
            continue
        size, kind = struct.unpack_from("<HB", content, place + 4)
        parts += content[place + 7 : place + 7 + size]
        place += 7 + size
        if kind in (1, 4):  # full, or last
            yield parts
            parts = b""


def mlflow(folder: Path) -> Stored:
    from mlflow import MlflowClient
    from mlflow.artifacts import download_artifacts

    uri = f"sqlite:///{folder}/mlflow.db"
    client, stored = MlflowClient(uri), Stored(scalars=[], pictures=[])
    for run in client.search_runs(["0"]):
        for name in run.data.metrics:
            history = client.get_metric_history(run.info.run_id, name)
            stored.scalars += [(name, metric.step, metric.value) for metric in history]
        for file in client.list_artifacts(run.info.run_id, "images"):
            if file.path.endswith(".png"):
                name, _, step, *_ = re.split("[%+]", Path(file.path).name)
                where = download_artifacts(f"{run.info.artifact_uri}/{file.path}", tracking_uri=uri)
                size = Image.open(where).size
                stored.pictures.append((re.sub("[#~]", "/", name), int(step), size))
    return stored


def clearml(folder: Path) -> Stored:
    stored = Stored(scalars=[], pictures=[])
    for path in folder.glob("clearml/offline/*/metrics.jsonl"):
        for line in path.read_text().splitlines():
            for event in json.loads(line):
                plot, curve = event["metric"], event["variant"]
                name = curve if plot == curve else f"{plot}/{curve}"
                if event["type"] == "training_stats_scalar":
                    stored.scalars.append((name, event["iter"], event["value"]))
                elif event["type"] == "training_debug_image":
                    with Image.open(path.parent / "data" / event["key"]) as image:
                        stored.pictures.append((name, event["iter"], image.size))
    return stored


# Backend -> the settings it needs, how to read it, and the name it gives an odd class.
TRACKERS: dict[str, tuple[dict[str, str], Callable[[Path], Stored], str]] = {
    "TensorboardVisBackend": ({}, tensorboard, ODD),
    "WandbVisBackend": (dict(WANDB_MODE="offline", WANDB_API_KEY=SECRET), wandb, ODD),
    "MLflowVisBackend": (
        dict(MLFLOW_TRACKING_URI="sqlite:///{}/mlflow.db", MLFLOW_TRACKING_TOKEN=SECRET),
        mlflow,
        "circle_ _any_",
    ),
    "ClearMLVisBackend": (
        dict(
            CLEARML_OFFLINE_MODE="1", CLEARML_CACHE_DIR="{}/clearml", CLEARML_API_SECRET_KEY=SECRET
        ),
        clearml,
        ODD,
    ),
}


@pytest.fixture(autouse=True)
def _config_as_it_is(monkeypatch):
    """Half of a short run is mmengine's laying out of its config."""
    monkeypatch.setattr("mmengine.config.config.FormatCode", lambda text, **_: (text, True))


def trained(folder: Path, backends: list[dict], iterations: int = 4, **settings: Any) -> None:
    """A run, resumed if it has a checkpoint; the config names the backends in one line."""
    cfg = Config.fromfile(config(folder, f"visualizer = dict(vis_backends={backends})"))
    for loader in (cfg.train_dataloader, cfg.val_dataloader):
        loader.dataset.data_root = str(folder / "shapes")
    cfg.val_evaluator = dict(type="Scored")
    cfg.train_cfg.update(max_iters=iterations, val_interval=2)
    cfg.merge_from_dict(dict(work_dir=str(folder / "run")) | settings)
    trained.number += 1  # type: ignore[attr-defined]  # mmengine wants names that are not in use
    cfg.visualizer.name = cfg.experiment_name = f"tracked-{trained.number}"  # type: ignore[attr-defined]
    cfg.resume = (folder / "run/last_checkpoint").exists()
    BriefRunner.from_cfg(cfg).train()


trained.number = 0  # type: ignore[attr-defined]


@pytest.mark.parametrize("name", TRACKERS)
def test_all_arrives_at_its_iteration_and_once(name, tmp_path, monkeypatch):
    variables, read, odd = TRACKERS[name]
    for key, value in variables.items():
        monkeypatch.setenv(key, value.format(tmp_path))
    pytest.importorskip(read.__name__)  # some read the variables then
    monkeypatch.chdir(tmp_path)
    write_shapes(tmp_path / "shapes", train=8, val=7, size=32)
    kinds = dict.fromkeys(["LocalVisBackend", "TensorboardVisBackend", name])
    for iterations in (4, 6):
        trained(tmp_path, [dict(type=kind) for kind in kinds], iterations)
    stored = read(tmp_path)

    # mmengine's own file is the reference for what is not of the classes. A resumed run first
    # scores the checkpoint that it goes on from.
    files = tmp_path.glob("run/*/vis_data/scalars.json")
    lines = [json.loads(line) for file in files for line in file.read_text().splitlines()]
    for key, steps in (("loss", [1, 2, 3, 4, 5, 6]), ("mIoU", [2, 4, 4, 6])):
        expected = sorted((line["step"], line[key]) for line in lines if key in line)
        assert [step for step, _ in expected] == steps
        assert stored.values(key) == [(step, pytest.approx(value)) for step, value in expected]
    assert stored.values("IU/sky") == [(step, 91.5) for step in STEPS]
    assert stored.values(f"IU/{odd}") == [(step, 50) for step in STEPS]
    assert stored.values("accuracy/sky") == [(step, 1.5) for step in STEPS]
    assert not stored.values("IU/star") and not any("IU/sky" in line for line in lines)

    # Of seven images.
    same = {f"pictures/val_0000{number}" for number in (0, 1, 3, 5)}
    pictures = sorted((key, step) for key, step, _ in stored.pictures)
    assert pictures == sorted((key, step) for key in same for step in STEPS)
    assert all(width == WIDTH and height > 256 + 36 for _, _, (width, height) in stored.pictures)
    assert not list(tmp_path.glob("run/*/vis_data/vis_image"))
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert len(files) > 5 and not [path for path in files if SECRET.encode() in path.read_bytes()]


# --- a tracker that fails, several processes, and none --------------------------------------------


def test_it_starts_with_what_is_sent_and_not_with_the_config(tmp_path):
    spy = Spy(str(tmp_path))
    spy.add_config(Config())
    spy.close()
    assert spy.done == []
    spy.add_scalar("a", 1.0, 3)
    spy.close()
    assert spy.done == [("start",), ("config",), ("scalars", 3, dict(a=1.0)), ("close",)]


def test_one_that_cannot_start_ends_the_run_at_once(tmp_path):
    write_shapes(tmp_path / "shapes", train=4, val=2, size=32)
    with pytest.raises(UserError, match=r"Spy cannot start .*; mend it, or") as error:
        trained(tmp_path, [dict(type="Spy", broken=("start",))])
    assert "word" not in str(error.value) and not list(tmp_path.glob("run/*.pth"))


def test_one_that_fails_later_is_left_alone_for_a_while(tmp_path, monkeypatch):
    now, warnings = [1000.0], []
    monkeypatch.setattr(
        "fcn_plugin.engine.trackers.time", SimpleNamespace(monotonic=lambda: now[0])
    )
    monkeypatch.setattr(MMLogger.get_current_instance(), "warning", warnings.append)
    spy = Spy(str(tmp_path), broken=("scalars", "image"))
    for _ in range(3):
        spy.add_scalars(dict(a=1.0), 3)
        spy.add_image("b", np.zeros((2, 2, 3), np.uint8), 3)
    assert len(spy.done) == 2 and len(warnings) == 1
    now[0] += PAUSE
    spy.add_image("b", np.zeros((2, 2, 3), np.uint8), 3)
    assert len(spy.done) == 3 and len(warnings) == 2


def test_a_failing_tracker_or_picture_does_not_end_a_training(tmp_path, monkeypatch):
    monkeypatch.setattr("fcn_plugin.engine.tracking.side_by_side", None)
    write_shapes(tmp_path / "shapes", train=4, val=2, size=32)
    broken = ("config", "scalars", "close")
    trained(tmp_path, [dict(type="LocalVisBackend"), dict(type="Spy", broken=broken)], 2)
    assert (tmp_path / "run/iter_2.pth").exists()


@pytest.mark.parametrize(("size", "panel"), [((700, 1300), (234, 434)), ((300, 600), (300, 600))])
def test_large_pictures_are_reduced(size, panel):
    """And a sample without a label has no panel for it."""
    labels = PixelData(data=torch.zeros(1, *size, dtype=torch.int64))
    sample = SegDataSample(metainfo=dict(img_path="a/b.png"), pred_sem_seg=labels)
    hook = TrackingHook()
    image = np.full((*size, 3), 90, np.uint8)
    hook._draw(sample, lambda _: (image, ""), dict(classes=["sky"], palette=[[1, 2, 3]]))
    sheet = hook.sheets["pictures/b"]
    assert sheet.shape[1] == 8 + 2 * (8 + panel[1])
    assert (sheet == 90).all(-1).sum() == np.prod(panel)
    assert (sheet == [1, 2, 3]).all(-1).sum() > np.prod(panel)  # with the legend


def test_without_a_tracker_nothing_is_drawn(tmp_path, monkeypatch):
    write_shapes(tmp_path / "shapes", train=4, val=2, size=32)
    drawn: list[Any] = []
    monkeypatch.setattr(TrackingHook, "_draw", lambda *of: drawn.append(of))
    trained(tmp_path, [dict(type="LocalVisBackend")], 2)
    assert not drawn


@pytest.mark.parametrize("broken", [(), ("start",)])
def test_one_of_two_processes_sends_and_both_end_if_it_cannot(broken, tmp_path):
    first, second = results(2, tmp_path / "both", sent, broken)
    if broken:
        assert first == second and "Spy cannot start" in first
    else:
        # Of five images the first process has 0, 2 and 4.
        scores = {"geo/IU/sky": 91.5}
        assert first == [
            ("start",),
            ("scalars", 7, scores),
            ("image", 7, "image 0"),
            ("image", 7, "image 2"),
        ]
        assert second == []
