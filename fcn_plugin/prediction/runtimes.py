"""Run an ONNX file without PyTorch: by onnxruntime, or by OpenVINO. On the CPU, in float32."""

from collections.abc import Callable, Mapping
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np

from fcn_plugin.errors import UserError
from fcn_plugin.system.machine import available_cores

# Bytes of a file whose weights onnxruntime does not reorder: that makes FCN-8s on VGG16 an eighth
# faster, and takes four times the file while it is loaded in place of twice.
LARGE = 2**28

Axes = tuple[int | None, ...]


class Runtime(NamedTuple):
    """A loaded file, which has one input and one output.

    Attributes:
        metadata: texts that the file holds, see ``fcn_plugin.export``.
        dtype, axes: of the input; an axis of any length is None.
        output: name of the output.
        run: gives the output of an input.
    """

    metadata: Mapping[str, str]
    dtype: str
    axes: Axes
    output: str
    run: Callable[[np.ndarray], np.ndarray]


def _onnxruntime(file: Path, package: ModuleType) -> Runtime:
    options = package.SessionOptions()
    options.log_severity_level = 3  # errors
    options.intra_op_num_threads = available_cores()
    if file.stat().st_size > LARGE:
        options.graph_optimization_level = package.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
    # Threads that wait would take the cores from those that read and write.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    session = package.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])
    (given,), (result,) = session.get_inputs(), session.get_outputs()
    return Runtime(
        session.get_modelmeta().custom_metadata_map,
        given.type.removeprefix("tensor(").removesuffix(")"),
        tuple(axis if isinstance(axis, int) else None for axis in given.shape),
        result.name,
        lambda batch: session.run(None, {given.name: batch})[0],
    )


def _openvino(file: Path, package: ModuleType) -> Runtime:
    core = package.Core()
    model = core.read_model(str(file))
    told = model.rt_info["framework"] if model.has_rt_info("framework") else {}
    settings = {
        "INFERENCE_PRECISION_HINT": "f32",  # or it takes bfloat16, where the processor has it
        "INFERENCE_NUM_THREADS": available_cores(),
        "PERFORMANCE_HINT": "LATENCY",
    }
    compiled = core.compile_model(model, "CPU", settings)
    (given,), (result,) = compiled.inputs, compiled.outputs

    def run(batch: np.ndarray) -> np.ndarray:
        return np.array(compiled([batch])[0])  # a copy: the next run writes to the same memory

    return Runtime(
        {name: _text(value) for name, value in told.items()},
        np.dtype(given.element_type.to_dtype()).name,
        tuple(None if axis.is_dynamic else axis.get_length() for axis in given.partial_shape),
        result.any_name,
        run,
    )


def _text(value: Any) -> str:
    return str(getattr(value, "value", value))


# Name of the package -> its loader.
RUNTIMES: dict[str, Callable[[Path, ModuleType], Runtime]] = {
    "onnxruntime": _onnxruntime,
    "openvino": _openvino,
}


def load(file: Path, name: str) -> Runtime:
    """Load an ONNX file into the runtime of this name.

    Raises:
        UserError: the runtime is not installed, or cannot read the file.
    """
    try:
        package = import_module(name)
    except ImportError as error:
        raise UserError(
            f"{name} is not installed, which predicts {file}; run pip install {name}"
        ) from error
    if not file.is_file():
        raise UserError(f"{file}: no such file; make it with fcn-plugin export_onnx")
    try:
        return RUNTIMES[name](file, package)
    except Exception as error:  # neither package has a common error class
        reason = " ".join(str(error).split())[:200]
        raise UserError(f"{file}: {name} cannot load it ({reason}); export it again") from error
