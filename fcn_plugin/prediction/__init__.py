"""Predict the labels of any image with a config and a checkpoint, or with an exported file."""

from typing import TYPE_CHECKING, Any

from fcn_plugin.prediction.result import Prediction

if TYPE_CHECKING:
    from fcn_plugin.prediction.predictor import Predictor

__all__ = ["Prediction", "Predictor"]


def __getattr__(name: str) -> Any:
    # Later, because an exported file is predicted without torch.
    if name != "Predictor":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from fcn_plugin.prediction.predictor import Predictor

    return Predictor
