"""What the configs of a user's own data say, and why; and what the user is told to do next."""

import re

import numpy as np
import pytest
from mmengine.config import Config
from prepare.own_pictures import EYE, SIZE, masks, prepare

from fcn_plugin.errors import UserError
from fcn_plugin.prepare.own import configs
from fcn_plugin.prepare.own.budget import Machine, Plan, batch_size, core_seconds
from fcn_plugin.prepare.own.class_weights import median_frequency
from fcn_plugin.prepare.own.configs import TRAININGS
from fcn_plugin.system.configs import shipped_configs


def test_two_cores_train_from_nothing_in_half_an_hour():
    """100 to 1,000 pictures of the usual sizes."""
    (scratch,) = [each.cost for name, each in TRAININGS.items() if "scratch" in name]
    for images in (100, 1000):
        plan = Plan.of((1000, 1500), images, 10, scratch, Machine(False, 8 * 10**9, 2))
        seconds = core_seconds(plan.iterations, plan.batch, plan.crop, scratch) / 2
        assert plan.crop == (256, 256) and 300 < seconds < 1800


def test_of_few_pictures_the_classes_decide():
    gpu = Machine(True, 10**11, 2)
    for cost in (training.cost for training in TRAININGS.values()):
        few, many = (Plan.of((500, 500), 10, classes, cost, gpu) for classes in (20, 40))
        assert many.iterations == 2 * few.iterations == 40 * cost.per_class
        assert "the least for each of 40 classes, " in many.iterations_reason


def written(made) -> dict[str, tuple[str, Config]]:
    """Text and config of the training with, and that without ImageNet weights."""
    files = {"scratch" if "scratch" in f.name else "imagenet": f for f in made.root.glob("fcn8s*")}
    return {name: (file.read_text(), Config.fromfile(file)) for name, file in files.items()}


def test_reasons_are_in_the_config_and_true(tmp_path, monkeypatch):
    masks(tmp_path / "in", names=[f"n{number}" for number in range(40)])
    small = Machine(gpu=False, memory=3 * 10**9, cores=2)
    for machine in (configs.Machine.here(), small):
        monkeypatch.setattr(configs.Machine, "here", lambda machine=machine: machine)
        for name, (text, cfg) in written(prepare(tmp_path / "in", f"{machine.gpu}")).items():
            text = " ".join(text.replace("#", "").split())
            length, passes, images, batch = re.search(
                r"([\d,]+) iterations: .*?([\d,]+) passes over (\d+) pictures in batches of (\d)",
                text,
            ).groups()
            assert int(length.replace(",", "")) == cfg.train_cfg.max_iters
            assert int(batch) == cfg.train_dataloader.batch_size and int(images) == 32
            assert int(passes.replace(",", "")) == cfg.train_cfg.max_iters * int(batch) / 32
            assert ("With a GPU: crop_size=(30, 32), batch_size=8" in text) != machine.gpu
            rate = cfg.optim_wrapper.optimizer.lr
            full = dict(scratch=2e-3, imagenet=1e-3)[name]
            assert rate == pytest.approx(full * int(batch) / 8)
    assert batch_size((30, 32), small.memory, TRAININGS["fcn8s_vgg16_{}"].cost) == 1


def test_the_written_switches_do_what_they_say(tmp_path):
    """The commented lines are settings of the hooks that they name."""
    masks(tmp_path / "in")
    made = prepare(tmp_path / "in")
    for text, cfg in written(made).values():
        assert {"early_stopping", "ema"}.isdisjoint(cfg.default_hooks)
        on = re.sub(r"^    # (?=early_stopping=|ema=)", "    ", text, flags=re.MULTILINE)
        (made.root / "on.py").write_text(on)
        hooks = Config.fromfile(made.root / "on.py").default_hooks
        assert hooks.early_stopping.type == "LastingPatienceHook"
        tenth = cfg.train_cfg.max_iters // 10
        assert hooks.ema.begin_iter == tenth and hooks.ema.momentum == pytest.approx(2 / tenth)
        assert hooks.checkpoint.save_best == "mIoU" and hooks.checkpoint.interval == tenth


def test_long_trainings_end_early(tmp_path):
    facts = configs.Facts(tmp_path, ["a", "b"], [[0] * 3] * 2, ".png", [SIZE], 1.0, 5000, None)
    for name, text in configs.configs(facts).items():
        assert ("\n    early_stopping=dict(" in text) == name.startswith("fcn8s")


# --- class weights -------------------------------------------------------------------------------


def test_no_class_is_so_frequent_that_it_weighs_nothing():
    counts = np.array([[10**8, 2000, 1000]])
    assert median_frequency(counts) == [2e-5, 1, 2]


def test_class_weights_are_counted_on_the_training_images(tmp_path):
    """By hand, from the label files; what is left out and absent classes count nothing."""
    label = np.zeros(SIZE, np.uint8)
    label[:3], label[3, :20], label[4] = 1, 2, 255
    masks(tmp_path / "in", label, names="abcd", classes="sky\ncar\nlamp\nnone\n")
    masks(tmp_path / "in", 0 * EYE, names="efgh", classes=None)
    made = prepare(tmp_path / "in", class_weight=True)
    labels = [made.label(name) for name in made.listed("train")]
    frequency = [
        sum((each == value).sum() for each in labels)
        / max(sum((each != 255).sum() for each in labels if (each == value).any()), 1)
        for value in range(3)
    ]
    expected = [np.median(frequency) / each for each in frequency] + [1]
    for _, cfg in written(made).values():
        loss = cfg.model.decode_head.loss_decode
        assert loss.class_weight == pytest.approx(expected, rel=5e-4)
        assert loss.class_weight[2] > loss.class_weight[1] == 1 > loss.class_weight[0]
    with pytest.raises(UserError, match="was made of other files or options"):
        prepare(tmp_path / "in")
    for _, cfg in written(prepare(tmp_path / "in", "plain")).values():
        assert "loss_decode" not in cfg.model.decode_head


# --- what comes next -----------------------------------------------------------------------------


def test_imagenet_weights_come_first_where_they_are_to_be_had(tmp_path, monkeypatch):
    masks(tmp_path / "in")
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    monkeypatch.setattr(configs, "why_unreachable", lambda url, patience: "no network")
    lines = prepare(tmp_path / "in", "offline").lines
    file = tmp_path / "torch/hub/checkpoints/vgg16-397923af.pth"
    assert lines[-3].startswith("Next, from random weights: ") and "-scratch.py" in lines[-3]
    assert "(no network)" in lines[-2] and str(file) in lines[-2]
    for place in ("cache", "server"):
        if place == "cache":
            file.parent.mkdir(parents=True)
            file.touch()
        else:
            file.unlink()
            monkeypatch.setattr(configs, "why_unreachable", lambda url, patience: "")
        lines = prepare(tmp_path / "in", place).lines
        assert lines[-2].startswith("Next, from ImageNet weights: ") and "-scratch" in lines[-1]
    base = Config.fromfile(shipped_configs() / "_base_/models/fcn8s_vgg16.py")
    assert base.model.backbone.init_cfg.checkpoint == configs.IMAGENET
