"""The check of versions, the stand-in for mmcv's operators, what a checkpoint may hold."""

import importlib
import os
import pickle
import subprocess
import sys
import zipfile
from importlib import metadata
from pathlib import Path

import mmcv
import numpy as np
import pytest
import torch
from mmengine.logging import HistoryBuffer, MessageHub

from fcn_plugin import compat
from fcn_plugin.system.finders import EXTENSION_FINDER
from fcn_plugin.weights.files import read_content
from fcn_plugin.weights.tokens import Token

REPO = Path(__file__).parents[1]


def import_plugin(*words: str, first: Path | None = None) -> subprocess.CompletedProcess[str]:
    """Run Python with ``words``, and the folder ``first`` at the head of its path."""
    path = os.pathsep.join(str(folder) for folder in (first, REPO) if folder)
    environment = {**os.environ, "PYTHONPATH": path}
    return subprocess.run([sys.executable, *words], env=environment, capture_output=True, text=True)


def pretend(monkeypatch: pytest.MonkeyPatch, **versions: str | None) -> None:
    """Make a distribution appear in another version, or absent (None), on Python 3.12."""
    monkeypatch.setattr(sys, "version_info", (3, 12, 0, "final", 0))
    real = metadata.version

    def version(name: str) -> str:
        found = versions.get(name.replace("-", "_"), "real")
        if found is None:
            raise metadata.PackageNotFoundError(name)
        return real(name) if found == "real" else found

    monkeypatch.setattr(metadata, "version", version)


def test_without_a_family_the_error_names_the_two_lines_to_choose_from():
    done = import_plugin("-S", "-c", "import fcn_plugin")  # -S: no site-packages
    assert done.returncode == 1
    assert done.stderr.strip().splitlines()[-1] == (
        "ImportError: fcn_plugin needs MMSegmentation, which is not installed. Remedy: "
        "pip install 'fcn-plugin[openmmlab]' (OpenMMLab's last releases) or "
        "pip install 'fcn-plugin[onedl]' (OneDL's maintained fork)"
    )


def test_versions_are_checked_before_anything_is_imported(tmp_path):
    info = tmp_path / "torch-2.9.1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: torch\nVersion: 2.9.1\n")
    (tmp_path / "torch.py").write_text("raise SystemExit('torch was imported')\n")
    done = import_plugin("-c", "import fcn_plugin", first=tmp_path)
    assert done.stderr.strip().splitlines()[-1] == (
        "ImportError: fcn_plugin cannot use the packages it finds: torch 2.9.1 is too old. "
        'Remedy: pip install "torch>=2.10"'
    )


# The packages of each family, of versions that fit.
OPENMMLAB = dict(
    mmengine="0.10.7", mmcv_lite="2.1.0", mmsegmentation="1.2.2", setuptools="81.0.0", regex="1"
)
ONEDL = dict(onedl_mmengine="0.10.12", onedl_mmcv="2.3.6", onedl_mmsegmentation="1.4.2")
NONE = dict.fromkeys([*OPENMMLAB, *ONEDL, "mmcv"])
# Versions of a family's packages, what is wrong with them, and what the remedy begins with.
VERSIONS: list[tuple[dict, dict[str, str | None], str, str]] = [
    (OPENMMLAB, {"mmcv_lite": "2.2.0"}, "mmcv-lite 2.2.0 is too new", "mmcv-lite>=2.1"),
    (OPENMMLAB, {"mmcv_lite": None, "mmcv": "1.7.2"}, "mmcv 1.7.2 is too old", "mmcv-lite>=2.1"),
    (OPENMMLAB, {"mmcv_lite": None}, "mmcv-lite or mmcv is not installed", "mmcv-lite>=2.1"),
    (OPENMMLAB, {"mmsegmentation": None}, "mmsegmentation is not installed", "mmsegmentation>="),
    (OPENMMLAB, {"mmengine": "0.11"}, "mmengine 0.11 is too new", "mmengine>=0.10.7,<0.11"),
    (OPENMMLAB, {"regex": None}, "regex is not installed", "regex"),
    (OPENMMLAB, {"torch": "2.10.0a0+b4e4ee81d3.nv25.12"}, "", ""),  # what vendors call their builds
    (OPENMMLAB, {"torch": "3.0"}, "", ""),
    (OPENMMLAB, {"mmcv_lite": None, "mmcv": "2.1.0"}, "", ""),
    (ONEDL, {}, "", ""),
    (ONEDL, {"onedl_mmcv": "2.2.1"}, "onedl-mmcv 2.2.1 is too old", "onedl-mmcv>=2.3.6"),
    (ONEDL, {"onedl_mmengine": None}, "onedl-mmengine is not installed", "onedl-mmengine>="),
    (ONEDL, {"torch": "2.9.1"}, "torch 2.9.1 is too old", "torch>=2.10"),
]


