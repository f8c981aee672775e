"""Read images from a built data set as its pipeline loads them, before any other step."""

from collections.abc import Iterator, Sequence
from typing import Any, cast

from mmengine.dataset import BaseDataset

from fcn_plugin.errors import UserError


def load_image(steps: Sequence[Any], results: dict[str, Any]) -> tuple[dict[str, Any], int]:
    """Run a pipeline up to the first step that adds ``img``.

    Returns:
        The results dictionary with ``img``, and the number of steps that were run.

    Raises:
        UserError: a step fails, or no step adds ``img``.
    """
    path, loaded = results.get("img_path", "the image"), cast(Any, results)
    for number, step in enumerate(steps, start=1):
        try:
            loaded = step(loaded)
        except UserError:
            raise
        except Exception as error:  # a user's own loader may raise anything
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
    """The steps of a data set's pipeline; empty if the pipeline is not mmengine's."""
    return getattr(dataset.pipeline, "transforms", ())
