"""The command ``fcn-plugin``, as ``python -m fcn_plugin``, which needs no installation."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from tools.running import ENVIRONMENT, PATIENCE, REPOSITORY, TOOLS, ran

import fcn_plugin_command
from fcn_plugin.errors import UserError
from fcn_plugin.prepare.shapes import write_shapes
from fcn_plugin.system.configs import config_file

NAMES = [Path(name).stem for name in fcn_plugin_command.TOOLS]


def command(*words: str, folder: Path, before: Path | str = "", module: str = "fcn_plugin"):
    """The finished process; modules in the folder ``before`` hide those of the same name."""
    environment = ENVIRONMENT | dict(PYTHONPATH=os.pathsep.join([str(before), str(REPOSITORY)]))
    return subprocess.run(
        [sys.executable, "-m", module, *words],
        cwd=folder,
        env=os.environ | environment,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )


def test_every_tool_is_there():
    started = [file for file in TOOLS.glob("*.py") if "run(main)" in file.read_text()]
    tools = [file for file in started if file.name != "trial.py"]  # which doctor.py starts
    assert {file.name for file in (*tools, *TOOLS.glob("*.sh"))} == {*fcn_plugin_command.TOOLS}


@pytest.fixture
def without_torch(tmp_path) -> Path:
    """A folder with packages that must not be imported."""
    for name in ("torch", "mmengine", "mmcv", "mmseg", "numpy"):
        (tmp_path / f"{name}.py").write_text("raise SystemExit('imported: ' + __name__)")
    return tmp_path


def test_answers_without_torch(without_torch, tmp_path):
    def shown(*words: str) -> str:
        done = command(*words, folder=tmp_path, before=without_torch)
        assert done.returncode == 0, done.stderr
        return done.stdout

    assert shown() == shown("--help")
    assert all(f"\n  {name} " in shown() for name in NAMES)
    assert shown("--version").startswith("fcn_plugin ")
    assert "fcn8s_vgg16_camvid " in shown("configs", "camvid", "imagenet")
    for name in NAMES:
        assert f"fcn-plugin {name}" in shown(name, "--help")
    done = command("trian", folder=tmp_path, before=without_torch)
    assert done.returncode == 2 and len(done.stderr.splitlines()) == 1
    assert "did you mean 'train'?" in done.stderr


SMALL = "train_dataloader.batch_size=2 train_dataloader.num_workers=0 val_dataloader.num_workers=0 "
SMALL += "train_cfg.max_iters=2 train_cfg.val_interval=2 model.backbone.base_channels=2 "
SMALL += "model.backbone.fc_channels=8 model.decode_head.in_channels=[8,16,8]"


def test_trains_a_config_by_its_name(tmp_path):
    name = "fcn8s_vgg16_shapes"
    done = command("train", name, folder=tmp_path)
    assert done.returncode == 1 and done.stderr.startswith("error: data/shapes: no such folder")
    write_shapes(tmp_path / "data/shapes", 4, 2)
    ran("train.py", name, "--cfg-options", *SMALL.split(), folder=tmp_path)
    assert list((tmp_path / "work_dirs" / name).glob("best_*_iter_2.pth"))


def test_a_module_of_others_registers_all_of_ours(tmp_path):
    """While Python imports its package, it shows "-m" as the first word, too."""
    (tmp_path / "other").mkdir()
    (tmp_path / "other/__init__.py").write_text("import fcn_plugin")
    check = "from mmseg.registry import MODELS; print(MODELS.get('SkipFusionHead').__name__)"
    (tmp_path / "other/__main__.py").write_text(check)
    done = command("fcn_plugin", folder=tmp_path, module="other")
    assert done.stdout == "SkipFusionHead\n", done.stderr


def test_a_config_is_a_file_or_a_shipped_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    shipped = REPOSITORY / "configs/fcn8s_vgg16_voc.py"
    for name in ("fcn8s_vgg16_voc", "fcn8s_vgg16_voc.py", shipped):
        assert config_file(name) == shipped
    Path("fcn8s_vgg16_voc.py").touch()
    assert config_file("fcn8s_vgg16_voc.py") == Path("fcn8s_vgg16_voc.py")
    for name in ("fcn8s_vgg16_vok", "configs/fcn8s_vgg16_voc.py"):
        with pytest.raises(UserError, match="did you mean 'fcn8s_vgg16_voc'"):
            config_file(name)
