"""The check of an installation: it really trains, and what is wrong comes with its remedy."""

import json
import os
import sys
from collections.abc import Callable, Iterator
from importlib import metadata, util
from pathlib import Path
from subprocess import CompletedProcess
from types import ModuleType, SimpleNamespace

import mmcv
import pytest
from tools.running import REPOSITORY, as_module, ran, started

Examine = Callable[..., tuple[int, str]]
GB = 10**9
FAMILIES = ("mmengine", "mmcv", "mmcv-lite", "mmsegmentation")
FAMILIES += ("onedl-mmengine", "onedl-mmcv", "onedl-mmsegmentation")


def raising(error: Exception) -> Callable:
    def function(*args: object) -> None:
        raise error

    return function


def pretending(versions: dict[str, str | None]) -> Callable[[str], str]:
    """``metadata.version``, but some distributions have another version, or are absent (None)."""
    real = metadata.version

    def version(name: str) -> str:
        found = versions[name] if name in versions else real(name)
        if found is None:
            raise metadata.PackageNotFoundError(name)
        return found

    return version


@pytest.fixture
def doctor() -> Iterator[ModuleType]:
    with as_module("doctor") as doctor:
        yield doctor


@pytest.fixture
def examine(doctor, monkeypatch, capsys, tmp_path) -> Examine:
    """Exit status and output of a quick check, on a machine with nothing to complain of."""

    def run(versions: dict[str, str | None] = {}, **replaced: object) -> tuple[int, str]:  # noqa: B006
        nothing = tmp_path / "nothing"
        machine: dict[str, object] = {"checkup.DRIVER": nothing}
        machine["shutil.disk_usage"] = lambda folder: SimpleNamespace(free=100 * GB)
        machine["importlib.metadata.version"] = pretending(versions)
        for name, value in (machine | replaced).items():
            monkeypatch.setattr(name, value)
        monkeypatch.setattr(sys, "argv", ["doctor.py", "--quick", "--json", str(tmp_path / "json")])
        with pytest.raises(SystemExit) as ended:
            doctor.main()
        return ended.value.code, capsys.readouterr().out

    return run


FREE = "shutil.disk_usage"
CARD = SimpleNamespace(name="A card", total_memory=24 * GB)
# Check and verdict -> versions that are pretended, what is replaced, and words of what is said.
CASES: dict[str, tuple[dict[str, str | None], dict[str, object], str]] = {
    "packages fault, an old torch": (
        {"torch": "2.9.1"},
        {},
        'pip install "torch>=2.10"',
    ),
    "packages fault, no family": (dict.fromkeys(FAMILIES), {}, "pip install"),
    "packages fault, two families": (
        {"mmengine": "0.10.7", "onedl-mmengine": "0.10.12"},
        {},
        "pip uninstall -y mmengine",
    ),
    "fcn_plugin fault, not found": (
        {},
        {"checkup.find_spec": lambda name: None if name == "fcn_plugin" else util.find_spec(name)},
        "fcn_plugin is not installed; run pip install",
    ),
    "fcn_plugin fault, a requirement": (
        {"fcn-plugin": "0.1", "scipy": None},
        {"importlib.metadata.requires": lambda name: ["scipy>=1", "onnx; extra == 'export'"]},
        "pip install scipy\n",
    ),
    "numpy fault, of another major version": (
        {},
        {"torch.from_numpy": raising(RuntimeError("Numpy is not available"))},
        "--force-reinstall 'numpy",
    ),
    "Pillow fault, without JPEG": (
        {},
        {"PIL.features.check": lambda name: name != "jpg"},
        "--force-reinstall Pillow",
    ),
    "disk fault": ({}, {FREE: lambda folder: SimpleNamespace(free=GB)}, "--work-dir on another"),
    "shared memory fault": (
        {},
        {FREE: lambda folder: SimpleNamespace(free=64e6 if "shm" in str(folder) else 100 * GB)},
        "--shm-size",
    ),
    "configs fault": ({}, {"checkup.HOME": Path(__file__).parent}, "clone fcn_plugin anew"),
    "disk note": ({}, {FREE: lambda folder: SimpleNamespace(free=2 * GB)}, "make room"),
    "GPU note, a build for GPUs": ({}, {"torch.version.cuda": "12.8"}, "whl/cpu"),
    "GPU note, a build for the CPU": (
        {},
        {"torch.version.cuda": None, "checkup.DRIVER": Path(__file__)},
        "pip uninstall -y torch; pip install torch==2.",
    ),
    "GPU ok": (
        {},
        {
            "torch.cuda.is_available": lambda: True,
            "torch.cuda.device_count": lambda: 1,
            "torch.cuda.get_device_properties": lambda number: CARD,
        },
        "A card, 24 GB",
    ),
    "threads note": (
        {},
        {"torch.get_num_threads": lambda: 10**6},
        "export OMP_NUM_THREADS=",
    ),
    "OpenCV note": (
        {"opencv-python": "5.0", "opencv-python-headless": "5.0"},
        {},
        "pip uninstall -y opencv-python opencv-python-headless",
    ),
    "onnxruntime note": ({"onnxruntime": None}, {}, "pip install 'fcn-plugin[export]'"),
}


