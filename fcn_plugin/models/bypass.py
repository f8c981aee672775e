"""Whether a step may be passed by, where the result can be had without it."""

from torch import nn

# Where torch.nn.Module keeps who is to see what goes in or comes out.
HOOKS = ("_forward_pre_hooks", "_forward_hooks", "_backward_pre_hooks", "_backward_hooks")


def is_hooked(module: nn.Module) -> bool:
    """Whether anybody is to see what goes into ``module`` or comes out."""
    return any(getattr(module, hooks) for hooks in HOOKS)


def has_own(module: nn.Module, base: type[nn.Module], methods: tuple[str, ...]) -> bool:
    """Whether a subclass of ``base`` replaces one of ``methods``, which must then be called."""
    return any(getattr(type(module), name) is not getattr(base, name) for name in methods)
