"""Compare network, padding, preprocessing and classes of a checkpoint with those of the model."""

from dataclasses import asdict
from typing import Any, NamedTuple

import torch
from mmengine.hooks import Hook
from mmengine.runner import Runner
from mmseg.registry import HOOKS
from mmseg.structures import SegDataSample
from torch import Tensor, nn

from fcn_plugin.data.tasks import TASKS
from fcn_plugin.engine import bare_model
from fcn_plugin.errors import UserError, quoted
from fcn_plugin.models.bands import BandsPreProcessor
from fcn_plugin.weights.networks import COUNT, net_of
from fcn_plugin.weights.sources import BANDS, Input
from fcn_plugin.weights.structure import check_tensors

# Means that differ by less come from two samples of the same pictures: Caffe's VGG subtracts
# 103.939, 116.779, 123.68 and the FCNs that start from it 104.00699, 116.66877, 122.67892.
SAME_MEAN = 2.0
SAME_STD = 1.05
SPREAD = 58  # standard deviation of photos in 0-255, to which SAME_MEAN refers
OTHER_NETWORK = (
    "give its own config, or make another network of it: fcn-plugin convert_weights --net"
)


class Stored(NamedTuple):
    """What a checkpoint records about the model it was saved from.

    Attributes:
        meta: mmengine's and our entries; empty without a checkpoint.
        shapes: Shape of each tensor by name; None without a checkpoint.
    """

    meta: dict[str, Any]
    shapes: dict[str, torch.Size] | None

    @classmethod
    def of(cls, checkpoint: dict) -> "Stored":
        meta, tensors = checkpoint.get("meta"), _tensors(checkpoint)
        shapes = {name.removeprefix("module."): value.shape for name, value in tensors.items()}
        return cls(meta if isinstance(meta, dict) else {}, shapes)

    def refuse_others(self, model: nn.Module, dataset_meta: Any) -> None:
        """Raise ``UserError`` unless the checkpoint fits the model and the classes' order."""
        for fault in [*self.faults(model, dataset_meta), self._lacking(model)]:
            if fault:
                config = self.meta.get("made_for")
                for_config = f"; the checkpoint is for {quoted(config)}" if config else ""
                raise UserError(fault + for_config)

    def faults(self, model: nn.Module, dataset_meta: Any) -> list[str]:
        """A message for each of network, padding, input and order of classes that differs."""
        # Without a checkpoint: what the backbone's ImageNet weights were trained on.
        of_backbone = getattr(getattr(model, "backbone", None), "trained_on", None)
        stored, given = (
            meta if isinstance(meta, dict) else {}
            for meta in (self.meta.get("dataset_meta"), dataset_meta)
        )
        faults = [
            self._other("net", "network", net_of(model), OTHER_NETWORK),
            self._other("padding", "padding", _padding(model), "set model.backbone.padding={}"),
            input_fault(Input.stored(self.meta) or of_backbone, input_of(model)),
            _classes_fault(stored.get("classes"), given.get("classes")),
        ]
        for task in dict(getattr(model, "task_heads", None) or {}):
            classes = [
                ((m.get(TASKS) or {}).get(task) or {}).get("classes") for m in (stored, given)
            ]
            faults.append(_classes_fault(*classes))
        return [fault for fault in faults if fault]

    def _other(self, key: str, what: str, configured: Any, remedy: str) -> str | None:
        stored = self.meta.get(key)
        if not isinstance(stored, str) or configured is None or stored == configured:
            return None
        value = quoted(stored)
        remedy = remedy.format(value)
        return f"the checkpoint's {what} is {value}, the config's is {configured}; {remedy}"

    def _lacking(self, model: nn.Module) -> str | None:
        """The first parameter that is missing or has another shape; mmengine only warns."""
        if self.shapes is None:
            return None
        for name, tensor in model.state_dict().items():
            stored = self.shapes.get(name)
            if stored != tensor.shape and not name.endswith(COUNT):
                shape = "missing" if stored is None else f"{tuple(stored)}"
                return (
                    f"the checkpoint does not fit the config: {name} is {shape}, not "
                    f"{tuple(tensor.shape)}; give the config that it was trained with"
                )
        return None


