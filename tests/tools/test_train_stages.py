"""The chain of stages: handed on, restarted wherever it was killed, refused where it is another."""

import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.config import Config
from PIL import Image
from tools.running import REPOSITORY, TOOLS, as_module, tool

from fcn_plugin.checks import config as config_check
from fcn_plugin.errors import UserError

ITERATIONS, EVERY = 6, 2


@pytest.fixture(scope="module")
def stages():
    """The tool as a module."""
    with as_module("train_stages") as module:
        yield module


# --- a whole chain ----------------------------------------------------------------------------


def picture(path: Path, pixels: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)


@pytest.fixture(scope="module")
def project(tmp_path_factory) -> Path:
    """The published FCN-32s and 16s, reduced in width and length, and images for them."""
    folder = tmp_path_factory.mktemp("project")
    random = np.random.default_rng(0)
    voc = "VOCdevkit/VOC2011"
    parts = {
        ("sbd/img", "sbd/SegmentationClass", "sbd/train.txt"): ("s1", "s2", "s3"),
        (
            f"{voc}/JPEGImages",
            f"{voc}/SegmentationClass",
            f"{voc}/ImageSets/Segmentation/seg11valid.txt",
        ): ("v1", "v2"),
    }
    for (image_dir, label_dir, list_file), names in parts.items():
        for name in names:
            size = (int(random.integers(30, 40)), 33)
            image = random.integers(0, 256, (*size, 3), np.uint8)
            label = random.choice(np.array([0, 1, 20, 255], np.uint8), size)
            picture(folder / "data" / image_dir / f"{name}.jpg", image)
            picture(folder / "data" / label_dir / f"{name}.png", label)
        path = folder / "data" / list_file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("\n".join(names) + "\n")
    for net, channels in dict(fcn32s=(8,), fcn16s=(16, 8)).items():
        (folder / f"{net}.py").write_text(
            f"""
_base_ = "{REPOSITORY}/configs/{net}_vgg16_voc2011-heavy.py"
model = dict(
    backbone=dict(base_channels=2, fc_channels=8, init_cfg=None),
    decode_head=dict(in_channels={channels}),
)
train_dataloader = dict(num_workers=0, persistent_workers=False)
val_dataloader = dict(num_workers=0, persistent_workers=False)
test_dataloader = val_dataloader
optim_wrapper = dict(optimizer=dict(lr=1e-7))
train_cfg = dict(max_iters={ITERATIONS}, val_interval={EVERY})
default_hooks = dict(checkpoint=dict(interval={EVERY}), logger=dict(interval=1))
"""
        )
    return folder


CHAIN = ("fcn32s.py", "fcn16s.py", "--work-dir", "chain")


