"""Finders for ``sys.meta_path`` that answer for packages which are not there, or do not fit."""

from collections.abc import Callable, Sequence
from functools import partial
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType
from typing import Any, NoReturn

_EXTENSION = "mmcv._ext"
# mmcv.utils.collect_env calls these if mmcv.ops can be imported, so they return a text.
_QUESTIONS = ("get_compiler_version", "get_compiling_cuda_version")


class ExtensionFinder(MetaPathFinder, Loader):
    """Stand in for the compiled operators ``mmcv._ext`` where no other finder has them.

    The module has a function for every public name, which raises when it is called: ``mmcv.ops``
    can be imported, and only calling an operator fails.
    """

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        return ModuleSpec(fullname, self) if fullname == _EXTENSION else None

    def exec_module(self, module: ModuleType) -> None:
        module.__doc__ = "Stands in for the compiled operators that mmcv-lite does not have."
        module.__getattr__ = _operator  # type: ignore[method-assign]


def _operator(name: str) -> Callable[..., Any]:
    # inspect, copy and the import system look up such names and need an AttributeError.
    if name.startswith("_"):
        raise AttributeError(f"module {_EXTENSION!r} has no attribute {name!r}")
    if name in _QUESTIONS:
        return lambda: "n/a (mmcv-lite)"

    def missing(*args: Any, **kwargs: Any) -> NoReturn:
        raise RuntimeError(
            f"the operator {name} needs full mmcv, and mmcv-lite has no compiled operators: pip "
            "uninstall mmcv-lite, pip install 'setuptools<81' wheel, then pip install "
            "--no-build-isolation 'mmcv==2.1.0', which compiles them in half an hour"
        )

    missing.__name__ = missing.__qualname__ = name
    return missing


class TorchvisionFinder(MetaPathFinder):
    """Let a torchvision that does not fit torch count as one that is not installed.

    mmengine imports it at the start of a run, to log its version. Of the errors that such a
    build raises it expects none.
    """

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        spec = PathFinder.find_spec(fullname, path) if fullname == "torchvision" else None
        if spec and spec.loader:
            execute = spec.loader.exec_module
            spec.loader.exec_module = partial(_execute, execute)  # type: ignore[method-assign]
        return spec


def _execute(execute: Callable[[ModuleType], None], module: ModuleType) -> None:
    try:
        execute(module)
    except ModuleNotFoundError:
        raise
    except Exception as error:
        raise ModuleNotFoundError(
            f"torchvision does not fit torch ({error}). Remedy: pip uninstall torchvision, or "
            "install both by one command: pip install --upgrade torch torchvision",
            name="torchvision",
        ) from error


# One of each in a process, so that it is not added twice.
EXTENSION_FINDER = ExtensionFinder()
TORCHVISION_FINDER = TorchvisionFinder()
