"""fcn-plugin configs: the commands that it names prepare the data and train the network."""

import shlex
import subprocess

import pytest
from tools.running import as_module, ran

PUBLISHED = [f"fcn{net}_vgg16_voc2011-heavy" for net in ("32s", "16s", "8s")]


def test_a_network_that_starts_from_another_is_trained_in_its_chain():
    with as_module("configs") as module:
        for config in module.index():
            command = module.training_of(config, module.head(config))
            tool, *words = expanded(command)
            if tool == "train_stages":
                assert config["Name"] in (words or PUBLISHED)
            else:
                assert words[0] == config["Name"]
                stage = config["Starts From"].startswith("FCN")
                assert stage == any(word.startswith("load_from=") for word in words)


def expanded(command: str) -> list[str]:
    """The words that a shell makes of a command."""
    done = subprocess.check_output(["bash", "-c", f"echo {command}"], text=True)
    return shlex.split(done)


@pytest.mark.parametrize("name", PUBLISHED)
def test_of_the_published_chain(name, tmp_path):
    shown = ran("configs.py", name, folder=tmp_path).stdout
    assert "SBD (scored on seg11valid)" in shown.splitlines()[1]
    data = "\nIts data:\n    fcn-plugin prepare_data sbd\n    fcn-plugin prepare_data voc2011\n"
    assert data in shown
    assert shown.endswith("\nNext: fcn-plugin train_stages\n")


def test_of_several(tmp_path):
    shown = ran("configs.py", "sbd", "32s", folder=tmp_path).stdout
    assert "needs" in shown and "voc2012, sbd" in shown and "sbd, voc2011" in shown
    assert shown.endswith("\nNext: fcn-plugin train NAME\n")
    assert "Its data" not in shown
