"""Describe the machine, and measure its rate of matrix products."""

import os
import platform
from statistics import median
from typing import Any

import torch

from fcn_plugin.system.machine import available_cores, processor_name
from figures.framework import alternate

# Sides of matrices: large enough for the full rate, small enough to take about a second.
SIDES = {"cpu": 2048, "cuda": 8192}
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}


def describe(device: torch.device) -> dict[str, Any]:
    machine: dict[str, Any] = {
        "cpu": processor_name(),
        "cores": available_cores(),
        "threads": torch.get_num_threads(),
        "system": platform.system(),
        "python": platform.python_version(),
        "torch": torch.__version__,
    }
    if hasattr(os, "getloadavg"):
        machine["load"] = round(os.getloadavg()[0], 1)
    if device.type == "cuda":
        machine |= dict(gpu=torch.cuda.get_device_name(device), cuda=torch.version.cuda)
    return machine


def matrix_rates(device: torch.device, dtype: str, quick: bool = False) -> dict[str, float]:
    """Operations per second of large square matrix products, by dtype; medians of five.

    In bfloat16 only if ``dtype`` asks for it: processors without it take minutes. On a GPU float32
    means TF32, the default of convolutions there.
    """
    side = 1024 if quick else SIDES.get(device.type, 2048)
    precision = torch.get_float32_matmul_precision()
    if device.type == "cuda":
        torch.set_float32_matmul_precision("high")
    rates = {}
    for name in dict.fromkeys(("float32", dtype)):
        a, b = torch.randn(2, side, side, device=device).to(DTYPES[name])
        # Six, since the first product also initialises the library.
        (times,) = alternate((lambda a=a, b=b: a @ b,), 6, device)
        rates[name] = 2 * side**3 / median(times[1:])
    torch.set_float32_matmul_precision(precision)
    return rates
