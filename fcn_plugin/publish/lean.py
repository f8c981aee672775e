"""Write the weights of a run, and nothing else of its checkpoint, with config and card beside."""

import os
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from fcn_plugin.conversion.writing import write
from fcn_plugin.engine.resuming import find_checkpoint
from fcn_plugin.errors import UserError
from fcn_plugin.publish.card import Licences, card
from fcn_plugin.publish.facts import facts_of, public
from fcn_plugin.publish.folder import CARD, CONFIG, check_free
from fcn_plugin.publish.results import Result, results_of
from fcn_plugin.report.run import read_config
from fcn_plugin.system.download import digits_for_name, file_digests
from fcn_plugin.system.progress import Progress, silent
from fcn_plugin.system.staging import staged
from fcn_plugin.weights.files import read_content, tensors_and_meta
from fcn_plugin.weights.safetensors_files import SUFFIX

# Meta data of a checkpoint that its readers use, and where in the training it is from.
KEPT = ("dataset_meta", "input", "padding", "net", "made_for", "iter", "epoch", "seed")
TEMPERATURE = "temperature"  # ends the keys of what fcn-plugin calibrate has divided scores by


@dataclass(frozen=True)
class Published:
    """What was written.

    Attributes:
        checkpoint: where the weights are from.
        file: of the weights, named by its hash.
        halved: how many tensors are in float16.
        tensors: how many there are.
        results: the scores in the card.
        unknown: what the card says is unknown, in words.
    """

    checkpoint: Path
    file: Path
    halved: int
    tensors: int
    results: list[Result]
    unknown: list[str]


def publish(
    run: Path,
    target: Path,
    half: bool = False,
    licences: Licences | None = None,
    progress: Progress = silent,
) -> Published:
    """Write NAME-HASH.safetensors, config.py and README.md, a model card, of a trained network.

    HASH is the first 8 hexadecimal digits of the file's sha256, as in torch's hub and OpenMMLab's
    files (more if those read as a date); the same weights and config give the same file. They are
    made in a hidden folder and the weights move last: a killed run leaves none without a card.

    Args:
        run: a run's work dir (its best checkpoint, else its last), or a checkpoint in one.
        target: FOLDER/NAME.safetensors; the folder has none of the three files yet.
        half: round kernels and matrices to float16, see ``lean``.
        licences: what the user knows of licences; default nothing.

    Raises:
        UserError: there is no checkpoint or no config, the folder has such files, or the disk is
            full.
    """
    if target.suffix != SUFFIX:
        raise UserError(
            f"{target}: published weights are safetensors; name it {target.stem}{SUFFIX}"
        )
    folder = target.parent
    check_free(target)
    checkpoint = find_checkpoint(run)
    work_dir = run if run.is_dir() else run.parent
    cfg = read_config(work_dir)
    shown = public(cfg)
    stored, meta = tensors_and_meta(checkpoint, read_content(checkpoint, mmap=True))
    tensors = lean(stored) if half else stored
    named = (key for key in meta if key in KEPT or key.endswith(TEMPERATURE))
    kept = {key: meta[key] for key in named if meta[key] is not None}
    kept["cfg"] = shown.pretty_text
    with staged(target) as stage:
        plain = stage / target.name
        write(dict(state_dict=tensors, meta=kept), plain, progress)
        digest = file_digests(plain, ["sha256"], progress)["sha256"]
        file = plain.rename(stage / f"{target.stem}-{digits_for_name(digest)}{SUFFIX}")
        progress("Scores", 0, 1)
        results = results_of(checkpoint, work_dir, cfg, meta.get("iter"))
        halved = sum(tensor.dtype == torch.float16 for tensor in tensors.values())
        text, unknown = card(
            licences or Licences(),
            file=file,
            sha256=digest,
            meta=kept,
            halved=halved,
            tensors=tensors,
            facts=facts_of(work_dir, shown),
            results=results,
        )
        (stage / CONFIG).write_text(shown.pretty_text, encoding="utf-8")
        (stage / CARD).write_text(text, encoding="utf-8")
        for name in (CONFIG, CARD, file.name):  # the weights last: they make a folder published
            os.replace(stage / name, folder / name)
    file = folder / file.name
    return Published(checkpoint, file, halved, len(tensors), results, unknown)


def lean(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """The tensors with kernels and matrices, which are nearly all of the numbers, in float16.

    What has one dimension or none stays as it is: biases, the norms' weights, means and variances,
    factors and counters, whose rounding would reach every pixel. So do integers, and a tensor with
    a number beyond float16's 65504. Numbers are rounded to 11 bits, a relative error of at most
    2 ** -11; those below 6.1e-5 lose more.

    >>> tensors = dict(kernel=torch.ones(2, 3), bias=torch.ones(2), large=torch.full((1, 1), 1e5))
    >>> [str(tensor.dtype) for tensor in lean(tensors).values()]
    ['torch.float16', 'torch.float32', 'torch.float32']
    """
    return {name: _halved(tensor.detach()) for name, tensor in tensors.items()}


def _halved(tensor: Tensor) -> Tensor:
    if tensor.dim() < 2 or tensor.dtype not in (torch.float32, torch.float64):
        return tensor
    half = tensor.half()
    return half if half.isfinite().all() or not tensor.isfinite().all() else tensor
