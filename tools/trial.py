"""Train a tiny network for five iterations and predict with it; ``doctor.py`` runs this file.

python tools/trial.py FOLDER

Everything is written into the folder. The last line on stdout is JSON: device, losses, seconds.
"""

import json
import os
import sys
from pathlib import Path

from common import quiet_host, run

CONFIG = Path(__file__).resolve().parents[1] / "configs/fcn8s_vgg16_shapes.py"
ITERATIONS, PICTURES = 5, 16
# The shipped config, smaller in everything but the ways that the data takes.
SETTINGS = {
    "model.backbone.depth": 11,
    "model.backbone.base_channels": 4,
    "model.backbone.fc_channels": 16,
    "model.decode_head.in_channels": (16, 32, 16),
    "train_dataloader.batch_size": PICTURES // 2,
    # Seconds. A worker that finds no shared memory gives no batch, nor ends.
    "train_dataloader.timeout": 60,
    "val_dataloader.timeout": 60,
    "train_cfg.max_iters": ITERATIONS,
    "train_cfg.val_interval": ITERATIONS,
    "default_hooks.checkpoint.interval": ITERATIONS,
    "param_scheduler": None,
    "log_level": "ERROR",
    "work_dir": "work_dir",
}


def main() -> None:
    from mmengine.config import Config

    import fcn_plugin  # noqa: F401  # registers our modules and makes mmseg importable
    from fcn_plugin.checks.config import check_config
    from fcn_plugin.engine.processes import prepare_cpu
    from fcn_plugin.engine.runner import BriefRunner, bare_model
    from fcn_plugin.errors import UserError
    from fcn_plugin.prediction import Predictor
    from fcn_plugin.prepare.shapes import write_shapes

    # Only now: a user's PYTHONPATH may be relative. The config's data_root is relative, too.
    os.chdir(sys.argv[1])
    quiet_host()
    write_shapes(Path("data/shapes"), train=PICTURES, val=2)
    cfg = Config.fromfile(CONFIG)
    cfg.merge_from_dict(SETTINGS)
    check_config(cfg, ("train_dataloader", "val_dataloader"))
    prepare_cpu(cfg)
    runner = BriefRunner.from_cfg(cfg)
    runner.train()

    predictor = Predictor(cfg, cfg.work_dir)
    trained, stored = bare_model(runner).state_dict(), predictor.model.state_dict()
    changed = [name for name in trained if not trained[name].equal(stored[name])]
    if changed:
        raise UserError(f"the checkpoint holds other values of {changed[0]} than were trained")
    predictor("data/shapes/JPEGImages/val_00000.jpg")

    scalars = runner.message_hub.log_scalars
    losses, seconds = (scalars[f"train/{name}"].data[0] for name in ("loss", "time"))
    # The first iteration also starts the loader's workers and chooses algorithms.
    result = dict(
        device=str(predictor.device),
        losses=losses.tolist(),
        seconds=seconds[1:].mean(),
    )
    print(json.dumps(result))


if __name__ == "__main__":
    run(main)
