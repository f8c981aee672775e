"""The way from data to scores, step by step as a user goes it, and back from an interruption."""

import json
import re
import shutil
import sys
from pathlib import Path

import mmseg
import numpy as np
import pytest
import torch
from families import NEWER_TORCH
from PIL import Image
from report_samples import Page
from tools.running import as_module, config, ran, started, tool

from fcn_plugin.evaluation.intervals import HIGH, LOW
from fcn_plugin.evaluation.measures import MEASURES
from fcn_plugin.prepare.shapes import write_shapes
from fcn_plugin.system.locks import claim
from fcn_plugin.system.machine import threads_of

SCORES = ("aAcc", "mAcc", "mIoU", "fwIoU")
VAL = 7  # odd, so that two processes have to repeat one


def scores(text: str) -> dict[str, float]:
    """The scores of the last line that has them."""
    line = [line for line in text.splitlines() if "fwIoU:" in line][-1]
    return {name: float(re.search(rf"{name}: ([\d.]+|nan)", line)[1]) for name in SCORES}


def losses(work_dir: Path) -> list[float]:
    log = next(work_dir.glob("*/vis_data/scalars.json"))
    entries = map(json.loads, log.read_text().splitlines())
    return [entry["loss"] for entry in entries if "loss" in entry]


@pytest.fixture(scope="module")
def project(tmp_path_factory) -> Path:
    """A folder with data/shapes, a tiny config and one finished run."""
    folder = tmp_path_factory.mktemp("project")
    write_shapes(folder / "data" / "shapes", train=16, val=VAL, size=32)
    rates = "optim_wrapper = dict(paramwise_cfg=dict(bias_lr_mult=2.0))"  # as Caffe has them
    run = ran("train.py", config(folder, rates), folder=folder)
    (folder / "train.log").write_text(run.stdout)
    return folder


def test_training_leaves_checkpoints_and_logs(project):
    """The config and the hooks are in the log file only, mmengine's idle lines in neither."""
    printed = (project / "train.log").read_text()
    work = project / "work_dirs" / "tiny"
    left = {"iter_4.pth", "best_mIoU_iter_4.pth", "last_checkpoint", "tiny.py"}
    assert left <= {file.name for file in work.iterdir()}
    assert list(work.glob("*/vis_data/events.out.tfevents.*"))
    (file,) = re.findall(r"Log, with the config and all hooks: (.+\.log)$", printed, re.MULTILINE)
    for words in ("Config:\n", "Hooks will be executed"):
        assert words in Path(file).read_text() and words not in printed
    for words in ("paramwise_options", "FileClient", "HardDiskBackend"):
        assert words not in Path(file).read_text() + printed


def test_a_second_run_in_a_work_dir_is_refused_and_changes_nothing(project, tmp_path):
    (tmp_path / "tiny.py").write_text("the running run's config\n")
    claim(tmp_path, patience=0)  # as the running one does, until this process ends
    done = tool("train.py", "tiny.py", "--work-dir", tmp_path, folder=project)
    assert done.returncode == 1
    assert f"error: {tmp_path}: another run is still at work there" in done.stderr
    assert (tmp_path / "tiny.py").read_text() == "the running run's config\n"


def test_testing_repeats_the_scores_and_writes_labels_and_pictures(project):
    options = "--out labels --show-dir pictures --show-interval 3"
    run = ran(f"test.py tiny.py work_dirs/tiny {options}", folder=project)
    assert scores(run.stdout) == scores((project / "train.log").read_text())
    labels = sorted((project / "labels").iterdir())
    assert len(labels) == VAL
    assert np.asarray(Image.open(labels[0])).max() < 5
    assert len(list((project / "pictures").iterdir())) == 3


