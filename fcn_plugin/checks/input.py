"""A checkpoint knows what it was trained as: network, padding, preprocessing and classes."""

from dataclasses import asdict
from typing import Any, NamedTuple

import torch
from mmengine.hooks import Hook
from mmengine.model import is_model_wrapper
from mmengine.runner import Runner
from mmseg.registry import HOOKS
from torch import Tensor, nn

from fcn_plugin.errors import UserError, quoted
from fcn_plugin.weights.networks import COUNT, net_of
from fcn_plugin.weights.sources import Input
from fcn_plugin.weights.structure import check_tensors

# Means that differ by less are those of two samples of the same pictures: Caffe's VGG subtracts
# 103.939, 116.779, 123.68 and the FCNs that start from it 104.00699, 116.66877, 122.67892.
SAME_MEAN = 2.0
SAME_STD = 1.05

NET_REMEDY = "give its own config, or make another network of it: tools/convert_weights.py --net"
PADDING_REMEDY = "set model.backbone.padding={}"


class Stored(NamedTuple):
    """What a checkpoint says of the model that it is of.

    Attributes:
        meta: the host's and ours; empty without a checkpoint.
        shapes: of its tensors by name; None without a checkpoint.
    """

    meta: dict[str, Any]
    shapes: dict[str, torch.Size] | None

    @classmethod
    def of(cls, checkpoint: dict) -> "Stored":
        meta = checkpoint.get("meta")
        state = checkpoint.get("state_dict", checkpoint)
        shapes = {
            name.removeprefix("module."): value.shape
            for name, value in state.items()
            if isinstance(value, Tensor)
        }
        return cls(meta if isinstance(meta, dict) else {}, shapes)

    def refuse_others(self, model: nn.Module, dataset_meta: Any) -> None:
        """Raise ``UserError`` unless the checkpoint is of this model and of these classes."""
        for fault in [*self.faults(model, dataset_meta), self._lacking(model)]:
            if fault:
                config = self.meta.get("made_for")
                raise UserError(
                    f"{fault}; the checkpoint is for {quoted(config)}" if config else fault
                )

    def faults(self, model: nn.Module, dataset_meta: Any) -> list[str]:
        """Where network, padding, input or order of the classes are others."""
        # Without a checkpoint: what the backbone's ImageNet weights were trained on.
        of_backbone = getattr(getattr(model, "backbone", None), "trained_on", None)
        trained_on, own = Input.stored(self.meta) or of_backbone, input_of(model)
        metas = self.meta.get("dataset_meta"), dataset_meta
        classes = [meta.get("classes") if isinstance(meta, dict) else None for meta in metas]
        found = [
            _other("network", self.meta.get("net"), net_of(model), NET_REMEDY),
            _other("padding", self.meta.get("padding"), _padding(model), PADDING_REMEDY),
            _input_fault(trained_on, own) if trained_on and own else None,
            _classes_fault(*classes),
        ]
        return [fault for fault in found if fault]

    def _lacking(self, model: nn.Module) -> str | None:
        """What the host only warns of: parameters that the checkpoint has not got, or not so."""
        if self.shapes is None:
            return None
        for name, tensor in model.state_dict().items():
            stored = self.shapes.get(name)
            if stored != tensor.shape and not name.endswith(COUNT):
                found = "missing" if stored is None else f"{tuple(stored)}"
                return (
                    f"the checkpoint does not fit the config: {name} is {found}, not "
                    f"{tuple(tensor.shape)}; give the config that it was trained with"
                )
        return None


