"""A narrow SegNet of the package."""

from models.small import CLASSES, built
from torch import nn

NORM = dict(norm_cfg=dict(type="BN"))
ODD = (37, 53)  # a row and a column are left over at every pooling
ENCODER = dict(type="ConvolutionalizedVGG", base_channels=2, out_indices=(4,), switches=True)
DECODER = dict(type="UnpoolingHead", in_channels=16, num_classes=CLASSES)
WEIGHTED = dict(type="CrossEntropyLoss", avg_non_ignore=True, class_weight=[0.2, 0.5, 1, 3, 9])


def segnet(backbone=None, head=None, **settings) -> nn.Module:
    """Narrow, in float64, with random weights, biases and statistics."""
    encoder, decoder = ENCODER | NORM | (backbone or {}), DECODER | NORM | (head or {})
    model = built(backbone=encoder, head=decoder, **settings)
    for name, value in model.state_dict().items():
        if value.dim() == 4:
            nn.init.kaiming_normal_(value)
        elif name.endswith(("bias", "running_mean")):
            nn.init.normal_(value, std=0.3)
        elif value.is_floating_point():
            nn.init.uniform_(value, 0.5, 1.5)
    return model.double()
