"""Images as their own pipeline loads them, before anything is done to them."""

from collections.abc import Iterator, Sequence
from typing import Any, cast

import numpy as np
from mmengine.dataset import BaseDataset

from fcn_plugin.data.images import LoadCheckedImage
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


class Originals:
    """The images of a built data set, by their paths."""

    def __init__(self, dataset: Any) -> None:
        self.parts = list(plain_datasets(dataset))
        self._positions: dict[str, tuple[BaseDataset, int]] = {}

    def __call__(self, path: str) -> np.ndarray:
        """H x W or H x W x C as the loader gives it.

        Raises:
            UserError: it cannot be loaded.
        """
        if not self._positions:
            for part in reversed(self.parts):
                for index in range(len(part)):
                    self._positions[str(part.get_data_info(index).get("img_path"))] = part, index
        steps: Sequence[Any] = ()
        info = dict(img_path=path)
        if path in self._positions:
            part, index = self._positions[path]
            steps, info = steps_of(part), part.get_data_info(index)
        # A data set without a pipeline of its own has files that anyone can read.
        results, _ = load_image(steps or [LoadCheckedImage()], info)
        return results["img"]
