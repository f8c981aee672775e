"""Figure of a tool's start: from the command to the labels of a picture."""

import subprocess
import sys
import tempfile
from functools import partial
from pathlib import Path
from statistics import median

import torch
from mmengine.config import Config
from mmengine.registry import init_default_scope
from mmseg.registry import MODELS
from PIL import Image

from figures.framework import Figure, Result, Row, Setting, alternate, quartiles

CONFIG = Path(__file__).parents[2] / "configs" / "fcn8s_vgg16_shapes.py"
QUIET = dict(check=True, capture_output=True)
# In mmcv-lite the compiled operators are missing; here any name is one.
BARE = """
import sys, types
operators = type("Operators", (types.ModuleType,), dict(__getattr__=lambda self, name: None))
sys.modules["mmcv._ext"] = operators("mmcv._ext")
import torch, mmseg.apis
"""


def first_prediction(setting: Setting, repeats: int) -> Result:
    """Seconds from the command to the labels of one picture, and of the bare imports."""
    with tempfile.TemporaryDirectory(prefix="first_prediction") as folder:
        picture, checkpoint = Path(folder, "picture.png"), Path(folder, "network.pth")
        Image.effect_noise((500, 375), 99).convert("RGB").save(picture)
        init_default_scope("mmseg")
        network = MODELS.build(Config.fromfile(CONFIG).model)
        torch.save(dict(state_dict=network.state_dict(), meta={}), checkpoint)
        command = ["predict", CONFIG.stem, checkpoint, picture, "--out", Path(folder, "out")]
        commands = ("-m", "fcn_plugin", *command), ("-c", BARE)
        calls = [partial(subprocess.run, [sys.executable, *words], **QUIET) for words in commands]
        ours, theirs = alternate(calls, repeats, setting.device)
    spread = (quartiles(ours), quartiles(theirs))
    return Result((Row("time", median(ours), "s", median(theirs), spread),))


FIRST = ("predict one picture", "tools", "import torch, mmseg.apis")
FIGURES = [Figure(*FIRST, reading=first_prediction)]