def kill_at(line: str, folder: Path) -> str:
    """Start the chain, and kill it with all its processes when it prints ``line``."""
    process = subprocess.Popen(
        [sys.executable, TOOLS / "train_stages.py", *CHAIN],
        cwd=folder,
        env=os.environ | dict(PYTHONPATH=str(REPOSITORY), OMP_NUM_THREADS="1"),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    seen = []
    for text in process.stdout:
        seen.append(text)
        if line in text:
            os.killpg(process.pid, signal.SIGKILL)
            break
    process.wait()
    assert line in seen[-1], "".join(seen)
    return "".join(seen)


def weights(file: Path) -> dict:
    return torch.load(file, weights_only=True)["state_dict"]


@pytest.fixture(scope="module")
def runs(project) -> list[str]:
    """What it printed: killed in the first stage, killed between the two, and to the end."""
    first = kill_at(f"Iter(train) [{EVERY + 1}/{ITERATIONS}]", project)
    # As if it had been killed while it wrote the next snapshot.
    whole = (project / "chain/fcn32s/iter_2.pth").read_bytes()
    (project / "chain/fcn32s/iter_4.pth").write_bytes(whole[:-1000])
    second = kill_at("fcn16s: starts from", project)
    last = tool("train_stages.py", *CHAIN, folder=project)
    assert last.returncode == 0, last.stderr
    return [first, second, last.stdout]


def test_a_stage_goes_on_where_it_was_killed(runs):
    assert f"stage 1 of 2: fcn32s: {ITERATIONS} iterations" in runs[0]
    assert "iter_4.pth: damaged, passed over" in runs[1]
    assert f"stage 1 of 2: fcn32s: goes on from iteration {EVERY} of {ITERATIONS}" in runs[1]
    # Its snapshot had been scored already.
    assert runs[1].index("Iter(val)") > runs[1].index(f"Iter(train) [{EVERY + 1}/{ITERATIONS}]")
    assert f"Iter(train) [{EVERY}/{ITERATIONS}]" not in runs[1]


def test_a_finished_stage_is_not_trained_again(runs):
    assert "stage 1 of 2: fcn32s: done before, mIoU" in runs[2]
    assert f"stage 2 of 2: fcn16s: {ITERATIONS} iterations" in runs[2]
    assert runs[2].count(f"Iter(train) [{ITERATIONS}/{ITERATIONS}]") == 1
    assert runs[2].strip().splitlines()[-1].startswith("Done: 2 of 2 stages; the last reached mIoU")


def test_the_record_names_the_best_snapshots(runs, project):
    record = json.loads((project / "chain/stages.json").read_text())
    assert record["configs"] == ["fcn32s", "fcn16s"]
    for name, entry in zip(record["configs"], record["done"], strict=True):
        (best,) = (project / "chain" / name).glob("best_mIoU_iter_*.pth")
        assert entry["config"] == name
        assert entry["file"] == f"{name}/{best.name}"
        content = torch.load(best, weights_only=True)
        assert entry["iteration"] == content["meta"]["iter"]
        assert entry["score"] == content["message_hub"]["runtime_info"]["best_score"]


def test_the_second_stage_starts_with_the_first_ones_best(runs, project):
    record = json.loads((project / "chain/stages.json").read_text())
    best = weights(project / "chain" / record["done"][0]["file"])
    start = weights(project / "chain/fcn16s/start.pth")
    assert set(start) == {*best, "decode_head.score.1.weight", "decode_head.score.1.bias"}
    for kind in ("weight", "bias"):
        handed, given = start[f"decode_head.score.1.{kind}"], best[f"decode_head.score.0.{kind}"]
        assert handed.abs().max() > 0
        assert torch.equal(handed, given)  # score_fr
        assert (start[f"decode_head.score.0.{kind}"] == 0).all()  # score_pool4
    backbone = [key for key in best if key.startswith("backbone.")]
    assert len(backbone) == 30
    assert all(torch.equal(start[key], best[key]) for key in backbone)
    loaded = runs[2].index("Load checkpoint from chain/fcn16s/start.pth")
    assert loaded < runs[2].index(f"Iter(train) [1/{ITERATIONS}]")


@pytest.fixture
def again(runs, stages, project, monkeypatch):
    """A function that gives the same command once more, with ``options``, in this process."""
    monkeypatch.chdir(project)
    monkeypatch.setattr(stages, "TRAIN", "/nonexistent")
    before = signal.getsignal(signal.SIGTERM)

    def call(*options: str) -> None:
        monkeypatch.setattr(sys, "argv", ["train_stages.py", *CHAIN, *options])
        stages.main()

    yield call
    signal.signal(signal.SIGTERM, before)


def test_a_finished_chain_has_nothing_left_to_do(again, runs, capsys):
    again("--cfg-options", "train_dataloader.num_workers=1")
    printed = capsys.readouterr().out.splitlines()
    assert printed[0].startswith("stage 1 of 2: fcn32s: done before, mIoU")
    assert printed[1].startswith("stage 2 of 2: fcn16s: done before, mIoU")
    assert printed[2] == runs[2].strip().splitlines()[-1]


def test_other_options_are_refused(again):
    with pytest.raises(UserError) as error:
        again("--cfg-options", "optim_wrapper.optimizer.lr=1e-9")
    assert str(error.value).startswith("chain/fcn32s: was begun with optim_wrapper.optimizer.lr=")
    assert "=1e-07, which is 1e-09 now" in str(error.value)


def test_help_is_quick_to_answer(tmp_path):
    run = tool("train_stages.py", "--help", folder=tmp_path, PYTHONPATH="/nonexistent")
    assert run.returncode == 0
    for part in ("CONFIG", "--work-dir", "--amp", "--cfg-options", "fcn16s_vgg16_voc2011-heavy"):
        assert part in run.stdout


# --- snapshots --------------------------------------------------------------------------------


def write(folder: Path, name: str, score: float | None = None, key: str = "best_score") -> Path:
    """A checkpoint as the host's hook leaves it."""
    iteration = int(name.rpartition("_")[2])
    info = {} if score is None else {key: score}
    content = dict(meta=dict(iter=iteration), message_hub=dict(runtime_info=info), state_dict={})
    folder.mkdir(parents=True, exist_ok=True)
    torch.save(content, folder / f"{name}.pth")
    return folder / f"{name}.pth"


@pytest.fixture
def stage(stages, tmp_path):
    """A function of the settings of a config that gives a stage of ten iterations."""

    def build(name: str = "one", **settings):
        cfg = dict(train_cfg=dict(max_iters=10), model=dict(decode_head=dict(num_classes=21)))
        return stages.Stage(Path(f"{name}.py"), tmp_path / name, Config(cfg | settings))

    return build


def test_the_newest_readable_snapshot_is_gone_on_from(stages, tmp_path):
    assert stages.newest_snapshot(tmp_path) is None
    for number in (8, 10, 9):
        write(tmp_path, f"iter_{number}")
    assert stages.newest_snapshot(tmp_path).iteration == 10
    for torn in (b"", (tmp_path / "iter_10.pth").read_bytes()[:-1], b"notes"):
        (tmp_path / "iter_10.pth").write_bytes(torn)
        assert stages.newest_snapshot(tmp_path).iteration == 9


def test_a_stage_is_finished_at_its_last_iteration_only(stages, stage):
    one = stage()
    with pytest.raises(UserError, match="ended with no snapshot instead of iteration 10"):
        stages.finished(one, "stage 1 of 1: one")
    write(one.folder, "iter_8")
    write(one.folder, "best_mIoU_iter_4", 50.0)
    with pytest.raises(UserError, match="ended with iteration 8 instead of iteration 10"):
        stages.finished(one, "stage 1 of 1: one")


def test_the_best_snapshot_is_handed_on(stages, stage, capsys):
    one = stage()
    last = write(one.folder, "iter_10", 50.0)
    assert stages.finished(one, "") == stages.Snapshot(last, 10)  # without save_best
    old = write(one.folder, "best_mIoU_iter_4", 50.0)
    assert stages.finished(one, "") == stages.Snapshot(old, 4, "mIoU", 50.0)
    new = write(one.folder, "best_mIoU_iter_8", 50.5)
    assert stages.finished(one, "") == stages.Snapshot(new, 8, "mIoU", 50.5)
    new.write_bytes(new.read_bytes()[:-1])
    assert stages.finished(one, "").file == old
    assert "best_mIoU_iter_8.pth: damaged" in capsys.readouterr().out


def test_the_best_by_the_first_of_several_metrics(stages, stage):
    one = stage(default_hooks=dict(checkpoint=dict(save_best=["mIoU", "aAcc"])))
    write(one.folder, "iter_10")
    write(one.folder, "best_aAcc_iter_8", 90.0, key="best_score_aAcc")
    best = write(one.folder, "best_mIoU_iter_4", 50.0, key="best_score_mIoU")
    assert stages.finished(one, "") == stages.Snapshot(best, 4, "mIoU", 50.0)


# --- what a stage starts from -----------------------------------------------------------------


CONFIGS = REPOSITORY / "configs"


def chain(stages, tmp_path, monkeypatch, *names: str, options=()):
    """The stages of shipped configs at full width, whose data need not be there."""
    monkeypatch.setattr(config_check, "check_datasets", lambda cfg, loaders: None)
    args = argparse.Namespace(
        configs=[CONFIGS / f"{name}.py" for name in names], cfg_options=list(options)
    )
    return stages.read_stages(args, tmp_path)


HEAVY = [f"fcn{net}_vgg16_voc2011-heavy" for net in ("32s", "16s", "8s")]


@pytest.mark.parametrize(
    "options", [[], ["model.decode_head.upsample=deconv"]], ids=["fixed", "learned"]
)
def test_the_published_chain_fits_together(stages, tmp_path, monkeypatch, options):
    """Learned kernels, which have another stride in every stage, start as bilinear."""
    read = chain(stages, tmp_path, monkeypatch, *HEAVY, options=options)
    assert [stages.net_of(stage) for stage in read] == ["fcn32s", "fcn16s", "fcn8s"]


@pytest.mark.parametrize(
    ("names", "said"),
    [
        ([*HEAVY[:1], "psp_vgg16_voc"], "psp_vgg16_voc.py: cannot be a stage of a chain"),
        (["fcn8s_r50_voc", *HEAVY[2:]], "fcn8s_r50_voc.py: cannot be a stage of a chain"),
        ([*HEAVY[:1], "fcn16s_vgg16_pascal-context-heavy"], r"\(21,\) where it needs \(60,\)"),
        (["fcn32s_alexnet_voc2011", HEAVY[1]], "makes fcn32s, not fcn16s"),
        ([HEAVY[2], "fcn8s-atonce_vgg16_voc2011-heavy"], "were trained without scales"),
    ],
    ids=["another head", "another backbone", "other classes", "AlexNet", "at once"],
)
def test_an_impossible_chain_is_refused_before_it_begins(
    stages, tmp_path, monkeypatch, names, said
):
    with pytest.raises(UserError, match=said):
        chain(stages, tmp_path, monkeypatch, *names)


def test_weights_that_do_not_fit_are_refused(stages, stage):
    """The host would only warn, and train what it could not load from scratch."""
    backbone = dict(type="ConvolutionalizedVGG", depth=11, base_channels=2, out_indices=(4,))
    head = dict(type="SkipFusionHead", in_channels=(16,), in_index=(0,), num_classes=5)
    one = stage(model=dict(type="EncoderDecoder", backbone=backbone, decode_head=head))
    one.cfg.model.test_cfg = dict(mode="whole")
    state = stages.model_of(one).state_dict()
    stages.check_fit(state, one)
    name = "decode_head.score.0.weight"
    for wrong, said in [
        (dict(state, **{name: torch.zeros(21, 16, 1, 1)}), r"\(21, 16, 1, 1\) where it needs \(5"),
        ({key: value for key, value in state.items() if key != name}, r"none where it needs \(5"),
        (dict(state, more=torch.zeros(1)), r"more \(1,\) where it needs none"),
    ]:
        with pytest.raises(UserError, match=said):
            stages.check_fit(wrong, one)


# --- restarting -------------------------------------------------------------------------------


def arguments(amp: bool = False) -> argparse.Namespace:
    return argparse.Namespace(amp=amp)


def record(stages, folder: Path, *chain, amp: bool = False):
    return stages.Record(folder, list(chain), arguments(amp))


@pytest.fixture
def begun(stages, stage, tmp_path):
    """A chain of two stages, killed in the first."""
    one, two = stage("one"), stage("two")
    record(stages, tmp_path, one, two).begin(one)
    write(one.folder, "iter_4")
    return one, two


def test_done_stages_are_remembered_wherever_the_folder_is(stages, stage, begun, tmp_path):
    one, two = begun
    best = stages.Snapshot(write(one.folder, "best_mIoU_iter_4", 50.0), 4, "mIoU", 50.0)
    record(stages, tmp_path, one, two).finish(best)
    assert record(stages, tmp_path, one, two).done == [best]
    assert not list(tmp_path.rglob("*.part"))

    moved = tmp_path / "elsewhere"
    moved.mkdir()
    for name in ("one", "stages.json"):
        shutil.move(tmp_path / name, moved / name)
    one.folder, two.folder = moved / "one", moved / "two"
    assert record(stages, moved, one, two).done[0].file == moved / "one/best_mIoU_iter_4.pth"
    (moved / "one/best_mIoU_iter_4.pth").unlink()
    with pytest.raises(UserError, match="best snapshot of a finished stage is gone"):
        record(stages, moved, one, two)


def test_a_chain_can_be_made_longer_but_not_another(stages, stage, begun, tmp_path):
    one, two = begun
    assert record(stages, tmp_path, one, two, stage("three")).done == []
    for other in ([two, one], [one], [stage("three"), two]):
        with pytest.raises(UserError, match="of the chain one, two, not of"):
            record(stages, tmp_path, *other)
    shutil.rmtree(one.folder)  # nothing has been trained: nothing to protect
    record(stages, tmp_path, two, one)


def test_a_stage_that_was_begun_keeps_its_settings(stages, stage, begun, tmp_path):
    one, two = begun
    changed = stage("one", optim_wrapper=dict(optimizer=dict(lr=1e-10)))
    with pytest.raises(UserError, match=r"one: was begun with optim_wrapper.*=\(none\), which is"):
        record(stages, tmp_path, changed, two)
    with pytest.raises(UserError, match=r"was begun with --amp=False, which is True now"):
        record(stages, tmp_path, one, two, amp=True)
    # Stages to come and the machine's own business are free.
    loader = dict(num_workers=2, persistent_workers=True)
    longer = stage("two", train_cfg=dict(max_iters=20))
    record(stages, tmp_path, stage("one", train_dataloader=loader, log_level="ERROR"), longer)
    (one.folder / "iter_4.pth").unlink()
    record(stages, tmp_path, changed, two)


def test_checkpoints_of_another_run_are_refused(stages, stage, tmp_path):
    one = stage("one")
    write(one.folder, "iter_4")
    with pytest.raises(UserError, match="one: has checkpoints of another run; give another"):
        record(stages, tmp_path, one)


# --- a stage that fails -----------------------------------------------------------------------


@pytest.mark.parametrize(
    "command, how", [("exit 3", "exit status 3"), ("kill -KILL $$", "SIGKILL")], ids=str
)
def test_a_failing_stage_is_named_with_the_remedy(stages, command, how):
    message = rf"stage 2 of 3: two: tools/train\.py ended with {how}; .* same command again"
    with pytest.raises(UserError, match=message):
        stages.train(["sh", "-c", command], "stage 2 of 3: two", ())


def test_an_interrupted_stage_interrupts_the_chain(stages):
    with pytest.raises(KeyboardInterrupt):
        stages.train(["sh", "-c", "exit 130"], "", ())


def test_an_interrupted_chain_ends_its_stage(stages, tmp_path):
    started = tmp_path / "started"

    def interrupt(number, frame):
        sys.exit(143)

    before = signal.signal(signal.SIGALRM, interrupt)
    signal.setitimer(signal.ITIMER_REAL, 0.5)
    try:
        with pytest.raises(SystemExit):
            stages.train(["sh", "-c", f"echo $$ > {started}; exec sleep 60"], "", ())
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    with pytest.raises(ProcessLookupError):
        os.kill(int(started.read_text()), 0)
