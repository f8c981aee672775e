"""SIFT Flow: outdoor scenes with semantic and geometric classes."""

from typing import Any

from mmseg.registry import DATASETS

from fcn_plugin.data.labels import voc_palette
from fcn_plugin.data.multi_task import MultiTaskDataset

# In the order of the label files, from 1 on (Caffe data/sift-flow/classes.txt).
NAMES = """
awning balcony bird boat bridge building bus car cow crosswalk desert door fence field grass moon
mountain person plant pole river road rock sand sea sidewalk sign sky staircase streetlight sun tree
window
"""
SEMANTIC = tuple(NAMES.split())
GEOMETRIC = ("sky", "horizontal", "vertical")
# No colours are published: these are VOC's of the same numbers.
COLOURS = voc_palette()[1:]


@DATASETS.register_module()
class SIFTFlowDataset(MultiTaskDataset):
    """SIFT Flow: 33 semantic classes and, as the task ``geo``, 3 geometric ones.

    Label files of both hold 0 for void and count classes from 1, as ``prepare_data siftflow``
    writes them. No image of the test split has a cow, a desert or a moon.

    Args:
        **kwargs: as for ``MultiTaskDataset``.
    """

    METAINFO = dict(
        classes=SEMANTIC,
        palette=COLOURS[: len(SEMANTIC)],
        tasks=dict(
            geo=dict(classes=GEOMETRIC, palette=COLOURS[: len(GEOMETRIC)], reduce_zero_label=True),
        ),
    )

    def __init__(self, reduce_zero_label: bool = True, **kwargs: Any) -> None:
        super().__init__(reduce_zero_label=reduce_zero_label, **kwargs)
