"""The chain of stages: handed on, restarted wherever it was killed, refused where it is another."""

import json
import os
import shutil
import signal
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from engine.runs import same
from mmengine.config import Config
from tools.running import REPOSITORY, Fork, as_module, config, ran, tool

from fcn_plugin.errors import UserError
from fcn_plugin.prepare.shapes import write_shapes

ITERATIONS, EVERY = 6, 2


@pytest.fixture(scope="module")
def stages():
    with as_module("stages") as module:
        yield module


LEVELS = dict(fcn32s=((5,), (8,)), fcn16s=((3, 5), (16, 8)))
CONFIG = """
model["backbone"].update(depth=16, norm_cfg=None, out_indices={})
model["decode_head"].update(in_channels={}, in_index={})
train_cfg = dict(max_iters={}, val_interval={})
"""


@pytest.fixture(scope="module")
def project(tmp_path_factory) -> Path:
    """A tiny FCN-32s and 16s, and shapes for them."""
    folder = tmp_path_factory.mktemp("project")
    write_shapes(folder / "data/shapes", train=4, val=2, size=32)
    for net, (levels, channels) in LEVELS.items():
        index = tuple(range(len(levels)))
        text = CONFIG.format(levels, channels, index, ITERATIONS, EVERY)
        config(folder, text).rename(folder / f"{net}.py")
    return folder


CHAIN = ("fcn32s.py", "fcn16s.py", "--work-dir", "chain")


def kill_at(line: str, folder: Path) -> str:
    """Start the chain, and kill it with all its processes when it prints ``line``."""
    with Fork("train_stages.py", *CHAIN, folder=folder) as fork:
        output = fork.files / "stdout"
        while not output.exists() or line not in output.read_text():
            assert not (fork.files / "status").exists(), fork.finished()
            time.sleep(0.02)
        os.killpg(fork.pid, signal.SIGKILL)
        return fork.finished().stdout


@pytest.fixture(scope="module")
def runs(project) -> list[str]:
    """What it printed: killed in the first stage, killed between the two, and to the end."""
    first = kill_at(f"Iter(train) [{EVERY + 1}/{ITERATIONS}]", project)
    # As if it had been killed while it wrote the next snapshot.
    whole = (project / "chain/fcn32s/iter_2.pth").read_bytes()
    (project / "chain/fcn32s/iter_4.pth").write_bytes(whole[:-1000])
    second = kill_at("fcn16s: starts from", project)
    last = ran("train_stages.py", *CHAIN, folder=project)
    return [first, second, last.stdout]


def test_a_killed_chain_goes_on_where_it_was(runs, project):
    assert f"Resumed after iteration {EVERY}; " in runs[1]
    # Its snapshot had been scored already.
    assert runs[1].index("Iter(val)") > runs[1].index(f"Iter(train) [{EVERY + 1}/{ITERATIONS}]")
    assert f"Iter(train) [{EVERY}/{ITERATIONS}]" not in runs[1]
    assert "stage 1 of 2: fcn32s: done before, mIoU" in runs[2]
    assert runs[2].count(f"Iter(train) [{ITERATIONS}/{ITERATIONS}]") == 1
    loaded = runs[2].index("Load checkpoint from chain/fcn16s/start.pth")
    assert loaded < runs[2].index(f"Iter(train) [1/{ITERATIONS}]")
    assert runs[2].strip().splitlines()[-2].startswith("Done: 2 of 2 stages; the last reached mIoU")


def test_the_second_stage_starts_with_the_first_ones_best(runs, project):
    (best,) = (project / "chain/fcn32s").glob("best_mIoU_iter_*.pth")
    state, start = (
        torch.load(file, weights_only=True)["state_dict"]
        for file in (best, project / "chain/fcn16s/start.pth")
    )
    score = "decode_head.score"
    pool4 = [start.pop(f"{score}.0.{kind}") for kind in ("weight", "bias")]
    assert not any(tensor.any() for tensor in pool4)
    handed = {name.replace(f"{score}.1", f"{score}.0"): tensor for name, tensor in start.items()}
    assert same(handed, dict(state)) and state[f"{score}.0.weight"].any()


