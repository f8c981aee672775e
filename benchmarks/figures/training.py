"""Figures of a training step: its time outside convolutions, and against other networks."""

from collections.abc import Callable
from functools import partial
from statistics import median

from torch.utils.flop_counter import FlopCounterMode

from figures import framework as measured
from figures.framework import MIB, Figure, Result, Row, Setting, Sides
from figures.kinds import STEP, time_by_kind
from figures.steps import mmseg_step, our_step, peer_step


def _batch(setting: Setting, on_cpu: int) -> int:
    return 16 if setting.device.type == "cuda" and not setting.quick else on_cpu


def training(setting: Setting, repeats: int) -> Result:
    device, batch = setting.device, _batch(setting, 2)
    step = our_step(setting, batch)
    with FlopCounterMode(display=False) as counter:
        step()
    (times,) = measured.alternate((step,), repeats, device)
    seconds, operations = median(times), counter.get_total_flops()
    kinds = time_by_kind(step, device)
    total = sum(kinds.values())
    rows = [Row(SHARE, 1 - kinds["convolution"] / total, ""), Row("time", seconds, "s")]
    if (peak := measured.peak_memory(step, device)) is not None:
        rows.append(Row("memory", peak / MIB, "MiB"))
    rows.append(Row("operations", operations / 1e9, "GFLOP"))
    shares = {kind: 100 * taken / total for kind, taken in kinds.items()}
    others = [f"{share:.1f} % {kind}" for kind, share in shares.items() if kind != "convolution"]
    details = dict(
        batch=batch,
        quartiles=measured.quartiles(times),
        images_per_second=batch / seconds,
        seconds_by_kind=dict(kinds),
        operations=operations,
        operations_per_second=[operations / seconds],
    )
    word = f"{batch / seconds:.3g} images/s, batch {batch}; {', '.join(others)}"
    return Result(tuple(rows), word, details)


def against(other: Callable[[Setting, int], Callable[[], object]], setting: Setting) -> Sides:
    batch = _batch(setting, 1)
    theirs = other(setting, batch)
    return Sides(our_step(setting, batch), theirs, unit="s", per=batch, count=True)


def compared(name: str, title: str, other: Callable) -> Figure:
    title = f"{title}, 512 x 512, 150 classes"
    return Figure(name, "network", title, partial(against, other), repeats=3)


SHARE = "not convolution"
OURS = "FCN-8s VGG16, 512 x 512, 150 classes"
FIGURES = [
    Figure(STEP, "network", OURS, reading=training),
    compared("training: mmseg", "mmseg: FCN R50-D8", mmseg_step),
    compared("training: pytorch-fcn", "pytorch-fcn: FCN8s", peer_step),
]