def test_averaged_weights_are_what_is_scored(project):
    """By training with --test after an interruption, by testing, and not the last weights."""
    # Score layers that begin with 0, or at a higher rate, find nothing but background for long.
    head = "layer=Conv2d type=Normal std=1".replace(" ", " model.decode_head.init_cfg.")
    settings = [f"model.decode_head.init_cfg.{head}", "optim_wrapper.optimizer.lr=0.01"]
    settings += ["default_hooks.ema.type=EMAHook default_hooks.ema.momentum=0.3"]
    train = f"train.py tiny.py --work-dir mean --resume --cfg-options {' '.join(settings)}"
    ran(f"{train} train_cfg.max_iters=2", folder=project)
    trained = ran(train.replace("--cfg", "--test train --cfg"), folder=project).stdout
    assert "Next: fcn-plugin report mean" in trained
    averaged = scores(ran("test.py tiny.py mean --split train", folder=project).stdout)
    assert scores(trained) == averaged
    saved = torch.load(next((project / "mean").glob("best_*.pth")), weights_only=False)
    last = {name: value for name, value in saved["ema_state_dict"].items() if name != "steps"}
    last = {name.removeprefix("module."): value for name, value in last.items()}
    torch.save(dict(state_dict=last, meta=saved["meta"]), project / "last.pth")
    assert scores(ran("test.py tiny.py last.pth --split train", folder=project).stdout) != averaged


def test_trials_of_the_batch_change_nothing_and_a_resumed_run_keeps_its_own(project):
    train = "train.py tiny.py --batch auto --work-dir tried"
    said = ran(train, folder=project).stdout
    assert "--batch auto: 4 of the config's 4 images in a batch; " in said
    assert losses(project / "tried") == losses(project / "work_dirs/tiny")
    smaller = "train_dataloader.batch_size=2 train_cfg.max_iters=2"
    ran(f"train.py tiny.py --work-dir smaller --cfg-options {smaller}", folder=project)
    said = ran("train.py tiny.py --batch auto --resume --work-dir smaller", folder=project).stdout
    assert "--batch auto: with 0.5 times the batch" in said
    assert re.findall(r"Iter\(train\) \[(\d)/8\]", said) == list("345678")
    run = tool("train.py tiny.py --batch auto --launcher pytorch", folder=project)
    assert run.returncode == 1 and "error: --batch auto tries a single process" in run.stderr


def test_a_split_to_score_after_training(project):
    """test if it has labels, else val; what cannot be scored is refused before the training."""
    splits = "splits.test.ann_file=ImageSets/Segmentation/train.txt"
    short = f"train.py tiny.py --work-dir short --cfg-options train_cfg.max_iters=1 {splits}"
    images = []
    for more in ("", "splits.test.data_prefix.img_path=JPEGImages"):
        run = ran(f"{short} {more}".replace("--cfg", "--test --cfg"), folder=project)
        images.append(re.findall(r"Iter\(test\) +\[(\d+)/\1\]", run.stdout)[-1])
    assert images == ["8", "4"]  # batches of two: 16 images of train, 7 of val
    for split, message in {
        "test": "the images of test have no labels to score against",
        "none": "--test none: tiny.py has only train, val, test",
    }.items():
        run = tool(f"{short} {more}".replace("--cfg", f"--test {split} --cfg"), folder=project)
        assert run.returncode == 1 and message in run.stderr


@NEWER_TORCH
def test_mixed_precision_and_a_compiled_network(project):
    """aot_eager needs no compiler; where a network cannot be compiled, that is refused."""
    train, steps = "train.py tiny.py --work-dir", "randomness.seed=3 train_cfg.max_iters=2"
    ran(f"{train} amp --amp --cfg-options {steps}", folder=project)
    ran(f"{train} plain --cfg-options {steps}", folder=project)
    steps += " compile.backend=aot_eager"
    ran(f"{train} compiled --cfg-options {steps}", folder=project)
    amp, plain, compiled = (losses(project / work) for work in ("amp", "plain", "compiled"))
    assert len(plain) == 2 and compiled == pytest.approx(plain, rel=1e-5)
    assert amp != plain and amp == pytest.approx(plain, rel=0.1)
    run = tool(f"{train} no --cfg-options {steps} model.backbone.with_cp=True", folder=project)
    assert run.returncode == 1
    assert "error: compile: torch.compile cannot recompute layers" in run.stderr


