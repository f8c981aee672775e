"""TIFFs of five bands for tests, and a config whose network takes them."""

from pathlib import Path

import numpy as np
import tifffile

BANDS = 5
CONFIG = """
bands = dict(type="LoadBands", bands=5, fill={mean}, display_bands=(4, 3, 2))
label = dict(type="LoadCheckedLabel", num_classes=5)
model["data_preprocessor"] = dict(
    type="BandsPreProcessor", mean={mean}, std={std}, size=(32, 32), _delete_=True
)
model["backbone"].update(in_channels=5)
scored = dict(
    img_suffix=".tif", pipeline=[bands, dict(type="Resize", scale_factor=1.0), label,
    dict(type="PackSegInputs")],
)
train_dataloader["dataset"] = dict(
    img_suffix=".tif",
    pipeline=[
        bands,
        label,
        dict(type="RandomResize", scale=(32, 32), ratio_range=(0.5, 2.0), keep_ratio=True),
        dict(type="FastRandomCrop", crop_size=(32, 32), cat_max_ratio=0.75),
        dict(type="FastRandomFlip", prob=0.5),
        dict(type="FastPackSegInputs"),
    ],
)
val_dataloader["dataset"] = scored
test_dataloader = val_dataloader
"""


def blocks(height: int, width: int, seed: int, bands: int = BANDS) -> np.ndarray:
    """[H, W, bands] uint16 in blocks of 8 x 8 pixels, from 1 to 17999."""
    size = -(-height // 8), -(-width // 8), bands
    values = np.random.default_rng(seed).integers(1, 18000, size).astype(np.uint16)
    return values.repeat(8, 0).repeat(8, 1)[:height, :width]


def write_tiff(path: Path, pixels: np.ndarray, **options: object) -> Path:
    """[H, W, bands] as a TIFF, bands pixel by pixel."""
    planes = "contig" if pixels.shape[-1] > 1 else None
    tifffile.imwrite(path, pixels, photometric="minisblack", planarconfig=planes, **options)
    return path