@HOOKS.register_module()
class InputCheckHook(Hook):
    """Record a model's input, padding and network in its checkpoints; compare them on loading.

    Testing is refused if one of them differs, if a parameter is missing or has another shape, or if
    the checkpoint has the same classes in another order: the scores would be wrong but plausible.
    Training may start from such weights, with a warning.
    """

    def __init__(self) -> None:
        self.stored = Stored({}, None)

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        model = bare_model(runner)
        checkpoint["meta"] |= dict(net=net_of(model), padding=_padding(model))
        if (model_input := input_of(model)) is not None:
            checkpoint["meta"]["input"] = asdict(model_input)

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        names = bare_model(runner).state_dict()
        tensors = _tensors(checkpoint)
        used = {k: v for k, v in tensors.items() if k.removeprefix("module.") in names}
        check_tensors(runner.cfg.get("load_from") or "the checkpoint", used)
        self.stored = Stored.of(checkpoint)

    def before_test(self, runner: Runner) -> None:
        dataset = runner.test_dataloader.dataset
        self.stored.refuse_others(bare_model(runner), getattr(dataset, "metainfo", None))

    def before_train(self, runner: Runner) -> None:
        dataset = runner.train_dataloader.dataset
        for fault in self.stored.faults(bare_model(runner), getattr(dataset, "metainfo", None)):
            runner.logger.warning(fault)


def _tensors(checkpoint: dict) -> dict[str, Tensor]:
    state = checkpoint.get("state_dict", checkpoint)
    return {name: value for name, value in state.items() if isinstance(value, Tensor)}


def _padding(model: nn.Module) -> str | None:
    return getattr(getattr(model, "backbone", None), "padding", None)


def input_of(model: nn.Module) -> Input | None:
    """What ``model``'s data preprocessor makes of the pipelines' BGR images.

    None if it subtracts no mean, which the pipeline may do instead.
    """
    preprocessor = getattr(model, "data_preprocessor", None)
    mean, std = getattr(preprocessor, "mean", None), getattr(preprocessor, "std", None)
    if not isinstance(mean, Tensor) or not isinstance(std, Tensor):
        return None
    numbers = (tuple(values.flatten().tolist()) for values in (mean, std))
    return Input(channel_order(preprocessor), *numbers)


def channel_order(preprocessor: Any) -> str:
    """What ``preprocessor`` makes of the pipelines' BGR images: "RGB" if it swaps, else "BGR".

    ``BANDS`` if it takes bands in the order of the files. Asks with a pixel: whether it swaps has
    another private name in each family of mmseg.
    """
    if isinstance(preprocessor, BandsPreProcessor):
        return BANDS
    mean, std = (getattr(preprocessor, name, None) for name in ("mean", "std"))
    channels = len(mean) if isinstance(mean, Tensor) and len(mean) > 1 else 3
    pixel = torch.arange(channels, dtype=torch.uint8).view(-1, 1, 1)
    samples = [SegDataSample()]
    (image,) = preprocessor(dict(inputs=[pixel], data_samples=samples), False)["inputs"]
    if isinstance(mean, Tensor) and isinstance(std, Tensor):
        image = image * std + mean
    blue, *_, last = image[:, 0, 0].tolist()
    return "RGB" if blue > last else "BGR"


def input_fault(stored: Input | None, configured: Input | None) -> str | None:
    """The message if channel order, mean or std differ; None if they agree or one is unknown."""
    if stored is None or configured is None:
        return None
    means = zip(stored.mean, configured.mean, strict=False)
    stds = zip(stored.std, configured.std, strict=False)
    # Bands have units of their own.
    units = [std / SPREAD if stored.order == BANDS else 1 for std in stored.std]
    close = zip(means, units, strict=False)
    same_means = all(abs(a - b) <= SAME_MEAN * unit for (a, b), unit in close)
    same_stds = all(max(a / b, b / a) <= SAME_STD for a, b in stds)
    alike = (stored.order, len(stored.mean)) == (configured.order, len(configured.mean))
    if alike and same_means and same_stds:
        return None
    settings = stored.preprocessor()
    for key in ("mean", "std"):
        settings[key] = [float(f"{value:.8g}") for value in settings[key]]
    remedy = " ".join(
        f"model.data_preprocessor.{key}={value}".replace(", ", ",")
        for key, value in settings.items()
    )
    return (
        f"the weights were trained on {_described(stored)}, the config gives them "
        f"{_described(configured)}; set {remedy}"
    )


def _described(image: Input) -> str:
    mean, std = ("/".join(f"{v:.5g}" for v in values) for values in (image.mean, image.std))
    return f"{image.order} with mean {mean} and std {std}"


def _classes_fault(stored: Any, configured: Any) -> str | None:
    """The message if the classes are the same in another order, else None."""
    if not stored or not configured or set(stored) != set(configured):
        return None
    pairs = enumerate(zip(stored, configured, strict=False))
    first = next((i for i, (a, b) in pairs if a != b), None)
    if first is None:
        return None
    return (
        f"the checkpoint has its classes in another order: class {first} is {stored[first]!r} "
        f"there and {configured[first]!r} in the data set; give the data set "
        "metainfo=dict(classes=...) in the checkpoint's order"
    )