@HOOKS.register_module()
class InputCheckHook(Hook):
    """Writes what a model is into its checkpoints, and compares a checkpoint with the model.

    That is its input, its padding, and which network it is. Testing is refused with a checkpoint
    that lacks or contradicts any of this, or that has the same classes in another order: the scores
    would be wrong, but not absurd. Training on from such weights is possible, and warned of.
    """

    def __init__(self) -> None:
        self.stored = Stored({}, None)

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        model = segmentor_of(runner)
        checkpoint["meta"] |= dict(net=net_of(model), padding=_padding(model))
        if (own := input_of(model)) is not None:
            checkpoint["meta"]["input"] = asdict(own)

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        own = segmentor_of(runner).state_dict()
        used = {
            name: value
            for name, value in checkpoint.get("state_dict", checkpoint).items()
            if isinstance(value, Tensor) and name.removeprefix("module.") in own
        }
        check_tensors(getattr(runner, "_load_from", None) or "the checkpoint", used)
        self.stored = Stored.of(checkpoint)

    def before_test(self, runner: Runner) -> None:
        dataset = runner.test_dataloader.dataset
        self.stored.refuse_others(segmentor_of(runner), getattr(dataset, "metainfo", None))

    def before_train(self, runner: Runner) -> None:
        dataset = runner.train_dataloader.dataset
        for fault in self.stored.faults(segmentor_of(runner), getattr(dataset, "metainfo", None)):
            runner.logger.warning(fault)


def _other(what: str, stored: Any, own: Any, remedy: str) -> str | None:
    if not isinstance(stored, str) or own is None or stored == own:
        return None
    said = quoted(stored)
    return f"the checkpoint's {what} is {said}, the config's is {own}; {remedy.format(said)}"


def _padding(model: nn.Module) -> str | None:
    return getattr(getattr(model, "backbone", None), "padding", None)


def segmentor_of(runner: Runner) -> nn.Module:
    """The model, out of its wrappers for several processes and for test-time augmentation."""
    model = runner.model.module if is_model_wrapper(runner.model) else runner.model
    return getattr(model, "module", model)


def input_of(model: nn.Module) -> Input | None:
    """What ``model``'s data preprocessor makes of the pipelines' images, which are BGR.

    None if it subtracts no mean: the pipeline may have done it then.
    """
    preprocessor = getattr(model, "data_preprocessor", None)
    mean, std = getattr(preprocessor, "mean", None), getattr(preprocessor, "std", None)
    if not isinstance(mean, Tensor) or not isinstance(std, Tensor):
        return None
    # mmseg's own name for it, and mmengine's.
    names = ("channel_conversion", "_channel_conversion")
    swapped = any(getattr(preprocessor, name, False) for name in names)
    return Input("RGB" if swapped else "BGR", *(tuple(v.flatten().tolist()) for v in (mean, std)))


def _input_fault(stored: Input, own: Input) -> str | None:
    """How two inputs contradict each other, with the remedy."""
    same = (
        stored.order == own.order
        and all(abs(a - b) <= SAME_MEAN for a, b in zip(stored.mean, own.mean, strict=False))
        and all(max(a / b, b / a) <= SAME_STD for a, b in zip(stored.std, own.std, strict=False))
    )
    if same:
        return None
    settings = stored.preprocessor()
    for key in ("mean", "std"):
        settings[key] = [round(value, 5) for value in settings[key]]
    remedy = " ".join(
        f"model.data_preprocessor.{key}={value}".replace(", ", ",")
        for key, value in settings.items()
    )
    return (
        f"the weights were trained on {stored.order} with mean {_rounded(stored.mean)} and std "
        f"{_rounded(stored.std)}, the config gives them {own.order} with mean "
        f"{_rounded(own.mean)} and std {_rounded(own.std)}; set {remedy}"
    )


def _rounded(values: tuple[float, ...]) -> str:
    return "/".join(f"{value:.5g}" for value in values)


def _classes_fault(stored: Any, own: Any) -> str | None:
    """Whether the classes are the same, but in another order."""
    if not stored or not own or list(stored) == list(own) or set(stored) != set(own):
        return None
    first = next(i for i, (a, b) in enumerate(zip(stored, own, strict=False)) if a != b)
    return (
        f"the checkpoint has its classes in another order: class {first} is {stored[first]!r} "
        f"there and {own[first]!r} in the data set; give the data set "
        "metainfo=dict(classes=...) in the checkpoint's order"
    )
