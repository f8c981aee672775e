"""Read images and labels from a built data set as its pipeline loads them, before other steps."""

from collections.abc import Iterator, Sequence
from typing import Any, cast

from mmcv.transforms import LoadAnnotations
from mmengine.dataset import BaseDataset

from fcn_plugin.data.images import in_full
from fcn_plugin.errors import UserError


def load_image(steps: Sequence[Any], results: dict[str, Any]) -> tuple[dict[str, Any], int]:
    """Run a pipeline up to the first step that adds ``img``, in full despite ``shrink_on_load``.

    Returns:
        The results dictionary with ``img``, and the number of steps that were run.

    Raises:
        UserError: a step fails, or no step adds ``img``.
    """
    path, loaded = results.get("img_path", "the image"), cast(Any, results)
    for number, step in enumerate(steps, start=1):
        loaded = _run(in_full(step), loaded, path)
        if loaded is None:
            break
        if "img" in loaded:
            return loaded, number
    raise UserError(f"{path}: no step of the test pipeline loads an image ('img')")


def load_sample(dataset: BaseDataset, index: int) -> dict[str, Any]:
    """The results dictionary of a plain data set's image with ``img`` and, if it has a label,
    ``gt_seg_map``.

    Steps between the loading of both, such as the resizing in a test pipeline, are left out.

    Raises:
        UserError: a step fails, or no step loads the image or the label.
    """
    info, steps = dataset.get_data_info(index), steps_of(dataset)
    label = info.get("seg_map_path")
    loaded, number = load_image(steps, info)
    if not label:
        return loaded
    # Another loader than a subclass of mmcv's is found by what it adds.
    rest = steps[number:]
    for step in [step for step in rest if isinstance(step, LoadAnnotations)] or rest:
        loaded = _run(step, loaded, label)
        if "gt_seg_map" in (loaded or {}):
            return loaded
    raise UserError(f"{label}: no step of the pipeline loads a label ('gt_seg_map')")


def _run(step: Any, results: dict[str, Any], path: object) -> Any:
    try:
        return step(results)
    except UserError:
        raise
    except Exception as error:  # a user's own loader may raise anything
        reason = " ".join(f"{type(error).__name__} {error}".split())
        raise UserError(f"{path}: {type(step).__name__} cannot load it ({reason})") from error


def plain_datasets(dataset: Any) -> Iterator[BaseDataset]:
    """The plain data sets inside wrappers such as ``ConcatDataset`` and ``RepeatDataset``."""
    if isinstance(dataset, BaseDataset):
        yield dataset
    for inner in getattr(dataset, "datasets", None) or [getattr(dataset, "dataset", None)]:
        if inner is not None:
            yield from plain_datasets(inner)


def steps_of(dataset: BaseDataset) -> Sequence[Any]:
    """The steps of a data set's pipeline; empty if the pipeline is not mmengine's."""
    return getattr(dataset.pipeline, "transforms", ())
