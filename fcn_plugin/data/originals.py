"""What a built data set holds: its plain parts, its steps, and images as the steps load them."""

from collections.abc import Iterator, Sequence
from typing import Any, cast

from mmengine.dataset import BaseDataset

from fcn_plugin.errors import UserError


def load_image(steps: Sequence[Any], results: dict[str, Any]) -> tuple[dict[str, Any], int]:
    """Run a pipeline up to the step that gives ``img``.

    Returns:
        What the steps know of the image, and how many there were.

    Raises:
        UserError: a step cannot load the image, or none of them gives one.
    """
    path, loaded = results.get("img_path", "the image"), cast(Any, results)
    for number, step in enumerate(steps, start=1):
        try:
            loaded = step(loaded)
        except UserError:
            raise
        except Exception as error:  # whatever a loader of the user's own may raise
            reason = " ".join(f"{type(error).__name__} {error}".split())
            raise UserError(f"{path}: {type(step).__name__} cannot load it ({reason})") from error
        if loaded is None:
            break
        if "img" in loaded:
            return loaded, number
    raise UserError(f"{path}: no step of the test pipeline loads an image ('img')")


def plain_datasets(dataset: Any) -> Iterator[BaseDataset]:
    """The plain data sets inside wrappers such as ``ConcatDataset`` and ``RepeatDataset``."""
    if isinstance(dataset, BaseDataset):
        yield dataset
    for inner in getattr(dataset, "datasets", None) or [getattr(dataset, "dataset", None)]:
        if inner is not None:
            yield from plain_datasets(inner)


def steps_of(dataset: BaseDataset) -> Sequence[Any]:
    """The steps of its pipeline; none where the pipeline is not mmengine's."""
    return getattr(dataset.pipeline, "transforms", ())
