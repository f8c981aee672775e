"""benchmarks/costs.py: what it counts of a network, and the table that it prints."""

import pytest
import torch
import yaml
from mmengine.config import Config
from mmseg.registry import MODELS
from tools.running import REPOSITORY, ran

from fcn_plugin.errors import UserError
from figures.costs import Network, measured, table
from figures.framework import Setting

SHAPES = REPOSITORY / "configs/fcn8s_vgg16_shapes.py"
INDEX = yaml.safe_load((REPOSITORY / "configs/metafiles/fcn8s/metafile.yml").read_text())
SETTING = Setting(torch.device("cpu"))


@pytest.fixture
def config(tmp_path) -> str:
    """The demo's, with a small batch."""
    file = tmp_path / "small.py"
    file.write_text(f'_base_ = "{SHAPES}"\ntrain_dataloader = dict(batch_size=2)\n')
    return str(file)


def multiplications(size: tuple[int, int]) -> int:
    """Of the config's convolutions, by the shape of what comes out of each."""
    model = MODELS.build(Config.fromfile(SHAPES).model).eval()
    counts = []
    for layer in model.modules():
        if isinstance(layer, torch.nn.Conv2d):
            layer.register_forward_hook(
                lambda layer, _, out: counts.append(out[0, 0].numel() * layer.weight.numel())
            )
    with torch.no_grad():
        model(torch.zeros(1, 3, *size), mode="tensor")
    return sum(counts)


def test_a_network_is_counted_and_its_step_trains(config):
    network = measured(config, SETTING, (128, 160))
    parameters = {m["Name"]: m["Metadata"]["Parameters"] for m in INDEX["Models"]}
    assert network.parameters == parameters[SHAPES.stem]
    assert (network.batch, network.crop) == (2, (64, 64))
    # The rest is the head's upsampling, of 5 classes.
    assert 1 <= network.operations / (2 * multiplications((128, 160))) < 1.01
    losses = [float(network.step()["loss"]) for _ in range(10)]
    assert losses[-1] < 0.9 * losses[0]


def test_the_table_has_medians_and_quartiles():
    networks = [Network(name, 2_500_000, 3 * 10**9, 4, (192, 256), print, 2**20) for name in "ab"]
    lines = table(networks, [[1.0, 5.0, 2.0], [4.0]], (360, 480)).splitlines()
    assert "4 x 192 x 256" in lines[0] and "360 x 480" in lines[0]
    assert lines[2] == "| `a` | 2.50 M | 3.00 | 2.000 s (1.500, 3.500) | 1 MiB |"
    assert "| 4.000 s (4.000, 4.000) |" in lines[3]


def test_without_crops_of_one_size():
    with pytest.raises(UserError, match=r"set model\.data_preprocessor.size"):
        measured("fcn8s_vgg16_voc2011-heavy", SETTING, (64, 64))


def test_from_the_shell(tmp_path, config):
    done = ran("costs.py", config, "--image", "64", "64", "--repeats", "1", folder=tmp_path)
    assert "| `small` |" in done.stdout and done.stdout.endswith("Done: 1 configs\n")
