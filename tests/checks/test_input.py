"""Preprocessing and classes of a checkpoint against those of a config, in whole runs."""

import dataclasses
from types import SimpleNamespace

import pytest
import torch
from mmengine.config import Config
from mmengine.runner import Runner
from mmseg.models import SegDataPreProcessor
from tools.running import config

from fcn_plugin.checks.input import input_fault, input_of
from fcn_plugin.errors import UserError
from fcn_plugin.prepare.drawing import CLASSES
from fcn_plugin.prepare.shapes import write_shapes
from fcn_plugin.weights import sources


@pytest.fixture(scope="module")
def shapes(tmp_path_factory):
    """A folder with tiny shapes and the tiny config's checkpoint."""
    folder = tmp_path_factory.mktemp("run")
    with pytest.MonkeyPatch.context() as patched:
        patched.chdir(folder)
        write_shapes(folder / "data/shapes", 8, 4, seed=0)
        run(folder, "train")
        yield folder


def run(folder, what, changes=None):
    """Without changes from the beginning, else on from that checkpoint."""
    cfg = Config.fromfile(config(folder))
    cfg.merge_from_dict(changes or {})
    cfg.work_dir = str(folder / ("run" if changes is None else "again"))
    cfg.experiment_name = f"{what}{len(list(folder.rglob('*.log')))}"
    cfg.load_from = None if changes is None else str(folder / "run/iter_4.pth")
    getattr(Runner.from_cfg(cfg), what)()


def test_a_checkpoint_knows_its_input(shapes):
    checkpoint = torch.load(shapes / "run/iter_4.pth", weights_only=True)
    assert checkpoint["meta"]["input"] == dataclasses.asdict(sources.TORCHVISION) | {
        "std": pytest.approx((58.395, 57.12, 57.375)),
        "mean": pytest.approx((123.675, 116.28, 103.53)),
    }
    run(shapes, "test", {})


HEAD, BACKBONE = "model.decode_head", "model.backbone"
FCN = dict(type="FCNHead", in_channels=8, in_index=2, channels=4, num_classes=5, _delete_=True)
OTHER_LEVELS = {
    f"{BACKBONE}.out_indices": (3, 5),
    f"{HEAD}.in_channels": (16, 8),
    f"{HEAD}.in_index": (0, 1),
}
ORDER = (*CLASSES[:3], *CLASSES[:2:-1])
BGR = {"model.data_preprocessor.bgr_to_rgb": False}


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (BGR, "trained on RGB .* gives them BGR .*preprocessor.bgr_to_rgb=True$"),
        (OTHER_LEVELS, "network is fcn8s, the config's is fcn16s; give its own config"),
        ({HEAD: FCN}, r"decode_head.conv_seg.weight is missing, not \(5, 4, 1, 1\)"),
        (
            {"test_dataloader.dataset.metainfo.classes": ORDER},
            "class 3 is 'triangle' there and 'star' in the data set",
        ),
    ],
)
def test_testing_another_network_is_an_error(shapes, changes, said):
    with pytest.raises(UserError, match=said):
        run(shapes, "test", changes)


def test_training_on_from_another_input_is_warned_of(shapes):
    run(shapes, "train", BGR)
    assert any("trained on RGB" in path.read_text() for path in shapes.glob("again/*/*.log"))


BANDS = sources.Input("bands", (0.5, 9000.0), (0.1, 4000.0))


def test_which_inputs_contradict_each_other():
    """The FCNs start from VGG's means and train with VOC's: that is no contradiction."""
    for a, b, same in (
        (sources.CAFFENET, sources.VOC, True),
        (sources.TORCHVISION, sources.FEATURES_ONLY, False),
        (dataclasses.replace(sources.VOC, order="RGB"), sources.VOC, False),
        (BANDS, dataclasses.replace(BANDS, mean=(0.501, 9001.0)), True),  # in units of the std
        (BANDS, dataclasses.replace(BANDS, mean=(0.6, 9000.0)), False),
        (BANDS, sources.VOC, False),
        (dataclasses.replace(sources.VOC, mean=(116.19, 97.203, 92.318)), sources.VOC, False),
    ):
        assert (input_fault(a, b) is None) == same, (a, b)
    small = dataclasses.replace(BANDS, std=(1e-6, 4000.0))
    assert "std=[1e-06,4000.0]" in input_fault(small, BANDS)


def test_what_says_nothing_is_no_contradiction():
    """A preprocessor without means, and what other programs write under the same names."""
    assert input_of(SimpleNamespace(data_preprocessor=SegDataPreProcessor())) is None
    for meta in (None, [], {}, dict(input="image"), dict(input=dict(shape=(1, 3)))):
        assert sources.Input.stored(meta) is None
