"""CamVid in SegNet's layout: driving scenes in 11 classes."""

from collections.abc import Sequence
from os.path import isfile, join, splitext
from typing import Any

import mmengine.fileio as fileio
from mmengine import list_from_file
from mmseg.datasets import BaseSegDataset
from mmseg.registry import DATASETS

from fcn_plugin.data.numbering import IGNORED
from fcn_plugin.errors import UserError, did_you_mean

VOID_LABEL = 11

# class -> RGB colour in which CamVid's labels are usually shown
CLASSES = {
    "sky": [128, 128, 128],
    "building": [128, 0, 0],
    "pole": [192, 192, 128],
    "road": [128, 64, 128],
    "pavement": [60, 40, 222],
    "tree": [128, 128, 0],
    "sign symbol": [192, 128, 128],
    "fence": [64, 64, 128],
    "car": [64, 0, 128],
    "pedestrian": [64, 64, 0],
    "bicyclist": [0, 128, 192],
}


@DATASETS.register_module()
class CamVidDataset(BaseSegDataset):
    """Frames of CamVid, ``train/NAME.png`` with the label ``trainannot/NAME.png``.

    Labels hold 0 to 10 for the classes and 11 for void, which becomes 255 through mmseg's
    ``label_map``. Layout and split: the ``CamVid`` folder of SegNet's tutorial.

    Args:
        data_prefix: ``img_path``, the folder of the frames, and ``seg_map_path``, the folder of the
            labels. ``seg_map_path`` may be missing or None in ``test_mode``: no labels are loaded.
        img_suffix: The suffixes of frames.
        **kwargs: As for mmseg's ``BaseSegDataset``. ``ann_file`` lists names without suffix, one
            per line; without it every frame is used. ``metainfo=dict(classes=[...])`` chooses some
            of the classes; the pixels of the others become 255.

    Raises:
        UserError: CamVid has no such class, a folder has no frames, or a frame is missing, is
            there twice or has no label.
    """

    METAINFO = {"classes": tuple(CLASSES), "palette": list(CLASSES.values())}

    def __init__(
        self,
        data_prefix: dict[str, str | None],
        img_suffix: str | Sequence[str] = (".png", ".jpg"),
        **kwargs: Any,
    ) -> None:
        folders = {key: folder for key, folder in data_prefix.items() if folder is not None}
        super().__init__(data_prefix=folders, img_suffix=img_suffix, **kwargs)

    @classmethod
    def get_label_map(cls, new_classes: Sequence[str] | None = None) -> dict[int, int]:
        """The class index of each value in the label files, void included.

        Args:
            new_classes: The chosen classes, in their new order; all if None.
        """
        wanted = list(CLASSES if new_classes is None else new_classes)
        for name in wanted:
            if name not in CLASSES:
                remedy = did_you_mean(str(name), CLASSES, f"choose from {', '.join(CLASSES)}")
                raise UserError(f"CamVid has no class {name!r}: {remedy}")
        new = {name: index for index, name in enumerate(wanted)}
        label_map = {old: new.get(name, IGNORED) for old, name in enumerate(CLASSES)}
        return label_map | {VOID_LABEL: IGNORED}

    def load_data_list(self) -> list[dict[str, Any]]:
        """The samples, sorted by name, in the format of mmseg's pipelines."""
        img_dir = self.data_prefix.get("img_path", "")
        ann_dir = self.data_prefix.get("seg_map_path")
        if ann_dir is None and not self.test_mode:
            raise UserError(f"{img_dir}: training needs labels; set data_prefix.seg_map_path")
        suffixes = (self.img_suffix,) if isinstance(self.img_suffix, str) else self.img_suffix
        frames = self._files(img_dir, tuple(suffixes))
        labels = {} if ann_dir is None else self._files(ann_dir, (self.seg_map_suffix,))
        data_list = []
        for name in self._names(frames):
            if name not in frames:
                remedy = f"unpack CamVid there again or correct {self.ann_file}"
                frame = join(img_dir, name)
                raise UserError(f"{frame}: no frame {' or '.join(suffixes)}; {remedy}")
            sample = {
                "img_path": frames[name],
                "label_map": self.label_map,
                "reduce_zero_label": self.reduce_zero_label,
                "seg_fields": [],
            }
            if ann_dir is not None:
                if name not in labels:
                    label = join(ann_dir, name + self.seg_map_suffix)
                    raise UserError(f"{label}: label missing; add it or remove {frames[name]}")
                sample["seg_map_path"] = labels[name]
            data_list.append(sample)
        return data_list

    def _names(self, frames: dict[str, str]) -> list[str]:
        if not self.ann_file:
            return sorted(frames)
        if not isfile(self.ann_file):
            raise UserError(f"{self.ann_file}: no such list; correct ann_file or leave it out")
        lines = list_from_file(self.ann_file, backend_args=self.backend_args)
        return sorted(line.strip() for line in lines if line.strip())

    def _files(self, folder: str, suffixes: tuple[str, ...]) -> dict[str, str]:
        """Name without suffix -> path, for the files of a folder."""
        remedy = "unpack CamVid there or correct data_root and data_prefix"
        backend: dict[str, Any] = dict(backend_args=self.backend_args)
        if not fileio.isdir(folder, **backend):
            raise UserError(f"{folder}: no such folder; {remedy}")
        files: dict[str, str] = {}
        for file in fileio.list_dir_or_file(folder, list_dir=False, suffix=suffixes, **backend):
            name = splitext(file)[0]
            if name in files:
                raise UserError(f"{join(folder, file)}: {files[name]} is there too; remove one")
            files[name] = join(folder, file)
        if not files:
            raise UserError(f"{folder}: no file ends in {' or '.join(suffixes)}; {remedy}")
        return files
