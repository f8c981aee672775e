"""Names of further labelings of the same images, such as SIFT Flow's geometric classes.

Each is a task with a name; ``None`` is the main labeling, mmseg's own. A data set describes its
tasks in ``metainfo["tasks"]``: name -> ``classes``, ``palette``, ``reduce_zero_label`` and
``label_map``, with the meaning they have for the main labeling.
"""

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from fcn_plugin.errors import UserError, did_you_mean

TASKS = "tasks"
# Of the main labeling's fields, and of mmseg's losses.
TAKEN = ("sem", "decode", "aux")


class Fields(NamedTuple):
    """Names of a labeling's fields in a ``SegDataSample``."""

    truth: str
    prediction: str
    scores: str


def fields(task: str | None) -> Fields:
    """
    >>> fields(None)
    Fields(truth='gt_sem_seg', prediction='pred_sem_seg', scores='seg_logits')
    >>> fields("geo")
    Fields(truth='gt_geo_seg', prediction='pred_geo_seg', scores='geo_seg_logits')
    """
    if task is None:
        return Fields("gt_sem_seg", "pred_sem_seg", "seg_logits")
    return Fields(f"gt_{task}_seg", f"pred_{task}_seg", f"{task}_seg_logits")


def task_labels(seg_fields: Iterable[str]) -> list[str]:
    """Those of a pipeline's ``seg_fields`` that are labels of further tasks.

    >>> task_labels(["gt_seg_map", "gt_geo_seg", "gt_depth_map"])
    ['gt_geo_seg']
    """
    return [key for key in seg_fields if key.startswith("gt_") and key.endswith("_seg")]


def check_task(task: str) -> None:
    """Raise ``UserError`` unless ``task`` can name a task: its fields, losses and scores."""
    # mmengine sums every entry with "loss" in its name.
    if not task.isidentifier() or task in TAKEN or task.startswith("aux_") or "loss" in task:
        raise UserError(
            f"task {task!r}: give it a name of letters, digits and _, other than "
            f"{', '.join(TAKEN)} and without 'loss' in it"
        )


def meta_of(meta: Mapping[str, Any], task: str | None) -> Mapping[str, Any]:
    """The part of a data set's ``metainfo`` that describes a labeling.

    Raises:
        UserError: the data set has no such task.
    """
    if task is None:
        return meta
    tasks = meta.get(TASKS) or {}
    if task not in tasks:
        hint = did_you_mean(task, tasks, "describe it in the data set's metainfo.tasks")
        raise UserError(f"task {task!r}: the data set has {', '.join(tasks) or 'none'}; {hint}")
    return tasks[task]