@pytest.mark.parametrize("case", CASES)
def test_each_fault_and_note_has_its_remedy(examine: Examine, case, monkeypatch):
    versions, replaced, words = CASES[case]
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    status, output = examine(versions, **replaced)
    check, verdict = case.partition(",")[0].rsplit(" ", 1)
    lines = output.splitlines()
    number = next(i for i, line in enumerate(lines) if line.startswith(f"{check}  "))
    assert f" {verdict} " in lines[number]
    assert words in "\n".join(lines[number : number + 2]) + "\n"
    assert status == (verdict == "fault")
    next_step = "fcn-plugin prepare_data shapes" if verdict != "fault" else words.strip()
    assert next_step in lines[-1]


def test_opencv_and_operators_that_do_not_load(examine, monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "cv2", None)  # its import fails, as without libGL
    (tmp_path / "_ext.py").write_text("raise ImportError('undefined symbol: _ZN3c10')\n")
    monkeypatch.setattr(mmcv, "__path__", [str(tmp_path)])
    monkeypatch.setattr(mmcv.__spec__, "submodule_search_locations", [str(tmp_path)])
    monkeypatch.delitem(sys.modules, "mmcv._ext", raising=False)
    status, output = examine()
    assert status == 1 and output.count("fault") == 2
    assert "undefined symbol" in output and "compile mmcv for this torch" in output
    assert output.splitlines()[-1].endswith("--no-deps opencv-python-headless")


def test_nothing_wrong_and_colours_on_a_terminal_alone(examine, monkeypatch, tmp_path):
    for name in ("NO_COLOR", "FORCE_COLOR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TERM", "xterm-256color")
    status, plain = examine()
    assert status == 0 and "fault" not in plain and plain.splitlines()[-1].startswith("Next: fcn-")
    checks = json.loads((tmp_path / "json").read_text())["checks"]
    assert len(checks) > 10 and all(f"\n{name} " in f"\n{plain}" for name in checks)
    monkeypatch.setenv("FORCE_COLOR", "1")  # as on a terminal
    assert "\x1b[32mok" in examine()[1]
    monkeypatch.setenv("NO_COLOR", "1")
    assert examine()[1] == plain


ENDS = {
    "print('error: torch is old. Remedy: pip install torch', file=sys.stderr); sys.exit(1)": (
        "torch is old.",
        "pip install torch",
    ),
    "raise RuntimeError('no kernel image')": ("RuntimeError: no kernel image", "trial.py trial"),
    "os.kill(os.getpid(), 9)": ("killed by SIGKILL", "free memory"),
    'print(\'{"device": "cuda:0", "seconds": 0.1, "losses": [1.0, 1.1]}\')': (
        "loss 1.00 to 1.10; it does not fall",
        "compare with the CPU",
    ),
}


@pytest.mark.parametrize("code", ENDS)
def test_how_a_training_may_end(doctor, monkeypatch, tmp_path, code):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    trial = tmp_path / "trial.py"
    trial.write_text(f"import os, sys\nopen(sys.argv[1] + '/file', 'w')\n{code}\n")
    monkeypatch.setattr(doctor, "TRIAL", trial)
    found, remedy = ENDS[code]
    finding = doctor.training()
    assert finding.verdict == "fault" and finding.found.endswith(found)
    assert remedy in finding.remedy
    assert [*tmp_path.iterdir()] == [trial]


def test_the_training_trains(tmp_path):
    done = ran("trial.py", tmp_path, folder=tmp_path)
    losses = json.loads(done.stdout)["losses"]
    assert len(losses) == 5 and losses[-1] < 0.8 * losses[0]


def on_its_own(tmp_path: Path, *options: object, **environment: str) -> CompletedProcess:
    """The doctor as a user runs it, which leaves no file."""
    work, temporary = tmp_path / "w", tmp_path / "t"
    for folder in (work, temporary):
        folder.mkdir()
    environment["TMPDIR"] = str(temporary)
    done = started("doctor.py", *options, folder=work, **environment)
    assert not [*work.iterdir(), *temporary.iterdir()]
    return done


def test_where_fcn_plugin_refuses_to_be_imported(tmp_path):
    info = tmp_path / "fake" / "torch-2.9.1.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: torch\nVersion: 2.9.1\n")
    path = os.pathsep.join(map(str, (info.parent, REPOSITORY)))
    done = on_its_own(tmp_path, PYTHONPATH=path)
    *_, training, _, last = done.stdout.splitlines()
    assert done.returncode == 1 and last == 'Next: pip install "torch>=2.10"'
    assert training.startswith("training") and training.endswith("torch 2.9.1 is too old.")


@pytest.mark.slow
def test_everything(tmp_path):
    done = on_its_own(tmp_path, "--json", tmp_path / "json")
    checks = json.loads((tmp_path / "json").read_text())["checks"]
    assert checks["training"]["found"].startswith("5 iterations on ")
    assert checks["training"]["verdict"] == "ok"
    assert done.returncode == any(check["verdict"] == "fault" for check in checks.values())
