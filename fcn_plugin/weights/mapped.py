"""Build a network around the tensors of a file, which are neither drawn before nor copied.

A file that is memory-mapped holds the weights as the network takes them. They stay where they are:
nothing else is allocated for them, and processes that predict with the same file share its memory.
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from torch import Tensor, nn
from torch.nn import init
from torch.overrides import TorchFunctionMode

from fcn_plugin.errors import UserError

# What layers draw their first weights with.
DRAWING = (
    Tensor.normal_,
    Tensor.uniform_,
    init.kaiming_normal_,
    init.kaiming_uniform_,
    init.normal_,
    init.uniform_,
)


class Undrawn(TorchFunctionMode):
    """In its ``with`` block no random numbers are drawn for parameters, and their memory stays
    untouched.

    Attributes:
        parameters: those whose numbers are missing.
    """

    def __init__(self) -> None:
        super().__init__()
        self.parameters: list[nn.Parameter] = []

    def __torch_function__(
        self, func: Any, types: Any, args: tuple = (), kwargs: dict | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if func in DRAWING:
            tensor = args[0] if args else kwargs["tensor"]
            if isinstance(tensor, nn.Parameter):
                self.parameters.append(tensor)
                return tensor
        return func(*args, **kwargs)


def build(network: Callable[[], nn.Module], tensors: Mapping[str, Tensor]) -> nn.Module:
    """What ``network`` builds, without random numbers where it takes its weights from ``tensors``.

    Args:
        tensors: to be loaded; if they lack a parameter, all random numbers are drawn.
    """
    with Undrawn() as undrawn:
        built = network()
    stored = {id(p) for n, p in built.named_parameters(remove_duplicate=False) if n in tensors}
    others = {id(parameter) for parameter in built.parameters()} - stored
    return network() if others & set(map(id, undrawn.parameters)) else built


def share(network: nn.Module, tensors: Mapping[str, Tensor]) -> None:
    """Let parameters use the memory of their ``tensors``, where dtype and memory format agree.

    ``load_state_dict`` copies the others, and has nothing to do for these. No two parameters get
    the same memory.
    """
    taken: set[int] = set()
    for name, parameter in network.named_parameters():
        tensor = tensors.get(name)
        if tensor is None or _kind(tensor) != _kind(parameter) or tensor.data_ptr() in taken:
            continue
        taken.add(tensor.data_ptr())
        parameter.data = tensor


def _kind(tensor: Tensor) -> tuple:
    return tensor.shape, tensor.stride(), tensor.dtype, tensor.device


class MappedFile:
    """A file whose weights are in use where they lie.

    Another file may take its name (``mv``): the bytes stay until the last process that maps them
    ends. Bytes written into it (``cp``) would become the weights.
    """

    def __init__(self, path: Path) -> None:
        self.path, self._before = path, path.stat()

    def check(self) -> None:
        """Raise ``UserError`` if it was written to since."""
        try:
            now = self.path.stat()
        except FileNotFoundError:
            return
        another = (now.st_dev, now.st_ino) != (self._before.st_dev, self._before.st_ino)
        same = (now.st_size, now.st_mtime_ns) == (self._before.st_size, self._before.st_mtime_ns)
        if not (another or same):
            raise UserError(
                f"{self.path}: was written to since its weights were loaded, which are used where "
                "they lie; start again, and put a new file in its place by mv, not by cp"
            )
