"""What ``doctor.py`` looks at: packages, and the machine.

A check returns a ``Finding``, or None where there is nothing to look at, and may raise any error.
None imports fcn_plugin, which fails where a package is missing.
"""

from __future__ import annotations

import platform
import re
import shutil
import sys
import warnings
from importlib import import_module, metadata
from importlib.machinery import PathFinder
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

from threads import HOME, PACKAGE, module

DRIVER, SHARED_MEMORY = Path("/proc/driver/nvidia/version"), Path("/dev/shm")
OPENCV = tuple(
    f"opencv-{kind}"
    for kind in ("python", "python-headless", "contrib-python", "contrib-python-headless")
)

GB = 10**9
# FCN-8s on VGG16 with SGD's momentum, 2 x 134 million float32. A run keeps the last two and the
# best, and writes a new one before it deletes.
CHECKPOINT, CHECKPOINTS = 1.1 * GB, 4
# What the workers of fcn8s_vgg16_voc.py hold in shared memory: 4 workers, 2 batches each, of 16
# crops of 512 x 512 pixels, 3 bytes of image and 8 of label a pixel.
SHARED = 4 * 2 * 16 * 512**2 * 11


class Finding(NamedTuple):
    """What a check finds; ``remedy`` is a command or advice, '' if ``found`` has it."""

    verdict: str
    found: str
    remedy: str = ""


# --- packages ------------------------------------------------------------------------------------


def python() -> Finding:
    found = f"{platform.python_version()} on {platform.platform()}, {sys.executable}"
    return Finding("ok", found)


def plugin() -> Finding:
    spec = find_spec("fcn_plugin")
    if spec is None or spec.origin is None:
        raise ImportError(name="fcn_plugin")
    folder = Path(spec.origin).resolve().parent
    if folder != PACKAGE:
        others = f"is imported from {folder}; these tools belong to {PACKAGE}"
        return Finding("note", others, "fcn-plugin doctor, of the copy that is imported")
    found = f"{module('version').__version__} in {PACKAGE}"
    if version("fcn-plugin") is None:
        return Finding("ok", f"{found}, a clone that is not installed")
    needed = [line for line in metadata.requires("fcn-plugin") or () if "extra ==" not in line]
    names = (re.split(r"[^\w.-]", line)[0] for line in needed)
    missing = [name for name in names if version(name) is None]
    if missing:
        needs = f"{found} requires {', '.join(missing)}, not installed"
        return Finding("fault", needs, f"pip install {' '.join(missing)}")
    return Finding("ok", found)


def host() -> Finding:
    """Which family of MMSegmentation; ``fcn_plugin.compat`` knows what fits together."""
    compat = module("compat")
    found = "".join(
        f"{family.name}: {', '.join(versions)}. "
        for family in compat.FAMILIES
        if (versions := versions_of(*family.names))
    )
    with warnings.catch_warnings(record=True) as notes:
        warnings.simplefilter("always")
        try:
            compat.check_host()
        except ImportError as error:
            fault, _, remedy = str(error).partition(" Remedy: ")
            return Finding("fault", found + fault, remedy)
    note = "".join(str(each.message) for each in notes)
    return Finding("note" if note else "ok", (found + note).removesuffix(". "))


def torch_build() -> Finding:
    import torch

    return Finding("ok", f"{torch.__version__}, {build() or 'for the CPU'}")


def build() -> str:
    """What of GPUs torch is built for, e.g. "CUDA 12.8"; '' for the CPU build."""
    import torch

    kinds = {"CUDA": torch.version.cuda, "ROCm": torch.version.hip}
    return "".join(f"{kind} {version}" for kind, version in kinds.items() if version)


def numpy() -> Finding:
    import numpy
    import torch

    # Fails where torch was compiled for another major version of numpy.
    torch.from_numpy(numpy.zeros(1))
    return Finding("ok", numpy.__version__)


def opencv() -> Finding:
    import cv2

    builds = versions_of(*OPENCV)
    found = " and ".join(builds) or f"{cv2.__version__}, not from pip"
    if len(builds) < 2:
        return Finding("ok", found)
    names = " ".join(build.split()[0] for build in builds)
    return Finding(
        "note",
        f"{found}, which share a folder: removing one breaks the other",
        f"pip uninstall -y {names}; pip install opencv-python-headless",
    )


def operators() -> Finding | None:
    spec = find_spec("mmcv")
    if spec is None or "torch" not in sys.modules:
        return None
    # Unlike find_spec("mmcv._ext"), this does not import mmcv.
    if PathFinder.find_spec("_ext", spec.submodule_search_locations) is None:
        return Finding("ok", "none; a few parts of mmseg need them, nothing of fcn_plugin does")
    import_module("mmcv._ext")
    return Finding("ok", "compiled, and they load")


