"""Stop a run, or skip a step, whose loss or gradient is not finite, and name the origin.

Without this a single NaN spreads to every weight, and the run continues to its end without
learning. Gradients are checked before each step of an optimizer; after NaN or inf the batch goes
through the network a second time, watched layer by layer.
"""

from collections.abc import Sequence
from math import isfinite
from pathlib import Path
from typing import Any

import torch
from mmengine import dist
from mmengine.hooks import Hook
from mmengine.optim import AmpOptimWrapper
from mmengine.runner import Runner
from mmseg.registry import HOOKS
from torch import Tensor, nn
from torch.optim import Optimizer

from fcn_plugin.engine.bad_origin import Batch, Origin, find_origin, nonfinite_kind
from fcn_plugin.engine.processes import BFloat16OptimWrapper
from fcn_plugin.engine.runner import bare_model, optim_wrappers
from fcn_plugin.engine.snapshots import WHOLE_FILES
from fcn_plugin.engine.train_loop import POSITION
from fcn_plugin.errors import UserError, check_choice, quoted, some

# Keys are values of Origin.part.
REMEDIES = {
    "image": "look at the image and at model.data_preprocessor",
    "weight": "lower optim_wrapper.optimizer.lr or start from other weights (load_from)",
    "statistic": "start from other weights (load_from)",
}
OTHER_REMEDY = "lower optim_wrapper.optimizer.lr or set optim_wrapper.clip_grad.max_norm"
NAMED = 3  # at most this many images are named in a message
SKIPPED_STEPS = "skipped_steps"  # key in a checkpoint's message hub
# Each overflow halves the loss scale; after 100 in a row only NaN or inf can still overflow.
MOST_OVERFLOWS = 100


