"""The networks: a training step, ours against others', and the reference padding."""

import importlib
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from types import ModuleType
from typing import Any

import torch
from mmengine.config import Config
from mmengine.optim import OptimWrapper, build_optim_wrapper
from mmengine.registry import init_default_scope
from mmengine.structures import PixelData
from mmseg.registry import MODELS
from mmseg.structures import SegDataSample
from torch import Tensor, nn
from torch.autograd import DeviceType
from torch.autograd.profiler_util import FunctionEvent
from torch.nn import functional
from torch.profiler import ProfilerActivity, profile, record_function
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.framework import (
    MIB,
    Figure,
    Reading,
    Row,
    Setting,
    Sides,
    Skipped,
    alternate,
    peak_memory,
    quartiles,
    synchronize,
)
from fcn_plugin.models import ConvolutionalizedVGG, SkipFusionHead
from fcn_plugin.models.features import Features

CONFIG = Path(__file__).parents[2] / "configs" / "fcn8s_vgg16_ade20k.py"
CLASSES = 150
QUICK_WIDTH = dict(base_channels=8, fc_channels=32)
STEP = "training step"
PADDINGS = dict(conv1_1=100, fc6=0, fc7=0)  # as published; of the other layers 1

# What the time of a step goes to: a kind, and what the names of its operations, or of the
# operations around them, contain. The first that fits counts.
KINDS = (
    ("optimizer", ("Optimizer.",)),
    ("convolution", ("conv",)),
    ("pooling", ("pool", "MaxPool")),
    ("relu", ("relu", "Relu", "threshold", "clamp_min")),
    ("loss", ("softmax", "Softmax", "nll_loss", "NllLoss", "cross_entropy", "topk", "argmax")),
    ("dropout", ("dropout", "bernoulli")),
    ("upsampling", ("upsample", "interpolat", "matmul", "bmm", "aten::mm", "MmBackward")),
    ("normalisation", ("batch_norm", "BatchNorm")),
    ("copies", ("copy", "contiguous", "clone", "aten::to", "stack", "cat", "Memcpy")),
    ("python", (STEP,)),
)


class Step:
    """One training step of a segmentor as the host's runner does it, on the same batch each time.

    Args:
        model: a config of the segmentor.
        optimizer: a config of the optimizer wrapper.
        batch: images in a batch, noise of ``side`` x ``side`` with labels in ``CLASSES``.
    """

    def __init__(
        self, model: dict, optimizer: dict, setting: Setting, batch: int, side: int
    ) -> None:
        init_default_scope("mmseg")
        self.model = MODELS.build(model).to(setting.device).train()
        wrapper = optimizer | dict(type=Autocast, device=setting.device, precision=setting.dtype)
        self.optimizer = build_optim_wrapper(self.model, wrapper)
        torch.manual_seed(0)
        self.data = dict(
            inputs=list(torch.randint(0, 256, (batch, 3, side, side), dtype=torch.uint8)),
            data_samples=[_sample(label) for label in _labels(batch, side)],
        )

    def __call__(self) -> dict[str, Tensor]:
        return self.model.train_step(dict(self.data), self.optimizer)


