"""Run the tools as a user does: a new process in a folder of one's own."""

import os
import subprocess
import sys
from pathlib import Path

REPOSITORY = Path(__file__).parents[2]
TOOLS = REPOSITORY / "tools"


def tool(name: str, *options: object, folder: Path, **environment: str):
    """The finished process of tools/NAME."""
    path = TOOLS / name
    command = ["bash", path] if path.suffix == ".sh" else [sys.executable, path]
    return subprocess.run(
        [*map(str, command), *map(str, options)],
        cwd=folder,
        env=os.environ
        | dict(PYTHON=sys.executable, PYTHONPATH=str(REPOSITORY), OMP_NUM_THREADS="1")
        | environment,
        capture_output=True,
        text=True,
        timeout=300,
    )


def config(folder: Path, extra: str = "") -> Path:
    """A config of a tiny FCN-8s on tiny shapes, four iterations of four images."""
    path = folder / "tiny.py"
    path.write_text(
        f"""
_base_ = "{REPOSITORY}/configs/fcn8s_vgg16_shapes.py"
model = dict(
    data_preprocessor=dict(size=(32, 32)),
    backbone=dict(depth=11, base_channels=2, fc_channels=8),
    decode_head=dict(in_channels=(8, 16, 8)),
)
train_dataloader = dict(batch_size=4, num_workers=0, persistent_workers=False)
val_dataloader = dict(batch_size=2, num_workers=0, persistent_workers=False)
test_dataloader = val_dataloader
train_cfg = dict(max_iters=4, val_interval=4)
param_scheduler = None
default_hooks = dict(checkpoint=dict(interval=2), logger=dict(interval=1))
{extra}
"""
    )
    return path