@HOOKS.register_module()
class BadNumbersHook(Hook):
    """Stops a run, or skips a step, whose loss or gradient is not finite.

    The message names the iteration (as the log counts them), the images and the first bad layer.
    At the first bad step the state before it is saved as ``bad_numbers_iter_N.pth`` in the work
    dir; a run that is resumed from this file reads the same batch again.

    A skipped step leaves weights, the optimizer's state and BatchNorm's statistics as they were.
    If the loss is not finite but its gradient is, the step is made, as the loss is only known
    later; it counts as skipped. Steps that a ``GradScaler`` skips because float16 overflows are
    not reported as long as the loss is finite and at most 100 of them come in a row.

    Args:
        action: 'stop' or 'skip'.
        max_skipped: With 'skip', at most this many steps are skipped; one more stops the run.
    """

    # After RuntimeInfoHook (VERY_HIGH), so that the checkpoint's log has the loss; before all that
    # use the new weights, such as averaged weights, schedules and checkpoints.
    priority = "HIGH"

    def __init__(self, action: str = "stop", max_skipped: int = 10) -> None:
        check_choice(self, "action", action, ["stop", "skip"])
        self.action, self.max_skipped = action, max_skipped
        self.handles: list[Any] = []

    def _begin_step(self) -> None:
        self.batch: Batch | None = None
        self.images: list[str] = []
        self.faulty: list[Tensor] = []  # parameters
        self.stepped = False

    def before_train(self, runner: Runner) -> None:
        self.after_train(runner)  # remove the hooks of a run that failed
        self._begin_step()
        infos = runner.message_hub.runtime_info
        self.skipped = infos.get(SKIPPED_STEPS, 0)  # before an interruption, too
        self.overflows = 0  # in a row
        self.kept = ""  # the message's words about the checkpoint
        self.position: Any = infos.get(POSITION)  # before reading the batch
        preprocessor = bare_model(runner).data_preprocessor
        # Kept out of the graph of a compiled step; here, since this imports torch's compiler.
        note, judge = map(torch.compiler.disable, (self._note, self._judge))
        self.handles = [
            preprocessor.register_forward_hook(note),
            *(w.optimizer.register_step_pre_hook(judge) for w in optim_wrappers(runner)),
        ]

    def after_train(self, runner: Runner) -> None:
        while self.handles:
            self.handles.pop().remove()

    def before_train_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None) -> None:
        self.buffers = {name: b.detach().clone() for name, b in bare_model(runner).named_buffers()}

    def _note(self, preprocessor: nn.Module, args: tuple, output: Any) -> None:
        if preprocessor.training:
            self.batch = Batch.of(output)

    def _judge(self, optimizer: Optimizer, *_: Any) -> None:
        """If a gradient is NaN or inf, delete all, so that ``optimizer`` changes nothing."""
        # A fused optimizer skips overflowing steps itself; its gradients are still scaled here.
        if (overflows := getattr(optimizer, "found_inf", None)) is not None:
            self.stepped |= not overflows
        elif faulty := without_finite_gradient(_parameters(optimizer)):
            self.faulty += faulty
            _forget_gradients(optimizer)
        else:
            self.stepped = True

    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: dict | None = None
    ) -> None:
        losses = _losses(outputs or {})
        images = _images(data_batch)
        self.images += images
        scaled = [w for w in optim_wrappers(runner) if isinstance(w, AmpOptimWrapper)]
        overflown = not self.stepped and any(w.should_update() for w in scaled)
        self.overflows = 0 if self.stepped else self.overflows + overflown
        lasting = self.overflows > MOST_OVERFLOWS
        fault = bool(self.faulty) or lasting or not isfinite(losses.get("loss", 0.0))
        # All processes must stop at, or skip, the same step.
        faults = torch.tensor(float(fault))
        dist.all_reduce(faults, "max")
        if faults:
            self._deal_with(runner, losses, images)
            self.overflows = 0
        if faults or self.stepped:
            self._begin_step()
        self.batch = None
        self.position = runner.message_hub.runtime_info.get(POSITION)

    def _deal_with(self, runner: Runner, losses: dict[str, float], last: list[str]) -> None:
        """Find the origin, restore the buffers, and stop the run or skip the step.

        ``losses`` and ``last`` (paths of images) are those of the last batch.
        """
        model, several = bare_model(runner), dist.get_world_size() > 1
        self._restore(model)
        origin = self._origin(runner)
        self._restore(model)
        images = origin.of(last) if origin.part else self.images
        process = f"process {dist.get_rank()}, " if several else ""
        words = [f"{process}iteration {runner.iter + 1}: {self._what(losses)}"]
        words.append(origin.words or self._elsewhere(model))
        if images and (origin.words or not several):
            of_batch = f" (of {len(last)})" if len(images) < len(last) else ""
            words.append(f"image{'s' * (len(images) > 1)} {some(images, NAMED)}{of_batch}")
        words += filter(None, [self._keep(runner, images, origin)])
        for wrapper in optim_wrappers(runner):
            _forget_gradients(wrapper.optimizer)
        self.skipped += 1
        runner.message_hub.runtime_info[SKIPPED_STEPS] = self.skipped
        if self.action == "skip" and self.skipped <= self.max_skipped:
            done = "skipped" if self.faulty or not self.stepped else "made, its gradient is finite"
            words.append(f"step {done} ({self.skipped} of at most {self.max_skipped})")
            runner.logger.warning("; ".join(words))
            return
        if self.action == "skip":
            words.append(f"more than max_skipped={self.max_skipped} steps")
        self.after_train(runner)
        dist.barrier()  # an ending process ends the others, and one may still be writing
        remedy = REMEDIES.get(origin.part, OTHER_REMEDY)
        mixed = isinstance(optim_wrappers(runner)[0], AmpOptimWrapper | BFloat16OptimWrapper)
        if mixed and origin.part != "image":
            remedy += ", or train without --amp"
        raise UserError("; ".join([*words, remedy]))

    def _what(self, losses: dict[str, float]) -> str:
        parts = {name: v for name, v in losses.items() if name != "loss" and not isfinite(v)}
        shown = parts or {"loss": losses.get("loss", 0.0)}
        listed = ", ".join(f"{name} {value:.4g}" for name, value in shown.items())
        if self.overflows > MOST_OVERFLOWS:
            return f"the gradient is not finite, however small the loss is scaled ({listed})"
        return f"the {'gradient' if self.faulty else 'loss'} is not finite ({listed})"

    def _elsewhere(self, model: nn.Module) -> str:
        """The message's words if the second pass of this process's batch finds nothing."""
        if dist.get_world_size() > 1:
            return "this process's batch is not the cause, another's is"
        names = [name for name, p in model.named_parameters() if any(p is f for f in self.faulty)]
        more = f" and {len(names) - 1} others" if len(names) > 1 else ""
        where = f", but in the gradient of {names[-1]}{more}" if names else ""
        return f"not found again in a second pass of the last batch{where}"

    def _origin(self, runner: Runner) -> Origin:
        """Find the origin by a second pass of the batch, which changes the buffers."""
        if self.batch is None:
            return Origin()
        model = bare_model(runner)
        # The second pass only helps: if it fails, by lack of memory say, report the first fault.
        try:
            return find_origin(model, self.batch, optim_wrappers(runner)[0].optim_context(model))
        except Exception as error:
            return Origin(failure=quoted(error))

    def _restore(self, model: nn.Module) -> None:
        """Restore BatchNorm's statistics from before the iteration, which may have spoilt them."""
        with torch.no_grad():
            for name, buffer in model.named_buffers():
                if name in self.buffers:
                    buffer.copy_(self.buffers[name])

    def _keep(self, runner: Runner, images: list[str], origin: Origin) -> str:
        """On process 0 save the run's first bad step; return the message's words about it."""
        if self.kept or dist.get_rank() > 0:
            return self.kept
        iteration = runner.iter + 1
        target = Path(runner.work_dir, f"bad_numbers_iter_{iteration}.pth")
        about = dict(iteration=iteration, images=images, layer=origin.layer)
        meta = dict(iter=runner.iter + self.stepped, bad_numbers=about)
        # If the file cannot be written, for whatever reason, the message must still be shown.
        try:
            whole = dict(backend=WHOLE_FILES)
            runner.save_checkpoint(
                str(target.parent), target.name, meta=meta, by_epoch=False, backend_args=whole
            )
            when = "after" if self.stepped else "before"
            self.kept = f"the weights {when} iteration {iteration} are in {target}"
        except Exception as error:
            target.unlink(missing_ok=True)
            self.kept = f"no checkpoint of it could be written ({quoted(error)})"
        return self.kept

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Store the position before the batch in this hook's checkpoint, to read it again."""
        if "bad_numbers" in checkpoint["meta"] and not self.stepped:
            infos = checkpoint["message_hub"]["runtime_info"]
            infos.pop(POSITION, None)
            if self.position is not None:
                infos[POSITION] = self.position


