"""The scores of a checkpoint that its work dir records, by data set and split."""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from mmengine.config import Config

from fcn_plugin.evaluation.intervals import HIGH, LOW, Bounds
from fcn_plugin.evaluation.metric import SCORES as OURS
from fcn_plugin.publish.facts import public, title_of
from fcn_plugin.report.evaluation import Evaluation, load, sha256
from fcn_plugin.report.logs import read_training, session_folders

EVALUATION = "evaluation"  # folder of fcn-plugin report in a work dir
# mmseg's name of a score -> its name in words, and on hubs.
SCORES = {
    "mIoU": ("mean IU", "mean_iou"),
    "aAcc": ("pixel accuracy", "accuracy"),
    "mAcc": ("mean accuracy", "mean_accuracy"),
    "fwIoU": ("f.w. IU", "frequency_weighted_iou"),
}


@dataclass(frozen=True)
class Result:
    """The scores of one checkpoint on one data set.

    Attributes:
        dataset: data set and split, in words.
        scores: mmseg's name -> percent.
        origin: what measured them.
        images: how many were scored; None if that is not recorded.
        bounds: mmseg's name -> low and high of the 95 % interval in percent; empty if unknown.
        class_iu: name of a class -> its IU in percent; None without pixels. Empty if unknown.
    """

    dataset: str
    scores: dict[str, float]
    origin: str
    images: int | None = None
    bounds: dict[str, Bounds] = field(default_factory=dict)
    class_iu: dict[str, float | None] = field(default_factory=dict)


def results_of(checkpoint: Path, work_dir: Path, cfg: Config, step: int | None) -> list[Result]:
    """The recorded scores of ``checkpoint``, one result for each data set, the fullest record.

    Args:
        cfg: config of the run.
        step: the iteration of the checkpoint, at which the run scored it; None if unknown.
    """
    results: dict[str, Result] = {}
    for result in (
        *_evaluated(checkpoint, work_dir, cfg),
        *_tested(checkpoint, work_dir),
        *_validated(work_dir, cfg, step),
    ):
        results.setdefault(result.dataset, result)
    return list(results.values())


def _evaluated(checkpoint: Path, work_dir: Path, cfg: Config) -> Iterator[Result]:
    """From ``fcn-plugin report``, which records the hash of what it has scored."""
    kept = load(work_dir / EVALUATION)
    if kept is None or kept.sha256 != sha256(checkpoint):
        return
    loader = "test_dataloader"
    titles = {title_of(cfg, loader): title_of(public(cfg), loader)}
    title = titles.get(kept.dataset, kept.dataset)
    origin = f"fcn-plugin report, {kept.facts.get('date', 'date unknown')}"
    published = {name: OURS[name] for name in SCORES}
    scores = {name: 100 * float(kept.scores[ours]) for name, ours in published.items()}
    bounds: dict[str, Bounds] = {}
    if len(kept.images) > 1:
        found = kept.intervals("image").scores
        bounds = {
            name: (100 * found[ours][0], 100 * found[ours][1]) for name, ours in published.items()
        }
    yield Result(title, scores, origin, len(kept.images), bounds, _class_iu(kept))


def _class_iu(kept: Evaluation) -> dict[str, float | None]:
    values = (100 * float(value) for value in kept.scores["class_iu"])
    pairs = zip(kept.classes, values, strict=True)
    return {name: None if value != value else value for name, value in pairs}


def _tested(checkpoint: Path, work_dir: Path) -> Iterator[Result]:
    """From ``fcn-plugin test``: mmengine writes the scores beside the config of the test."""
    for file in sorted(work_dir.glob("*/*.json"), reverse=True):
        config = file.parent / "vis_data" / "config.py"
        # A file of that name may have been written again since the test.
        late = file.stat().st_mtime >= checkpoint.stat().st_mtime
        if file.stem != file.parent.name or not late or not config.is_file():
            continue
        cfg = Config.fromfile(config)
        if not _is_named(checkpoint, cfg.get("load_from")):
            continue
        views = ", with test-time augmentation" if "module" in cfg.model else ""
        title = title_of(public(cfg), "test_dataloader") + views
        scores = json.loads(file.read_text())
        if kept := {name: scores[name] for name in SCORES if name in scores}:
            images = _counted(file.with_suffix(".log"), "test", cfg)
            bounds = {
                name: (scores[name + LOW], scores[name + HIGH])
                for name in kept
                if {name + LOW, name + HIGH} <= scores.keys()
            }
            yield Result(title, kept, f"fcn-plugin test, {file.stem}", images, bounds)


def _is_named(checkpoint: Path, tested: str | None) -> bool:
    """Whether the test's path is the checkpoint's, or of its name and gone: the run was moved.

    Tests by one config share a work dir, also those of checkpoints of other runs.
    """
    path = Path(str(tested))
    if path.is_file():
        return path.samefile(checkpoint)
    return path.name == checkpoint.name


def _validated(work_dir: Path, cfg: Config, step: int | None) -> Iterator[Result]:
    """From the run's own log of the iteration at which the checkpoint was written."""
    entry = read_training(work_dir).val.get(step or 0, {})
    if kept := {name: float(entry[name]) for name in SCORES if name in entry}:
        title = title_of(public(cfg), "val_dataloader")
        logs = [folder / f"{folder.name}.log" for folder in session_folders(work_dir)]
        images = _counted(logs[-1], "val", cfg)
        yield Result(title, kept, f"the run's validation at iteration {step}", images)


def _counted(log: Path, phase: str, cfg: Config) -> int | None:
    """How many images were scored, by the last line of the scores in mmengine's log.

    That line counts batches of one process: None unless a batch is one image, and a process all.
    """
    alone = cfg.get("launcher", "none") == "none"
    if not alone or cfg[f"{phase}_dataloader"].get("batch_size") != 1 or not log.is_file():
        return None
    counts = re.findall(rf"Iter\({phase}\) *\[ *(\d+)/\1\]", log.read_text(errors="replace"))
    return int(counts[-1]) if counts else None
