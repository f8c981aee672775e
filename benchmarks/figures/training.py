"""A training step: how much of it is not convolution, and against others' networks."""

from statistics import median

from torch.utils.flop_counter import FlopCounterMode

from figures.framework import (
    MIB,
    Figure,
    Reading,
    Row,
    Setting,
    Sides,
    alternate,
    peak_memory,
    quartiles,
)
from figures.kinds import STEP, time_by_kind
from figures.steps import host_step, our_step, peer_step


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


def against_host(setting: Setting) -> Sides:
    batch = _batch(setting, 1)
    ours, theirs = our_step(setting, batch), host_step(setting, batch)
    return Sides(ours, theirs, unit="s", per=batch, count=True)


def against_peer(setting: Setting) -> Sides:
    batch = _batch(setting, 1)
    theirs = peer_step(setting, batch)
    return Sides(our_step(setting, batch), theirs, unit="s", per=batch, count=True)


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
]