def test_the_same_command_once_more(runs, project):
    """Nothing is left to do; another chain, or one with other settings, is refused."""
    workers = "train_dataloader.num_workers=1"
    done = ran("train_stages.py", *CHAIN, "--cfg-options", workers, folder=project)
    assert done.stdout.splitlines()[-1] == runs[2].strip().splitlines()[-1]
    rate = "optim_wrapper.optimizer.lr"
    for options, said in (
        ([*CHAIN, "--cfg-options", f"{rate}=1e-9"], f"chain/fcn32s: was begun with {rate}=0."),
        (["fcn16s.py", *CHAIN[2:]], "of the chain fcn32s, fcn16s, not of fcn16s"),
    ):
        run = tool("train_stages.py", *options, folder=project)
        assert run.returncode == 1 and said in run.stderr.splitlines()[-1]


def test_the_best_snapshot_else_an_older_one_else_the_last(stages, runs, project, tmp_path):
    shutil.copytree(project / "chain/fcn32s", tmp_path / "fcn32s")
    cfg = Config.fromfile(project / "fcn32s.py")
    finished = stages.Stage(project / "fcn32s.py", tmp_path / "fcn32s", cfg, None, {}, [])
    recorded = json.loads((project / "chain/stages.json").read_text())["done"][0]
    assert stages.best_snapshot(finished, "") == recorded
    best = tmp_path / recorded["file"]
    (best.parent / "best_mIoU_iter_99.pth").write_bytes(best.read_bytes()[:-1])
    assert stages.best_snapshot(finished, "") == recorded
    best.unlink()
    last = f"fcn32s/iter_{ITERATIONS}.pth"
    found = stages.best_snapshot(finished, "")
    assert found == recorded | dict(file=last, iteration=ITERATIONS, metric=None, score=None)

    cfg.train_cfg.max_iters = 8
    with pytest.raises(UserError, match="x: ended with iteration 6 instead of iteration 8"):
        stages.best_snapshot(finished, "x")


HEAVY = [f"fcn{net}_vgg16_voc2011-heavy" for net in ("32s", "16s", "8s")]
LEARNED = ["model.decode_head.upsample=deconv"]  # of another stride in every stage
CONTEXT, AT_ONCE = "fcn16s_vgg16_pascal-context-heavy", "fcn8s-atonce_vgg16_voc2011-heavy"
SIFTFLOW = [f"fcn{net}_vgg16_siftflow-heavy" for net in ("32s", "16s", "8s")]
# Configs, options, and why they cannot be a chain, said before it begins.
CHAINS = {
    "published": (HEAVY, [], None),
    "learned kernels": (HEAVY, LEARNED, None),
    "two tasks": (SIFTFLOW, [], None),
    "a task lost": ([SIFTFLOW[0], HEAVY[1]], [], "continue the stage before, which gives decode_h"),
    "another head": ([*HEAVY[:1], "psp_vgg16_voc"], [], "psp_vgg16_voc.py: cannot be a stage"),
    "other classes": ([*HEAVY[:1], CONTEXT], [], r"\(21,\) where it needs \(60,\)"),
    "at once": ([HEAVY[2], AT_ONCE], [], "were trained without scales"),
}


@pytest.mark.parametrize("name", CHAINS)
def test_shipped_configs_as_a_chain(stages, tmp_path, monkeypatch, name):
    """At full width; their data need not be there."""
    names, options, said = CHAINS[name]
    monkeypatch.setattr(stages, "check_datasets", lambda cfg, loaders: None)
    configs = [REPOSITORY / f"configs/{name}.py" for name in names]
    given = dict(configs=configs, cfg_options=options, pretrained="vgg16.caffemodel", amp=False)
    args = SimpleNamespace(**given, launcher="none", local_rank=0)
    if said:
        with pytest.raises(UserError, match=said):
            stages.read_stages(args, tmp_path)
    else:
        read = stages.read_stages(args, tmp_path)
        assert [stages.net_of(stage) for stage in read] == ["fcn32s", "fcn16s", "fcn8s"]
        files = [(stage.cfg.model.backbone.init_cfg or {}).get("checkpoint") for stage in read]
        assert files[0] == "vgg16.caffemodel" not in files[1:]
        assert all(files[0] in part for part in [*read[0].options[-1:], str(read[0].settings)])


def test_a_stage_that_fails_or_is_interrupted_ends_the_chain(stages):
    for command, how in (("exit 3", "exit status 3"), ("kill -KILL $$", "SIGKILL")):
        with pytest.raises(UserError, match=rf"two: .* ended with {how}; .* same command again"):
            stages.train(["sh", "-c", command], "two")
    with pytest.raises(KeyboardInterrupt):
        stages.train(["sh", "-c", "exit 130"], "")
