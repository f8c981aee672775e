"""Images with several labelings, one folder of labels for each."""

from os.path import join, relpath
from typing import Any

from mmseg.datasets import BaseSegDataset
from mmseg.registry import DATASETS

from fcn_plugin.data.labels import voc_palette
from fcn_plugin.data.numbering import numbering_of
from fcn_plugin.data.tasks import TASKS, check_task
from fcn_plugin.errors import UserError


@DATASETS.register_module()
class MultiTaskDataset(BaseSegDataset):
    """mmseg's ``BaseSegDataset`` with further labelings of the same images.

    A label of a further task has the path of the main label, in another folder. It is loaded by
    ``LoadCheckedLabel(task=...)``.

    Args:
        data_prefix: besides ``img_path`` and ``seg_map_path``, for each task the folder of its
            labels, e.g. ``geo_seg_map_path``; without one, or without ``seg_map_path``, its labels
            are not loaded.
        metainfo: besides ``classes`` and ``palette`` (RGB), ``tasks``: for each task by its name
            ``classes``, and optionally ``palette``, ``reduce_zero_label`` and ``label_map``.
        **kwargs: as for ``BaseSegDataset``.

    Raises:
        UserError: the tasks in ``data_prefix`` and ``metainfo`` differ.
    """

    def __init__(
        self,
        data_prefix: dict[str, str | None],
        metainfo: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        metainfo = dict(metainfo or {})
        shipped = getattr(self, "METAINFO", {}).get(TASKS)
        self.tasks = {
            k: _described(k, v) for k, v in (metainfo.get(TASKS) or shipped or {}).items()
        }
        metainfo[TASKS] = self.tasks
        folders = {key: folder for key, folder in data_prefix.items() if folder is not None}
        for key in folders:
            task = key.removesuffix("_seg_map_path")
            if key not in ("img_path", "seg_map_path") and task not in self.tasks:
                raise UserError(
                    f"data_prefix.{key}: the data set describes no task {task!r}; add it to its "
                    "metainfo.tasks"
                )
        super().__init__(data_prefix=folders, metainfo=metainfo, **kwargs)

    def load_data_list(self) -> list[dict[str, Any]]:
        """mmseg's list, each image with ``tasks``: path and numbering of its further labels."""
        data_list = super().load_data_list()
        main = self.data_prefix.get("seg_map_path")
        folders = {task: self.data_prefix.get(f"{task}_seg_map_path") for task in self.tasks}
        for info in data_list:
            info[TASKS] = {
                task: dict(
                    seg_map_path=join(folder, relpath(info["seg_map_path"], main)),
                    reduce_zero_label=self.tasks[task]["reduce_zero_label"],
                    label_map=self.tasks[task]["label_map"],
                )
                for task, folder in folders.items()
                if folder is not None and "seg_map_path" in info
            }
        return data_list


def _described(task: str, meta: dict[str, Any]) -> dict[str, Any]:
    """The description of a task in plain types, which a checkpoint can hold."""
    check_task(task)
    classes = tuple(meta["classes"])
    numbering = numbering_of(meta, len(classes))
    return dict(
        classes=classes,
        palette=[list(colour) for colour in meta.get("palette") or voc_palette()[: len(classes)]],
        reduce_zero_label=numbering.reduce_zero_label,
        label_map=dict(numbering.label_map),
    )
