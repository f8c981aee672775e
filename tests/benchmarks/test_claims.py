"""benchmarks/claims.py: the table of finished runs, and settings that every row's configs know."""

import json
from argparse import Namespace
from pathlib import Path

import claims
import pytest
from mmengine.config import Config
from tools.running import REPOSITORY, tool

# Settings that some of the configs leave at their defaults.
NEW = {"val_cfg.fp16", "model.decode_head.upsample", "model.decode_head.loss_decode.class_weight"}
SCORES = {"8s": (50.0, 52.0), "32s": (45.0, 48.0), "stages": (51.0,)}


def finished(folder: Path, score: float, step: int) -> None:
    """What a run leaves of its only scoring."""
    entries = [dict(loss=1.0, step=step), dict(mIoU=score, step=step)]
    file = folder / "20250101_000000/vis_data/scalars.json"
    file.parent.mkdir(parents=True)
    file.write_text("\n".join(map(json.dumps, entries)))


def test_differences_are_taken_seed_by_seed(tmp_path):
    for row, scores in SCORES.items():
        for seed, score in enumerate(scores):
            run = tmp_path / "runs" / row / f"seed-{seed}"
            # A chain has the last stage's scores; the others' must not be taken for them.
            if row == "stages":
                finished(run / "fcn8s_vgg16-convs_camvid", score, 133)
            else:
                finished(run, score, 400)
    # What a folder has finished is not trained again: there is no data set here.
    known = tool("claims.py stages --seeds 0 --out runs --record record.json", folder=tmp_path)
    assert known.returncode == 0, known.stderr
    done = tool("claims.py 8s 32s --seeds 0 1 --out runs --record record.json", folder=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "4 of 4: 32s, seed 1: mean IU 48.00" in done.stdout
    table = tool("claims.py --table --record record.json", folder=tmp_path).stdout.splitlines()
    cells = [[cell.strip() for cell in line.split("|")[2:5]] for line in table[2:]]
    assert cells == [
        ["2", "51.0 ± 1.4", ""],
        ["2", "46.5 ± 2.1", "-4.5 ± 0.7"],
        ["1", "51.0", "+1.0"],
    ]


def test_runs_of_other_options_are_not_taken(tmp_path):
    """Neither from the record nor from a folder."""
    finished(tmp_path / "runs/8s/seed-0", 50.0, 24)
    short = "claims.py 8s --seeds 0 --out runs --images 48 --record record.json"
    assert tool(short, folder=tmp_path).returncode == 0
    result = json.loads((tmp_path / "record.json").read_text())["8s"]["0"]
    assert result["mIoU"] == 50 and result["images"] == 48 and result["machine"]
    for command, message in {
        short.replace("48", "800"): "record.json: 8s, seed 0 was trained with images=48, not 800;",
        f"{short} --amp": "record.json: 8s, seed 0 was trained with amp=False, not True;",
        short.replace("record.", "new.").replace("48", "800"): "seed-0: was begun with other",
    }.items():
        done = tool(command, folder=tmp_path)
        assert done.returncode == 1 and message in done.stderr


@pytest.mark.parametrize("row", claims.ROWS)
def test_settings_are_those_of_the_configs(row):
    """All but the new ones replace a value that is there: a mistyped one would do nothing."""
    args = Namespace(images=800, amp=True, weights=Path("convs.caffemodel"))
    options = dict(option.split("=", 1) for option in claims.settings(claims.ROWS[row], 7, args))
    for name in claims.ROWS[row].configs:
        cfg = Config.fromfile(REPOSITORY / f"configs/{name}.py")
        for key in options.keys() - NEW:
            value = cfg
            for part in key.split("."):
                value = value[int(part) if part.isdigit() else part]
    steps = int(options["train_cfg.max_iters"])
    seen = steps * int(options["train_dataloader.batch_size"]) * len(claims.ROWS[row].configs)
    assert 790 <= seen <= 800 and options["randomness.seed"] == "7"
    # An interrupted run has snapshots to go on from.
    assert 2 * int(options["default_hooks.checkpoint.interval"]) < steps


def test_the_documentation_has_the_table_of_the_record():
    record = json.loads(claims.RECORD.read_text())
    assert claims.table(record) in (REPOSITORY / "docs/camvid.md").read_text()
