"""Backbones and decode heads."""

from fcn_plugin.models.alexnet import ConvolutionalizedAlexNet
from fcn_plugin.models.bands import BandsPreProcessor
from fcn_plugin.models.googlenet import ConvolutionalizedGoogLeNet
from fcn_plugin.models.segmentor import FCNSegmentor
from fcn_plugin.models.skip_fusion import SkipFusionHead
from fcn_plugin.models.streams import Streams
from fcn_plugin.models.tta import FCNTTAModel
from fcn_plugin.models.unpooling import UnpoolingHead
from fcn_plugin.models.vgg import ConvolutionalizedVGG

__all__ = [
    "BandsPreProcessor",
    "ConvolutionalizedAlexNet",
    "ConvolutionalizedGoogLeNet",
    "ConvolutionalizedVGG",
    "FCNSegmentor",
    "FCNTTAModel",
    "SkipFusionHead",
    "Streams",
    "UnpoolingHead",
]