class Autocast(OptimWrapper):
    """Forward in ``precision`` on ``device``; float32 is left alone. Losses are not scaled."""

    def __init__(self, device: torch.device, precision: torch.dtype, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.device, self.precision = device, precision

    @contextmanager
    def optim_context(self, model: nn.Module) -> Iterator[None]:
        lower = self.precision != torch.float32
        with (
            super().optim_context(model),
            torch.autocast(self.device.type, self.precision, enabled=lower),
        ):
            yield


def _labels(batch: int, side: int) -> Tensor:
    """batch x side x side: regions of 32 pixels, some void."""
    cells = torch.randint(0, CLASSES + 10, (batch, -(-side // 32), -(-side // 32)))
    cells[cells >= CLASSES] = 255
    return cells.repeat_interleave(32, 1).repeat_interleave(32, 2)[:, :side, :side].contiguous()


def _sample(label: Tensor) -> SegDataSample:
    sample = SegDataSample(gt_sem_seg=PixelData(data=label[None]))
    shape = tuple(label.shape)
    sample.set_metainfo(dict(img_shape=shape, ori_shape=shape, pad_shape=shape))
    return sample


def our_step(setting: Setting, batch: int) -> Step:
    """FCN-8s on VGG16 by the shipped config for ADE20K, without the pretrained weights."""
    config = Config.fromfile(CONFIG)
    model = config.model.to_dict()
    model["backbone"]["init_cfg"] = None
    model["data_preprocessor"]["size"] = (_side(setting),) * 2
    if setting.quick:
        model["backbone"] |= QUICK_WIDTH
        model["decode_head"]["in_channels"] = (32, 64, 32)
    return Step(model, config.optim_wrapper.to_dict(), setting, batch, _side(setting))


def host_step(setting: Setting, batch: int) -> Step:
    """The host's FCN on ResNetV1c-50-d8 with its auxiliary head, as its configs have them."""
    norm = dict(type="BN", requires_grad=True)
    head = dict(type="FCNHead", num_classes=CLASSES, norm_cfg=norm, concat_input=False)
    loss = dict(type="CrossEntropyLoss", use_sigmoid=False)
    model = dict(
        type="EncoderDecoder",
        data_preprocessor=dict(
            type="SegDataPreProcessor",
            mean=[123.675, 116.28, 103.53],
            std=[58.395, 57.12, 57.375],
            bgr_to_rgb=True,
            size=(_side(setting),) * 2,
            pad_val=0,
            seg_pad_val=255,
        ),
        backbone=dict(
            type="ResNetV1c",
            depth=50,
            dilations=(1, 1, 2, 4),
            strides=(1, 2, 1, 1),
            norm_cfg=norm,
            contract_dilation=True,
        ),
        decode_head=head
        | dict(in_channels=2048, in_index=3, channels=512, num_convs=2, concat_input=True)
        | dict(dropout_ratio=0.1, loss_decode=loss),
        auxiliary_head=head
        | dict(in_channels=1024, in_index=2, channels=256, num_convs=1)
        | dict(dropout_ratio=0.1, loss_decode=loss | dict(loss_weight=0.4)),
    )
    optimizer = dict(optimizer=dict(type="SGD", lr=0.01, momentum=0.9, weight_decay=0.0005))
    return Step(model, optimizer, setting, batch, _side(setting))


def peer_step(setting: Setting, batch: int) -> Callable[[], Tensor]:
    """pytorch-fcn's FCN-8s, its summed loss over the labelled pixels and plain SGD."""
    device = setting.device
    model = peer(setting, CLASSES).to(device).train()
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-10, momentum=0.99, weight_decay=0.0005)
    torch.manual_seed(0)
    images = torch.rand(batch, 3, _side(setting), _side(setting)) * 255 - 115
    labels = _labels(batch, _side(setting))
    loss_of = nn.CrossEntropyLoss(ignore_index=255, reduction="sum")

    def step() -> Tensor:
        with torch.autocast(device.type, setting.dtype, enabled=setting.dtype != torch.float32):
            loss = loss_of(model(images.to(device)), labels.to(device))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return loss.detach()

    return step


def _side(setting: Setting) -> int:
    return 64 if setting.quick else 512


def _batch(setting: Setting, on_cpu: int) -> int:
    return setting.batch or (16 if setting.device.type == "cuda" and not setting.quick else on_cpu)


def training(setting: Setting, repeats: int) -> Reading:
    """How much of a training step's time is not convolution."""
    device, batch = setting.device, _batch(setting, 2)
    step = our_step(setting, batch)
    with FlopCounterMode(display=False) as counter:
        step()
    (times,) = alternate([step], repeats, device)
    seconds, operations = median(times), counter.get_total_flops()
    kinds = time_by_kind(step, device)
    total = sum(kinds.values())
    share = 1 - kinds["convolution"] / total
    beside = [Row("time", seconds, "s")]
    if (peak := peak_memory(step, device)) is not None:
        beside.append(Row("memory", peak / MIB, "MiB"))
    beside.append(Row("operations", operations / 1e9, "GFLOP"))
    parts = {kind: 100 * taken / total for kind, taken in kinds.items()}
    others = [f"{part:.1f} % {kind}" for kind, part in parts.items() if kind != "convolution"]
    return Reading(
        share,
        "",
        "not convolution",
        tuple(beside),
        f"{batch / seconds:.3g} images/s, batch {batch}; {', '.join(others)}",
        dict(
            batch=batch,
            quartiles=quartiles(times),
            images_per_second=batch / seconds,
            seconds_by_kind=dict(kinds),
            operations=operations,
            operations_per_second=[operations / seconds],
        ),
    )


def time_by_kind(call: Callable[[], object], device: torch.device) -> Counter[str]:
    """Seconds of one call by ``KINDS``, most first; time between operations counts as "python".

    On CUDA seconds of its kernels, which run while Python goes on.
    """
    cuda = device.type == "cuda"
    activities = [ProfilerActivity.CPU] + [ProfilerActivity.CUDA] * cuda
    with profile(activities=activities) as profiler:
        with record_function(STEP):
            call()
        synchronize(device)
    kinds: Counter[str] = Counter()
    for event in profiler.events():
        # The kernels' own events would count them twice.
        if event.device_type == DeviceType.CPU:
            taken = event.self_device_time_total if cuda else event.self_cpu_time_total
            if taken > 0 and _within(event, STEP):
                kinds[_kind(event)] += taken / 1e6
    return Counter(dict(kinds.most_common()))


def _around(event: FunctionEvent) -> Iterator[str]:
    """Names of the operation and of those around it, innermost first."""
    node: FunctionEvent | None = event
    while node is not None:
        yield node.name
        node = node.cpu_parent


def _within(event: FunctionEvent, name: str) -> bool:
    """Also what another thread does, as the backward pass on CUDA, is within the step."""
    names = list(_around(event))
    return name in names or any("evaluate_function" in n for n in names)


def _kind(event: FunctionEvent) -> str:
    for name in _around(event):
        for kind, parts in KINDS:
            if any(part in name for part in parts):
                return kind
    return "other"


def against_host(setting: Setting) -> Sides:
    batch = _batch(setting, 1)
    ours, theirs = our_step(setting, batch), host_step(setting, batch)
    return Sides(ours, theirs, unit="s", per=batch, count=True)


def against_peer(setting: Setting) -> Sides:
    batch = _batch(setting, 1)
    theirs = peer_step(setting, batch)
    return Sides(our_step(setting, batch), theirs, unit="s", per=batch, count=True)


def padding_plain(setting: Setting) -> Sides:
    """FCN-8s as published, against its layers one after the other on the whole padded image."""
    backbone, head = _published(setting)
    image = _image(setting)

    def plain() -> Tensor:
        x, levels = image.contiguous(memory_format=torch.channels_last), []
        for stage in backbone.stages:
            for name, layer in stage.named_children():
                if isinstance(layer, nn.Conv2d):
                    padding = PADDINGS.get(name, 1)
                    x = functional.conv2d(x, layer.weight, layer.bias, padding=padding)
                else:
                    x = layer(x)
            levels.append(x)
        chosen = [levels[i] for i in backbone.out_indices]
        return head(Features(chosen, backbone.maps, image.shape[-2:], zero_border=True))

    return _forward(lambda: head(backbone(image)), plain, setting)


def padding_peer(setting: Setting) -> Sides:
    """FCN-8s as published, against pytorch-fcn's with the same weights."""
    theirs = peer(setting, 21).to(setting.device).eval()
    backbone, head = _published(setting, full=True)
    weights = {name.split(".", 2)[2]: value for name, value in backbone.state_dict().items()}
    for name, score in zip(("score_pool3", "score_pool4", "score_fr"), head.score, strict=True):
        weights |= {f"{name}.{key}": value for key, value in score.state_dict().items()}
    missing, unexpected = theirs.load_state_dict(weights, strict=False)
    # Its upsampling layers are bilinear from the start.
    assert not unexpected and all(name.startswith("upscore") for name in missing), missing
    image = _image(setting)
    return _forward(lambda: head(backbone(image)), lambda: theirs(image), setting)


def _published(setting: Setting, full: bool = False) -> tuple[nn.Module, SkipFusionHead]:
    """Backbone and head with random weights, skips as strong as the deepest level."""
    torch.manual_seed(0)
    narrow = setting.quick and not full
    width = QUICK_WIDTH if narrow else {}
    backbone = ConvolutionalizedVGG(16, padding="reference", **width)
    backbone.init_weights()
    head = SkipFusionHead((32, 64, 32) if narrow else (256, 512, 4096), (0, 1, 2), 21)
    for score in head.score:
        nn.init.kaiming_normal_(score.weight)
    return backbone.to(setting.device).eval(), head.to(setting.device).eval()


def _image(setting: Setting) -> Tensor:
    """1 x 3 x 375 x 500, the most frequent size of VOC: noise in the range of pixels."""
    size = (97, 131) if setting.quick else (375, 500)
    return (torch.rand(1, 3, *size) * 255 - 115).to(setting.device)


def _forward(ours: Callable[[], Tensor], theirs: Callable[[], Tensor], setting: Setting) -> Sides:
    def inference(call: Callable[[], Tensor]) -> Callable[[], Tensor]:
        @torch.no_grad()
        def forward() -> Tensor:
            lower = setting.dtype != torch.float32
            with torch.autocast(setting.device.type, setting.dtype, enabled=lower):
                return call()

        return forward

    tolerance = 1e-5 if setting.dtype == torch.float32 else 0.05

    def agree(mine: Tensor, peer: Tensor) -> str:
        error = float((mine - peer).abs().max() / peer.abs().max())
        assert error <= tolerance, f"largest difference {error:.1e} of the largest score"
        return f"scores agree to {error:.0e} of the largest"

    return Sides(inference(ours), inference(theirs), agree, count=True)


def peer(setting: Setting, classes: int) -> nn.Module:
    """pytorch-fcn's FCN-8s, without the packages around it: they download, plot and read sets."""
    if setting.peers is None:
        raise Skipped("give --peer DIR, a clone of github.com/wkentaro/pytorch-fcn")
    sys.modules.setdefault("fcn", ModuleType("fcn"))  # only for downloads
    package = ModuleType("torchfcn_models")
    package.__path__ = [str(setting.peers.resolve() / "torchfcn" / "models")]
    sys.modules[package.__name__] = package
    return importlib.import_module(f"{package.__name__}.fcn8s").FCN8s(n_class=classes)


FIGURES = [
    Figure(
        STEP,
        "network",
        "FCN-8s VGG16, 512 x 512, 150 classes",
        reading=training,
        value_bar=0.15,
    ),
    Figure(
        "training: host",
        "network",
        "mmseg: FCN R50-D8, 512 x 512, 150 classes",
        against_host,
        time_bar=1.0,
        repeats=3,
        bars_on=("cuda",),
    ),
    Figure(
        "training: pytorch-fcn",
        "network",
        "pytorch-fcn: FCN8s, 512 x 512, 150 classes",
        against_peer,
        time_bar=1.0,
        repeats=3,
        bars_on=("cuda",),
    ),
    Figure(
        "reference padding",
        "network",
        "our FCN-8s, the padded image computed plainly, 375 x 500",
        padding_plain,
        repeats=3,
    ),
    Figure(
        "reference padding: pytorch-fcn",
        "network",
        "pytorch-fcn: FCN8s, 375 x 500",
        padding_peer,
        operations_bar=0.85,
        repeats=3,
    ),
]