@pytest.mark.parametrize(("family", "changes", "fault", "remedy"), VERSIONS)
def test_versions_that_do_not_fit_and_the_remedy(monkeypatch, family, changes, fault, remedy):
    pretend(monkeypatch, **NONE | family | changes)
    if not fault:
        assert compat.check_host().name == ("OneDL" if family is ONEDL else "OpenMMLab")
        return
    with pytest.raises(ImportError, match="cannot use the packages") as caught:
        compat.check_host()
    assert f': {fault}. Remedy: pip install "{remedy}' in str(caught.value)


def test_what_does_not_go_together(monkeypatch):
    pretend(monkeypatch, **NONE | OPENMMLAB | dict(mmcv="2.1.0"))
    with pytest.warns(UserWarning, match="pip uninstall mmcv mmcv-lite"):
        compat.check_host()
    monkeypatch.setitem(sys.modules, "cv2", None)  # its import fails, as without libGL
    with pytest.warns(UserWarning), pytest.raises(ImportError, match="opencv-python-headless"):
        compat.prepare()
    pretend(monkeypatch, **NONE | OPENMMLAB | dict(onedl_mmcv="2.3.6"))
    with pytest.raises(ImportError, match=r"-y mmengine .* onedl-mmcv, then"):
        compat.check_host()


@pytest.mark.parametrize(("family", "least"), [(OPENMMLAB, 14), (ONEDL, 15)])
def test_python_that_a_family_does_not_run_on(monkeypatch, family, least):
    pretend(monkeypatch, **NONE | family)
    monkeypatch.setattr(sys, "version_info", (3, least - 1, 0, "final", 0))
    compat.check_host()
    monkeypatch.setattr(sys, "version_info", (3, least, 0, "final", 0))
    with pytest.raises(
        ImportError, match=rf"Python 3\.{least}.*use Python 3\.10 to 3\.{least - 1}"
    ):
        compat.check_host()


@pytest.fixture
def stub(monkeypatch):
    """The stand-in for mmcv's operators, even where full mmcv or OneDL's is installed."""
    finders = [finder for finder in sys.meta_path if finder is not EXTENSION_FINDER]
    monkeypatch.setattr(sys, "meta_path", [*finders, EXTENSION_FINDER])
    monkeypatch.setattr(mmcv, "__path__", [])
    monkeypatch.setattr(mmcv, "_ext", None, raising=False)
    monkeypatch.delitem(sys.modules, "mmcv._ext", raising=False)
    yield importlib.import_module("mmcv._ext")
    sys.modules.pop("mmcv._ext", None)


def test_every_operator_exists_and_says_what_it_needs(stub):
    assert stub.nms.__name__ == "nms"
    with pytest.raises(RuntimeError, match=r"nms needs full mmcv.*mmcv==2\.1\.0"):
        stub.nms(1, iou_threshold=0.5)
    for name in ("__file__", "__path__", "__wrapped__", "_ipython_display_"):
        assert not hasattr(stub, name)
    for name in ("mmcv._ext.nms", "mmcv._extra", "_ext", "mmcv"):
        assert EXTENSION_FINDER.find_spec(name, None) is None


def test_a_real_extension_wins(stub, monkeypatch, tmp_path):
    (tmp_path / "_ext.py").write_text("def nms():\n    return 'compiled'\n")
    monkeypatch.setattr(mmcv, "__path__", [str(tmp_path)])
    del sys.modules["mmcv._ext"]
    importlib.invalidate_caches()
    assert importlib.import_module("mmcv._ext").nms() == "compiled"


@pytest.mark.parametrize("name", compat.PRIVATE_NAMES)
def test_private_names_are_there(name):
    owner, _, attribute = name.rpartition(".")
    module, _, kind = owner.rpartition(".")
    found = getattr(importlib.import_module(module), kind.removesuffix("()"))
    found = found() if kind.endswith("()") else found
    needed = compat.PRIVATE_NAMES[name]
    assert hasattr(found, attribute), f"this release of mmengine has no {name}: {needed}"


def test_prepare_twice_changes_nothing():
    def state() -> tuple[int, int]:
        return len(sys.meta_path), len(torch.serialization.get_safe_globals())

    before = state()
    compat.prepare()
    assert state() == before


def test_imports_next_to_a_broken_torchvision(tmp_path):
    (tmp_path / "torchvision").mkdir()
    (tmp_path / "torchvision/__init__.py").write_text(
        "raise RuntimeError('operator torchvision::nms does not exist')\n"
    )
    modules = "fcn_plugin, sys, mmseg.apis, mmseg.models"
    code = f"import {modules}; assert 'torchvision' not in sys.modules"
    done = import_plugin("-c", code, first=tmp_path)
    assert done.returncode == 0, done.stderr

    # mmengine's runner asks for its version, and users' packages import it.
    code = (
        "import fcn_plugin; from mmengine.utils.dl_utils import collect_env; "
        "assert 'TorchVision' not in collect_env(); import torchvision"
    )
    done = import_plugin("-c", code, first=tmp_path)
    assert done.stderr.splitlines()[-1].startswith(
        "ModuleNotFoundError: torchvision does not fit torch (operator torchvision::nms does not"
    )


