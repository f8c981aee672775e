"""A tiny network with a checkpoint, whose labels are as varied as a trained one's."""

from pathlib import Path

import numpy as np
import torch
from mmengine.config import Config
from mmseg.registry import MODELS
from PIL import Image
from tools.running import config

CLASSES = ("background", "circle", "square", "triangle", "star")


def trained(folder: Path, extra: str = "", **meta: object) -> tuple[Path, Path]:
    """A config and its checkpoint in FOLDER."""
    file = config(folder, extra)
    return file, weights_for(file, **meta)


def weights_for(config: Path, seed: int = 0, **meta: object) -> Path:
    """A checkpoint with random weights beside the config."""
    torch.manual_seed(seed)
    model = MODELS.build(Config.fromfile(config).model)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.5)
    file = config.with_name("weights.pth")
    torch.save(dict(meta=meta, state_dict=model.state_dict()), file)
    return file


def image(path: Path, height: int, width: int, seed: int = 0) -> Path:
    """Noise in blocks, which no decoder changes."""
    blocks = np.random.default_rng(seed).integers(0, 256, (-(-height // 8), -(-width // 8), 3))
    pixels = blocks.astype(np.uint8).repeat(8, 0).repeat(8, 1)[:height, :width]
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)
    return path