def pillow() -> Finding:
    from PIL import Image, features

    missing = [name for name in ("jpg", "zlib") if not features.check(name)]
    if missing:
        raise ImportError(f"{Image.__version__} is built without {' and '.join(missing)}")
    return Finding("ok", Image.__version__)


def onnx() -> Finding:
    # Only its version: when it is imported, it leaves a file in the folder of temporary files.
    use = "fcn-plugin export_onnx checks what it writes with it"
    if found := versions_of("onnxruntime", "onnxruntime-gpu"):
        return Finding("ok", f"{', '.join(found)}; {use}")
    return Finding("note", f"not installed; {use}", "pip install 'fcn-plugin[export]'")


def configs() -> Finding:
    files = list((HOME / "configs").glob("*.py"))
    if files:
        return Finding("ok", f"{len(files)} in {HOME / 'configs'}")
    return Finding("fault", f"none in {HOME / 'configs'}", "install or clone fcn_plugin anew")


def version(distribution: str) -> str | None:
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return None


def versions_of(*distributions: str) -> list[str]:
    """Name and version of those that are installed."""
    return [f"{name} {found}" for name in distributions if (found := version(name))]


# --- the machine ---------------------------------------------------------------------------------

# Is torch built for GPUs, is NVIDIA's driver here -> what to say where torch sees no GPU. {} is
# torch's version.
NO_GPU = {
    (True, True): Finding(
        "note",
        "torch sees none, though NVIDIA's driver is here; training runs on the CPU",
        "update the driver for this build of torch, or unset CUDA_VISIBLE_DEVICES",
    ),
    (True, False): Finding(
        "note",
        "none; torch's build for GPUs takes gigabytes that are not needed here",
        "pip install --force-reinstall torch=={} --index-url https://download.pytorch.org/whl/cpu",
    ),
    (False, True): Finding(
        "note",
        "NVIDIA's driver is here, but torch's build for the CPU cannot use a GPU",
        "pip uninstall -y torch; pip install torch=={}",
    ),
    (False, False): Finding("ok", "none; training runs on the CPU"),
}


def gpu() -> Finding | None:
    if "torch" not in sys.modules:  # its own line has said why
        return None
    import torch

    with warnings.catch_warnings(record=True) as reasons:
        warnings.simplefilter("always")
        count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if count:
        devices = map(torch.cuda.get_device_properties, range(count))
        return Finding("ok", "; ".join(f"{d.name}, {d.total_memory / GB:.0f} GB" for d in devices))
    verdict, found, remedy = NO_GPU[bool(build()), DRIVER.exists()]
    reason = "".join(f" ({str(each.message).splitlines()[0]})" for each in reasons[:1])
    return Finding(verdict, found + reason, remedy.format(torch.__version__.partition("+")[0]))


def threads() -> Finding | None:
    if "torch" not in sys.modules:
        return None
    import torch

    machine, count = module("system/machine"), torch.get_num_threads()
    fitting, reason = machine.threads_of(1)
    found = f"{count} of torch; {reason or f'this machine has {fitting} cores'}"
    if count <= machine.available_cores():
        return Finding("ok", found)
    return Finding("note", found, f"export OMP_NUM_THREADS={fitting}")


def disk() -> Finding:
    folder = Path("work_dirs") if Path("work_dirs").exists() else Path.cwd()
    free = shutil.disk_usage(folder).free
    found = f"{free / GB:.1f} GB free in {folder.resolve()}"
    if free >= CHECKPOINTS * CHECKPOINT:
        return Finding("ok", found)
    return Finding(
        "note" if free >= CHECKPOINT else "fault",
        f"{found}; FCN-8s on VGG16 writes {CHECKPOINTS} checkpoints of {CHECKPOINT / GB:.1f} GB",
        "make room, or train with --work-dir on another disk",
    )


def shared_memory() -> Finding | None:
    if not SHARED_MEMORY.is_dir():
        return None
    free = shutil.disk_usage(SHARED_MEMORY).free
    found = f"{free / GB:.2f} GB free in {SHARED_MEMORY}"
    if free >= SHARED:
        return Finding("ok", found)
    return Finding(
        "fault",
        f"{found}; the workers of fcn8s_vgg16_voc put {SHARED / GB:.2f} GB there",
        "docker run --shm-size=8g, or train with --cfg-options train_dataloader.num_workers=0",
    )
