"""The chain of stages: handed on, restarted wherever it was killed, refused where it is another."""

import json
import os
import shutil
import signal
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from mmengine.config import Config
from PIL import Image
from tools.running import REPOSITORY, Fork, as_module, ran

from fcn_plugin.errors import UserError

ITERATIONS, EVERY = 6, 2


@pytest.fixture(scope="module")
def stages():
    with as_module("stages") as module:
        yield module


VOC = "VOCdevkit/VOC2011"
LISTS = {"sbd/train.txt": "abc", f"{VOC}/ImageSets/Segmentation/seg11valid.txt": "vw"}
CONFIG = """
_base_ = "{path}/{net}_vgg16_voc2011-heavy.py"
model = dict(
    backbone=dict(base_channels=2, fc_channels=8, init_cfg=None),
    decode_head=dict(in_channels={channels}),
)
train_dataloader = dict(num_workers=0, persistent_workers=False)
test_dataloader = val_dataloader = train_dataloader
optim_wrapper = dict(optimizer=dict(lr=1e-7))
train_cfg = dict(max_iters={iterations}, val_interval={every})
default_hooks = dict(checkpoint=dict(interval={every}), logger=dict(interval=1))
"""


@pytest.fixture(scope="module")
def project(tmp_path_factory) -> Path:
    """The published FCN-32s and 16s, reduced in width and length, and images for them."""
    folder, random = tmp_path_factory.mktemp("project"), np.random.default_rng(0)
    data = folder / "data"
    for images in ("sbd/img", f"{VOC}/JPEGImages"):
        (data / images).mkdir(parents=True)
        (data / images).with_name("SegmentationClass").mkdir()
    for listed, names in LISTS.items():
        (data / listed).parent.mkdir(parents=True, exist_ok=True)
        (data / listed).write_text("\n".join(names) + "\n")
        images = data / ("sbd/img" if listed.startswith("sbd") else f"{VOC}/JPEGImages")
        for name in names:
            size = (int(random.integers(30, 40)), 33)
            pixels = random.integers(0, 256, (*size, 3), np.uint8)
            Image.fromarray(pixels).save(images / f"{name}.jpg")
            label = random.choice(np.array([0, 1, 20, 255], np.uint8), size)
            Image.fromarray(label).save(images.with_name("SegmentationClass") / f"{name}.png")
    for net, channels in dict(fcn32s=(8,), fcn16s=(16, 8)).items():
        numbers = dict(channels=channels, iterations=ITERATIONS, every=EVERY)
        text = CONFIG.format(path=REPOSITORY / "configs", net=net, **numbers)
        (folder / f"{net}.py").write_text(text)
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
    assert f"stage 1 of 2: fcn32s: {ITERATIONS} iterations" in runs[0]
    assert f"Resumed after iteration {EVERY}; " in runs[1]
    assert f"stage 1 of 2: fcn32s: goes on, up to iteration {ITERATIONS}" in runs[1]
    # Its snapshot had been scored already.
    assert runs[1].index("Iter(val)") > runs[1].index(f"Iter(train) [{EVERY + 1}/{ITERATIONS}]")
    assert f"Iter(train) [{EVERY}/{ITERATIONS}]" not in runs[1]
    assert "stage 1 of 2: fcn32s: done before, mIoU" in runs[2]
    assert runs[2].count(f"Iter(train) [{ITERATIONS}/{ITERATIONS}]") == 1
    loaded = runs[2].index("Load checkpoint from chain/fcn16s/start.pth")
    assert loaded < runs[2].index(f"Iter(train) [1/{ITERATIONS}]")
    assert runs[2].strip().splitlines()[-2].startswith("Done: 2 of 2 stages; the last reached mIoU")
    record = json.loads((project / "chain/stages.json").read_text())
    assert record["configs"] == ["fcn32s", "fcn16s"]
    for name, entry in zip(record["configs"], record["done"], strict=True):
        (best,) = (project / "chain" / name).glob("best_mIoU_iter_*.pth")
        content = torch.load(best, weights_only=True)
        assert entry == dict(
            config=name,
            file=f"{name}/{best.name}",
            iteration=content["meta"]["iter"],
            metric="mIoU",
            score=content["message_hub"]["runtime_info"]["best_score"],
        )


def test_the_second_stage_starts_with_the_first_ones_best(runs, project):
    record = json.loads((project / "chain/stages.json").read_text())
    best, start = (
        torch.load(project / "chain" / file, weights_only=True)["state_dict"]
        for file in (record["done"][0]["file"], "fcn16s/start.pth")
    )
    assert set(start) == {*best, "decode_head.score.1.weight", "decode_head.score.1.bias"}
    for kind in ("weight", "bias"):
        handed, given = start[f"decode_head.score.1.{kind}"], best[f"decode_head.score.0.{kind}"]
        assert handed.abs().max() > 0
        assert torch.equal(handed, given)  # score_fr
        assert (start[f"decode_head.score.0.{kind}"] == 0).all()  # score_pool4
    backbone = [key for key in best if key.startswith("backbone.")]
    assert len(backbone) == 30
    assert all(torch.equal(start[key], best[key]) for key in backbone)


