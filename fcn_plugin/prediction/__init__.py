"""Predict the labels of any image with a config and a checkpoint."""

from fcn_plugin.prediction.predictor import Predictor
from fcn_plugin.prediction.result import Prediction

__all__ = ["Prediction", "Predictor"]