def test_two_processes(project):
    """A training step and an evaluation by two gloo processes; the scores are those of one."""
    settings = "train_cfg.max_iters=1 find_unused_parameters=True"
    train = f"dist_train.sh tiny.py 2 --work-dir two --test --cfg-options {settings}"
    run = ran(train, folder=project, MASTER_PORT="29611")
    assert "GPU number: 2" in run.stdout and "Iter(test) [2/2]" in run.stdout
    checkpoint = "work_dirs/tiny/iter_4.pth"
    test = f"dist_test.sh tiny.py {checkpoint} 2 --report page.html --submission two.zip"
    two = ran(f"{test} --interval", folder=project, MASTER_PORT="29612")
    options = "--submission one.zip --interval --work-dir one"
    one = ran(f"test.py tiny.py {checkpoint} {options}", folder=project)
    assert scores(two.stdout) == scores(one.stdout)
    shown = [re.findall(r"\[\d+\.\d\d, \d+\.\d\d\]", run.stdout) for run in (one, two)]
    assert shown[0] == shown[1] and len(shown[0]) > 4  # of some classes, and of all scores
    saved = json.loads(next(project.glob("one/*/*.json")).read_text())
    low, score, high = (saved[f"mIoU{end}"] for end in ("_low", "", "_high"))
    bounds = f"[{low:.2f}, {high:.2f}]"
    assert re.search(rf"\| mIoU +\| +{score:.2f} \| +{re.escape(bounds)} \|", one.stdout)
    last = one.stdout.splitlines()[-2]
    assert f"mIoU {score:.1f} [{low:.1f}, {high:.1f}]  fwIoU" in last and len(last) <= 120
    assert bounds in Page((project / "page.html").read_text()).text
    assert (project / "two.zip").read_bytes() == (project / "one.zip").read_bytes()


def test_the_last_line_is_short_and_the_table_has_all_scores():
    measured = [key for keys in MEASURES.values() for key in keys]
    drawn = {f"{name}{end}": 50.128 for name in (*SCORES, *measured) for end in ("", LOW, HIGH)}
    with as_module("splits") as splits:
        line, table = splits.score_line(drawn), splits.all_scores(drawn)
        assert line == "aAcc 50.1  mAcc 50.1  mIoU 50.1 [50.1, 50.1]  fwIoU 50.1"
        rows = [row.split() for row in table.replace("|", "").splitlines()]
        assert [row[0] for row in rows if "[50.13," in row] == [*SCORES, *measured]
        # Of a further task, and of another metric.
        assert splits.score_line({"geo/mIoU": 1, "geo/ECE": float("nan")}) == "geo/mIoU 1.0"
        assert splits.score_line({"mFscore": 1}) == "mFscore 1.0"
        assert "interval" not in splits.all_scores({"mFscore": 1})


def test_what_has_no_intervals_is_refused_before_scoring(project):
    unlabelled = "test_dataloader.dataset.data_prefix.seg_map_path=None"
    for options, message in {
        "--interval-by scene": "val_00000.jpg: it and all other images are of the scene val, and",
        "--interval --cfg-options test_evaluator.type=IoUMetric": "--interval: nothing in",
        f"--interval --out none --cfg-options {unlabelled}": "--interval: the test images of tiny",
    }.items():
        run = tool(f"test.py tiny.py work_dirs/tiny {options}", folder=project)
        assert run.returncode == 1 and message in run.stderr and "Iter(test)" not in run.stdout


@pytest.mark.parametrize("script", ["dist_train.sh c.py", "dist_test.sh c.py c.pth"])
def test_processes_divide_the_cores_unless_the_user_has_chosen(script, tmp_path):
    """A Python that only shows its threads stands in for torch.distributed.run."""
    python = tmp_path / "python"
    threads = f'case $1 in *threads.py) exec {sys.executable} "$@"; esac'
    python.write_text(f'#!/bin/sh\n{threads}\necho "$OMP_NUM_THREADS $@"\n')
    python.chmod(0o755)
    count = threads_of(2)[0]
    for processes, chosen, threads in (("2", "", count), ("gpu", "", 1), ("2", "7", 7)):
        environment = dict(PYTHON=str(python), OMP_NUM_THREADS=chosen)
        run = ran(f"{script} {processes}", folder=tmp_path, **environment)
        assert run.stdout.startswith(f"{threads} -m torch.distributed.run ")
        assert f"--nproc-per-node {processes} " in run.stdout
        said = (
            f"threads: {count} in each of 2 processes" if (processes, chosen) == ("2", "") else ""
        )
        assert run.stderr.startswith(said) and bool(run.stderr) == bool(said)