def test_the_same_command_once_more(runs, project, stages, monkeypatch, capsys):
    """Nothing is left to do; other options are refused."""
    monkeypatch.chdir(project)
    monkeypatch.setattr(stages, "TRAIN", "/nonexistent")
    before = signal.getsignal(signal.SIGTERM)

    def again(option: str) -> None:
        monkeypatch.setattr(sys, "argv", ["x", *CHAIN, "--cfg-options", option])
        with as_module("train_stages") as tool:
            tool.main()

    try:
        again("train_dataloader.num_workers=1")
        printed = capsys.readouterr().out.splitlines()
        for line, stage in zip(printed, ("1 of 2: fcn32s", "2 of 2: fcn16s"), strict=False):
            assert line.startswith(f"stage {stage}: done before, mIoU")
        assert printed[2] == runs[2].strip().splitlines()[-2]
        with pytest.raises(UserError, match=r"^chain/fcn32s: was begun with .*lr=1e-07, .* 1e-09"):
            again("optim_wrapper.optimizer.lr=1e-9")
    finally:
        signal.signal(signal.SIGTERM, before)


def test_the_best_snapshot_else_an_older_one_else_the_last(stages, runs, project, tmp_path, capsys):
    shutil.copytree(project / "chain/fcn32s", tmp_path / "fcn32s")
    cfg = Config.fromfile(project / "fcn32s.py")
    finished = stages.Stage(project / "fcn32s.py", tmp_path / "fcn32s", cfg, None, {})
    recorded = json.loads((project / "chain/stages.json").read_text())["done"][0]
    assert stages.best_snapshot(finished, "") == recorded
    best = tmp_path / recorded["file"]
    (best.parent / "best_mIoU_iter_99.pth").write_bytes(best.read_bytes()[:-1])
    shutil.copy(best, best.with_name("best_aAcc_iter_99.pth"))
    cfg.default_hooks.checkpoint.save_best = ["mIoU", "aAcc"]
    assert stages.best_snapshot(finished, "") == recorded
    assert "best_mIoU_iter_99.pth: damaged" in capsys.readouterr().out
    best.unlink()
    last = f"fcn32s/iter_{ITERATIONS}.pth"
    found = stages.best_snapshot(finished, "")
    assert found == recorded | dict(file=last, iteration=ITERATIONS, metric=None, score=None)
    assert stages.in_words(found, Path("a")) == f"at iteration {ITERATIONS}, a/{last}"

    cfg.train_cfg.max_iters = 8
    with pytest.raises(UserError, match="x: ended with iteration 6 instead of iteration 8"):
        stages.best_snapshot(finished, "x")
    for file in (*finished.folder.glob("iter_*.pth"), finished.folder / "last_checkpoint"):
        file.unlink()
    with pytest.raises(UserError, match="x: ended with no snapshot instead of iteration 8"):
        stages.best_snapshot(finished, "x")


HEAVY = [f"fcn{net}_vgg16_voc2011-heavy" for net in ("32s", "16s", "8s")]
LEARNED = ["model.decode_head.upsample=deconv"]  # of another stride in every stage
# Configs, options, and why they cannot be a chain, said before it begins.
CHAINS = {
    "published": (HEAVY, [], None),
    "learned kernels": (HEAVY, LEARNED, None),
    "another head": ([*HEAVY[:1], "psp_vgg16_voc"], [], "psp_vgg16_voc.py: cannot be a stage"),
    "another backbone": (["fcn8s_r50_voc", HEAVY[2]], [], "fcn8s_r50_voc.py: cannot be a stage"),
    "other classes": (
        [*HEAVY[:1], "fcn16s_vgg16_pascal-context-heavy"],
        [],
        r"\(21,\) where it needs \(60,\)",
    ),
    "AlexNet": (["fcn32s_alexnet_voc2011", HEAVY[1]], [], "makes fcn32s, not fcn16s"),
    "at once": ([HEAVY[2], "fcn8s-atonce_vgg16_voc2011-heavy"], [], "were trained without scales"),
}


@pytest.mark.parametrize("name", CHAINS)
def test_shipped_configs_as_a_chain(stages, tmp_path, monkeypatch, name):
    """At full width; their data need not be there."""
    names, options, said = CHAINS[name]
    monkeypatch.setattr(stages, "check_datasets", lambda cfg, loaders: None)
    configs = [REPOSITORY / f"configs/{name}.py" for name in names]
    given = dict(configs=configs, cfg_options=options, amp=False, launcher="none", local_rank=0)
    args = SimpleNamespace(**given)
    if said:
        with pytest.raises(UserError, match=said):
            stages.read_stages(args, tmp_path)
    else:
        read = stages.read_stages(args, tmp_path)
        assert [stages.net_of(stage) for stage in read] == ["fcn32s", "fcn16s", "fcn8s"]