def without_finite_gradient(parameters: Sequence[Tensor]) -> list[Tensor]:
    """The ``parameters`` whose gradient contains NaN or inf."""
    # A single number to wait for. It may overflow although all gradients are finite.
    if torch.nn.utils.get_total_norm([p.grad for p in parameters if p.grad is not None]).isfinite():
        return []
    return [p for p in parameters if p.grad is not None and nonfinite_kind(p.grad)]


def _parameters(optimizer: Optimizer) -> list[Tensor]:
    return [parameter for group in optimizer.param_groups for parameter in group["params"]]


def _forget_gradients(optimizer: Optimizer) -> None:
    """Delete the gradients: optimizers skip parameters without one, weight decay included."""
    for parameter in _parameters(optimizer):
        parameter.grad = None


def _losses(outputs: dict) -> dict[str, float]:
    """The losses as mmengine finds them: single numbers with "loss" in their name."""
    return {
        name: float(value.detach() if isinstance(value, Tensor) else value)
        for name, value in outputs.items()
        if "loss" in name and getattr(value, "numel", lambda: 1)() == 1
    }


def _images(data_batch: Any) -> list[str]:
    samples = data_batch.get("data_samples") if isinstance(data_batch, dict) else None
    metas = [getattr(sample, "metainfo", {}) for sample in samples or ()]
    return [str(meta["img_path"]) for meta in metas if "img_path" in meta]
