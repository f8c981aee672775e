"""Backbones and the decode head."""

from fcn_plugin.models.skip_fusion import SkipFusionHead
from fcn_plugin.models.vgg import ConvolutionalizedVGG

__all__ = ["ConvolutionalizedVGG", "SkipFusionHead"]