def test_scripts(tmp_path):
    """An srun that only prints what it was given stands in for Slurm."""
    for name in ("dist_train.sh", "dist_test.sh", "slurm_train.sh"):
        run = tool(name, folder=tmp_path)
        assert run.returncode == 2 and run.stderr.startswith("usage:")
    run = tool("dist_train.sh", "c.py", 2, folder=tmp_path, NODES="2", MAX_RESTARTS="1")
    assert run.returncode == 1 and run.stderr.startswith("error: MAX_RESTARTS is for one machine")
    machines = dict(PYTHON="/bin/echo", OMP_NUM_THREADS="1", NODES="2", MASTER_ADDR="10.0.0.1")
    for script in ("dist_train.sh c.py 4", "dist_test.sh c.py c.pth 4"):
        run = ran(script, folder=tmp_path, **machines)
        assert "--nnodes 2 --node-rank 0 --master-addr 10.0.0.1 --master-port 29500" in run.stdout
        assert run.stderr == "Meeting 2 machines at 10.0.0.1, port 29500\n"
    srun = tmp_path / "srun"
    srun.write_text('#!/bin/sh\necho "$@"\n')
    srun.chmod(0o755)
    environment = dict(PATH=f"{tmp_path}:/usr/bin:/bin", GPUS="16")
    said = ran("slurm_train.sh part job c.py --amp", folder=tmp_path, **environment).stdout
    tasks = "--partition part --job-name job --gres gpu:8 --ntasks 16 --ntasks-per-node 8"
    assert tasks in said and said.rstrip().endswith("train.py c.py --launcher slurm --amp")


@pytest.mark.slow
def test_mmsegs_own_tools(project):
    """mmseg's train.py and test.py, as they are installed, need nothing but our config."""
    mim = Path(mmseg.__file__).parent / ".mim" / "tools"
    submission = "test_evaluator.type=SubmissionMetric test_evaluator.file=theirs/a.zip"
    for name, options in {
        "train.py": "--work-dir theirs --cfg-options train_cfg.max_iters=1",
        "test.py": f"theirs/iter_1.pth --work-dir theirs --cfg-options {submission}",
    }.items():
        run = started(str(mim / name), "tiny.py", *options.split(), folder=project)
        assert run.returncode == 0, run.stderr[-2000:]
    shutil.unpack_archive(project / "theirs/a.zip", project / "theirs/labels")
    assert len(list((project / "theirs/labels").iterdir())) == VAL


def test_runs_go_on_and_a_new_one_sets_the_old_aside(project):
    train = "train.py tiny.py --work-dir again"
    two = f"{train} --cfg-options train_cfg.max_iters=2"
    ran(two, folder=project)
    # load_from is what a run starts with, not what it goes on from.
    settings = "train_cfg.max_iters=3 load_from=work_dirs/tiny/iter_4.pth"
    resumed = ran(f"{train} --resume --cfg-options {settings}", folder=project).stdout
    assert re.findall(r"Iter\(train\) \[(\d)/3\]", resumed) == ["3"]
    requeued = ran(train, folder=project, SLURM_RESTART_COUNT="1").stdout
    assert "Resumed after iteration 3; the 12 images already seen are not read again" in requeued
    assert not (project / "again/earlier_run_1").exists()
    anew = ran(two, folder=project).stdout
    assert "The checkpoints of an earlier run are now in again/earlier_run_1" in anew
    assert (project / "again/earlier_run_1/iter_4.pth").is_file()
