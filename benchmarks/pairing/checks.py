"""Check a pair: its size, and whether it predicts, trains and exports."""

import signal
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from mmengine.model import BaseModel
from mmengine.registry import DefaultScope
from mmengine.structures import PixelData
from mmseg.registry import MODELS
from mmseg.structures import SegDataSample
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from fcn_plugin.export import check_onnx, export_onnx
from fcn_plugin.models import SkipFusionHead
from pairing.pair import CLASSES, SKIPPED, YES, Levels, Pair, Row, complete, levels_of

AGREE = 0.9999  # least fraction of pixels with equal labels in ONNX
PATIENCE = 60  # seconds of CPU time for an export, which can take torch hours


class Failed(Exception):
    """A check ran and failed; the message says why."""


def check(pair: Pair, quick: bool = False) -> Row:
    """Build a pair and check it on images of 128 x 128 pixels; 64 x 64 and narrow if ``quick``.

    Operations are counted at 512 x 512, or 64 x 64; a backbone of fixed size uses that size.
    """
    if pair.needs and not installed(pair.needs):
        return pair.row(f"{SKIPPED}: needs {pair.needs}")
    try:
        config = complete(pair, quick)
        levels = levels_of(config.backbone, config.get("neck"))
        model = built(config)
    except Exception as error:
        return pair.row(f"no: {reason(error)}")
    sizes = (64, 64) if quick else (128, 512)
    side, counted = config.backbone.get("img_size") or sizes
    images = torch.randn(2, 3, side, side)
    forward, backward, onnx = (outcome(test, model, images) for test in (predicts, learns, exports))
    return Row(
        pair.name,
        forward,
        backward,
        onnx,
        taken(levels, config.decode_head),
        sum(parameter.numel() for parameter in model.parameters()),
        operations(model, counted) if forward.startswith(YES) else None,
    )


def installed(package: str) -> bool:
    return any(dist.name == package for dist in metadata.distributions(name=package))


def built(config: dict) -> BaseModel:
    """The model; its score layers are random, since with zeros all labels would be equal."""
    torch.manual_seed(0)
    with DefaultScope.overwrite_default_scope("mmseg"):
        model = MODELS.build(config)
    model.init_weights()
    for part in model.modules():
        if isinstance(part, SkipFusionHead):
            for score in part.score:
                torch.nn.init.kaiming_normal_(score.weight)
    return model


def taken(levels: Levels, head: dict | list[dict]) -> Levels:
    """The levels that the first head takes, in the order of its ``in_index``."""
    first = head[0] if isinstance(head, list) else head
    index = first.get("kernel_generate_head", first)["in_index"]
    chosen = [index] if isinstance(index, int) else index
    return Levels(*(tuple(values[i] for i in chosen) for values in levels))


def operations(model: BaseModel, side: int) -> int | None:
    """Operations of convolutions and matrix products in a forward pass of one image."""
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        try:
            model.eval()(torch.zeros(1, 3, side, side), mode="tensor")
        except TypeError:  # PointRend's head has no such forward
            return None
    return counter.get_total_flops()


def outcome(check: Callable[..., str], model: BaseModel, *inputs: object) -> str:
    try:
        remark = check(model, *inputs)
    except Exception as error:
        return f"no: {reason(error)}"
    return f"{YES}, {remark}" if remark else YES


def reason(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__


def samples(images: Tensor) -> list[SegDataSample]:
    size = tuple(images.shape[-2:])
    meta = dict(img_shape=size, ori_shape=size, pad_shape=size)
    labels = (PixelData(data=torch.randint(0, CLASSES, (1, *size))) for _ in images)
    return [SegDataSample(gt_sem_seg=label, metainfo=meta) for label in labels]


@torch.no_grad()
def predicts(model: BaseModel, images: Tensor) -> str:
    """Check that scores are finite, and that labels have the images' size."""
    for sample in model.eval().predict(images, samples(images)):
        labels = sample.pred_sem_seg.data
        if labels.shape != (1, *images.shape[-2:]):
            raise Failed(f"labels of {tuple(labels.shape)} for images of {tuple(images.shape)}")
        if not sample.seg_logits.data.isfinite().all():
            raise Failed("scores that are not finite")
    return ""


def learns(model: BaseModel, images: Tensor) -> str:
    """Check that gradients are finite and reach the first layer; count parameters without one."""
    model.train().zero_grad()
    loss, _ = model.parse_losses(model.loss(images, samples(images)))
    loss.backward()
    gradients = {name: p.grad for name, p in model.named_parameters() if p.requires_grad}
    unused = [name for name, gradient in gradients.items() if gradient is None]
    for name, gradient in gradients.items():
        if gradient is not None and not gradient.isfinite().all():
            raise Failed(f"the gradient of {name} is not finite")
    first = next(name for name in gradients if name.startswith("backbone"))
    if first in unused or not gradients[first].any():
        raise Failed(f"no gradient comes to {first}")
    return f"but {len(unused)} parameters get none, such as {unused[0]}" if unused else ""


class TooLong(BaseException):
    """Raised by the timer; not an ``Exception``, which the exporter would catch."""


def exports(model: BaseModel, images: Tensor) -> str:
    """Check that the labels of an ONNX file for this image size are the model's."""

    def stop(*_: object) -> None:
        raise TooLong

    size = (images.shape[-2], images.shape[-1])
    signal.signal(signal.SIGVTALRM, stop)
    signal.setitimer(signal.ITIMER_VIRTUAL, PATIENCE)
    with TemporaryDirectory() as folder:
        file = Path(folder) / "model.onnx"
        try:
            export_onnx(model, file, size=size)
        except TooLong:
            raise Failed(f"torch's exporter takes more than {PATIENCE} s") from None
        finally:
            signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        for _, identical, _ in check_onnx(model, file, sizes=[size]):
            if identical < AGREE:
                raise Failed(f"{100 * identical:.2f} % of the labels agree")
    return ""