def test_a_torchvision_that_fits_is_imported_as_ever(tmp_path):
    (tmp_path / "torchvision").mkdir()
    (tmp_path / "torchvision/__init__.py").write_text("__version__ = '0.99'\n")
    (tmp_path / "torchvision/words.txt").write_text("some")
    code = (
        "import fcn_plugin, torchvision; from importlib.resources import files; "
        "assert torchvision.__version__ == '0.99'; "
        "assert files('torchvision').joinpath('words.txt').read_text() == 'some'"
    )
    done = import_plugin("-c", code, first=tmp_path)
    assert done.returncode == 0, done.stderr


class Call:
    """Pickles as a call of any function."""

    def __init__(self, function, *args):
        self.call = (function, args)

    def __reduce__(self):
        return self.call

    def __call__(self):
        """Pickle demands it of a function; the one to be called is only made on reading."""


@pytest.fixture
def checkpoint(tmp_path) -> Path:
    """What mmengine writes beside the weights: logs, counters, seeds."""
    hub = MessageHub("checkpoint")
    hub.update_scalar("train/loss", np.float32(0.5))
    hub.update_scalar("train/loss", 0.25)
    hub.update_info("iter", np.int64(7))
    meta = {"seed": np.uint32(3), "weights": np.arange(3.0), "mask": np.ones(2, bool)}
    torch.save({"message_hub": hub.state_dict(), "meta": meta}, tmp_path / "iter_7.pth")
    return tmp_path / "iter_7.pth"


def check(file: Path) -> None:
    loaded = read_content(file)
    loss = loaded["message_hub"]["log_scalars"]["train/loss"]
    assert isinstance(loss, HistoryBuffer)
    assert (loss.statistics("mean"), loss.statistics("current")) == (0.375, 0.25)
    assert loaded["message_hub"]["runtime_info"]["iter"] == 7
    assert loaded["meta"]["weights"].tolist() == [0, 1, 2]


def test_checkpoints_load_where_a_program_has_allowed_the_classes_themselves(checkpoint):
    theirs = [HistoryBuffer, np.ndarray, (getattr, "builtins.getattr")]
    with torch.serialization.safe_globals(theirs):
        for _ in range(3):  # of two entries of one name PyTorch takes any
            check(checkpoint)
        assert set(theirs) <= set(torch.serialization.get_safe_globals())


def test_checkpoints_load_when_torch_itself_has_read_and_saved_them(checkpoint):
    content = torch.load(checkpoint, weights_only=True)
    assert isinstance(content["message_hub"]["log_scalars"]["train/loss"], Token)
    torch.save(content, checkpoint)
    check(checkpoint)


def test_checkpoints_of_the_other_numpy_load(checkpoint, tmp_path):
    old, new = b"numpy.core.multiarray", b"numpy._core.multiarray"
    here, there = (new, old) if np.lib.NumpyVersion(np.__version__) >= "2.0.0" else (old, new)
    moved = tmp_path / "moved.pth"
    with zipfile.ZipFile(checkpoint) as source, zipfile.ZipFile(moved, "w") as target:
        for name in source.namelist():
            content = source.read(name)
            if name.endswith("data.pkl"):
                assert here in content
                content = content.replace(here, there)
            target.writestr(name, content)
    check(moved)


def test_checkpoints_are_refused_without_our_list(checkpoint):
    """The negative control: the list is what makes the difference."""
    allowed = torch.serialization.get_safe_globals()
    torch.serialization.clear_safe_globals()
    try:
        with pytest.raises(pickle.UnpicklingError, match="HistoryBuffer"):
            torch.load(checkpoint, weights_only=True)
    finally:
        torch.serialization.add_safe_globals(allowed)


def test_files_that_run_code_are_refused(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", raising=False)
    for content in (
        Call(os.system, "touch hostile"),
        Call(getattr, Call(__import__, "os"), "system"),
        Call(getattr, HistoryBuffer, "register_statistics"),
        Call(getattr, np.ndarray, "tofile"),
        Call(Call(getattr, HistoryBuffer, "mean"), HistoryBuffer([1], [1])),
        np.array([Call(os.system, "touch hostile")], dtype=object),
    ):
        torch.save({"state_dict": content}, "checkpoint.pth")
        with pytest.raises(pickle.UnpicklingError):
            torch.load("checkpoint.pth", weights_only=True)
        assert not Path("hostile").exists()


def test_warns_where_pickles_are_executed(monkeypatch):
    monkeypatch.setenv("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", "1")
    with pytest.warns(UserWarning, match="unset it"):
        compat.prepare()