def test_weights_that_do_not_fit_are_refused(stages):
    """mmengine would only warn, and train what it could not load from scratch."""
    state = {"a": torch.zeros(5, 16), "b.deconv.weight": torch.zeros(1)}
    stage = SimpleNamespace(config="x.py", model=SimpleNamespace(state_dict=lambda: state))
    stages.check_fit(dict(a=state["a"]), stage)  # a learned kernel starts as bilinear
    for wrong, said in [
        (dict(a=torch.zeros(21, 16)), r"a \(21, 16\) where it needs \(5, 16\)"),
        (dict(), r"a none where it needs \(5, 16\)"),
        (dict(a=state["a"], more=torch.zeros(1)), r"more \(1,\) where it needs none"),
        (state | {"b.deconv.weight": torch.zeros(2)}, r"weight \(2,\) where it needs \(1,\)"),
    ]:
        with pytest.raises(UserError, match=said):
            stages.check_fit(wrong, stage)


@pytest.fixture
def stage(stages, tmp_path):
    """A function of the settings of a config that gives a stage of ten iterations."""

    def build(name: str = "one", amp: bool = False, **settings):
        cfg = Config(dict(train_cfg=dict(max_iters=10), model=dict(decode_head={})) | settings)
        folder = tmp_path / name
        return stages.Stage(Path(f"{name}.py"), folder, cfg, None, stages.settings_of(cfg, amp))

    return build


def test_what_a_chain_that_was_begun_allows(stages, stage, tmp_path):
    """Of two stages, killed in the first."""
    one, two = stage("one"), stage("two")
    stages.write_record([one, two], tmp_path, [])
    stages.write_json(one.folder / "settings.json", one.settings)
    (one.folder / "iter_4.pth").touch()
    changed = stage("one", optim_wrapper=dict(optimizer=dict(lr=1e-10)))
    another = "of the chain one, two, not of"
    for others, said in [
        ([two, one], another),
        ([one], another),
        ([stage("three"), two], another),
        ([changed, two], r"one: was begun with optim_wrapper.optimizer.lr=\(none\), .* 1e-10 now"),
        ([stage("one", amp=True), two], "one: was begun with --amp=False, which is True now"),
    ]:
        with pytest.raises(UserError, match=said):
            stages.read_record(others, tmp_path)
    assert stages.read_record([one, two, stage("three")], tmp_path) == []
    # Stages to come and the machine's own business are free.
    loader = dict(num_workers=2, persistent_workers=True)
    same = stage("one", train_dataloader=loader, log_level="ERROR")
    stages.read_record([same, stage("two", train_cfg=dict(max_iters=20))], tmp_path)
    (one.folder / "settings.json").unlink()
    with pytest.raises(UserError, match="one: has checkpoints of another run; give another"):
        stages.read_record([one, two], tmp_path)
    (one.folder / "iter_4.pth").unlink()  # nothing has been trained: nothing to protect
    assert stages.read_record([two, changed], tmp_path) == []


def test_done_stages_are_remembered_wherever_the_folder_is(stages, stage, tmp_path):
    chain = [stage("one"), stage("two")]
    best = dict(config="one", file="one/best.pth", iteration=4, metric="mIoU", score=50.0)
    stages.write_record(chain, tmp_path, [best])
    stages.write_json(tmp_path / "one/settings.json", chain[0].settings)
    shutil.move(tmp_path / "stages.json", tmp_path / "one")
    assert stages.read_record(chain, tmp_path / "one") == [best]
    with pytest.raises(UserError, match="of the chain one, two, not of two, one"):
        stages.read_record(chain[::-1], tmp_path / "one")
    assert stages.in_words(best, Path("a")) == "mIoU 50.00 at iteration 4, a/one/best.pth"


def test_a_stage_that_fails_or_is_interrupted_ends_the_chain(stages):
    for command, how in (("exit 3", "exit status 3"), ("kill -KILL $$", "SIGKILL")):
        message = rf"2 of 3: two: fcn-plugin train ended with {how}; .* same command again"
        with pytest.raises(UserError, match=message):
            stages.train(["sh", "-c", command], "stage 2 of 3: two")
    with pytest.raises(KeyboardInterrupt):
        stages.train(["sh", "-c", "exit 130"], "")


def test_an_interrupted_chain_ends_its_stage(stages, tmp_path):
    started = tmp_path / "started"
    before = signal.signal(signal.SIGALRM, lambda number, frame: sys.exit(143))
    signal.setitimer(signal.ITIMER_REAL, 0.5)
    try:
        with pytest.raises(SystemExit):
            stages.train(["sh", "-c", f"echo $$ > {started}; exec sleep 60"], "")
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    with pytest.raises(ProcessLookupError):
        os.kill(int(started.read_text()), 0)
