"""A training loop whose result does not depend on interruptions."""

from bisect import bisect
from collections.abc import Generator
from contextlib import closing
from typing import Any, NamedTuple

import torch
from mmengine.dist import all_gather, broadcast, get_world_size
from mmengine.runner import IterBasedTrainLoop, Runner
from mmseg.registry import LOOPS
from torch.nn import Module

from fcn_plugin.engine.handover import in_one_piece
from fcn_plugin.engine.order import (
    SKIPPED,
    STEPS,
    PlacedBatches,
    PlacedDataset,
    begin_random_numbers,
)
from fcn_plugin.errors import UserError

POSITION, UNREADABLE = "place", "unreadable"  # keys in a checkpoint's message hub


class Position(NamedTuple):
    """How many images a run has seen, and the settings that decide what comes next."""

    images_seen: int  # by all processes
    processes: int
    batch_size: int  # of each process
    dataset_size: int

    @property
    def step_size(self) -> int:
        """Images of one step, of all processes."""
        return self.processes * self.batch_size


@LOOPS.register_module()
class ExactTrainLoop(IterBasedTrainLoop):
    """mmengine's ``IterBasedTrainLoop``; a killed and resumed run ends with the same weights.

    Bit for bit on a CPU: the images, their augmentation and the network's random numbers in each
    iteration depend only on the seed (``engine.order``). A resumed run starts to read where its
    checkpoint was written; mmengine reads everything before that again.

    The number of processes, the batch size and the number of workers may change on resuming. The
    images of a step stay the same if processes x batch size does.

    Args:
        runner, dataloader, max_iters, val_begin, val_interval, dynamic_intervals: As mmengine's;
            ``dataloader`` must be a config.
        unreadable: "error", or "skip" to replace images that are damaged or whose label is; each
            is named in the log.
        max_unreadable: at most this many different images are skipped by a process; one more is
            an error.

    Raises:
        UserError: on resuming, the processes found checkpoints of different iterations; while
            training, a damaged file.
    """

    def __init__(
        self,
        runner: Runner,
        dataloader: dict,
        *args: Any,
        unreadable: str = "error",
        max_unreadable: int = 10,
        **kwargs: Any,
    ) -> None:
        if unreadable not in ("error", "skip"):
            raise UserError(f"train_cfg.unreadable={unreadable!r}; set it to 'error' or 'skip'")
        if not isinstance(dataloader, dict):
            raise UserError(
                "ExactTrainLoop: train_dataloader must be a config; give one, or take "
                "train_cfg.type='IterBasedTrainLoop'"
            )
        self.max_unreadable = max_unreadable if unreadable == "skip" else None
        self._config, self._seed = dataloader, _common(runner.seed)
        super().__init__(
            runner, placed(dataloader, self._seed, self.max_unreadable), *args, **kwargs
        )
        self.dataloader_iterator = None  # mmengine's iterator, whose workers would idle

    def run(self) -> Module:
        """Train from the current iteration to the last; return the model."""
        _check_common(self.iter)
        if self.iter >= self.max_iters:
            self.runner.logger.warning(
                f"All {self.max_iters} iterations are done; raise train_cfg.max_iters to train on"
            )
        self._set_val_interval()
        self.runner.call_hook("before_train")
        self.runner.call_hook("before_train_epoch")
        with closing(self._batches()) as batches:  # ends the workers after an error
            while self.iter < self.max_iters and not self.stop_training:
                self.runner.model.train()
                batch = next(batches)
                begin_random_numbers(STEPS, self._seed, self.iter, self.runner.rank)
                self.run_iter(batch)
                self._set_val_interval()
                due = self.iter % self.val_interval == 0 or self.iter == self.max_iters
                if self.runner.val_loop is not None and self.iter >= self.val_begin and due:
                    self.runner.val_loop.run()
        self.runner.call_hook("after_train_epoch")
        self.runner.call_hook("after_train")
        return self.runner.model

    def _set_val_interval(self) -> None:
        """The interval that ``dynamic_intervals`` has for the next iteration."""
        row = bisect(self.dynamic_milestones, self.iter + 1) - 1
        self.val_interval = self.dynamic_intervals[row]

    def _batches(self) -> Generator[Any]:
        """The remaining batches; records the position after each for checkpoints."""
        if self._seed != (seed := _common(self.runner.seed)):  # a resumed run has the checkpoint's
            self._seed = seed
            self.dataloader = self.runner.build_dataloader(
                placed(self._config, seed, self.max_unreadable), seed
            )
        order = self.dataloader.batch_sampler
        now = Position(0, get_world_size(), order.batch_size, len(self.dataloader.dataset))
        order.begin = self._seen_before(now) // now.step_size
        seen = order.begin * now.step_size
        if self.iter > 0:
            self.runner.logger.info(
                f"Resumed after iteration {self.iter}; the {seen} images already seen are not "
                "read again"
            )
        for batch in in_one_piece(self.dataloader):
            seen += now.step_size
            self.runner.message_hub.update_info(POSITION, now._replace(images_seen=seen)._asdict())
            self._note_unreadable(batch)
            yield batch

    def _seen_before(self, now: Position) -> int:
        """The number of images seen before resuming; warns of settings that have changed."""
        if self.iter == 0:
            return 0
        stored = self.runner.message_hub.runtime_info.get(POSITION)
        if not stored:
            self.runner.logger.warning(
                f"The checkpoint does not tell how many images were seen; assumes {self.iter} "
                f"batches of {now.step_size}"
            )
            return self.iter * now.step_size
        before = Position(**stored)
        for change in changes(before, now):
            self.runner.logger.warning(f"Resumed with {change}")
        return before.images_seen

    def _note_unreadable(self, batch: Any) -> None:
        """Log the damaged images that were skipped for ``batch``; too many are an error."""
        if self.max_unreadable is None:
            return
        faults = self.runner.message_hub.runtime_info.setdefault(UNREADABLE, [])
        for fault in "\n".join(batch.pop(SKIPPED)).split("\n"):
            if fault and fault not in faults:
                faults.append(fault)
                # Formatted here: mmengine shows a warning of the same template only once.
                self.runner.logger.warning(
                    f"Skipped, {len(faults)} of at most {self.max_unreadable}: {fault}"
                )
                if len(faults) > self.max_unreadable:
                    raise UserError(
                        f"{len(faults)} images cannot be read, train_cfg.max_unreadable allows "
                        f"{self.max_unreadable}; the last: {fault}"
                    )


def placed(dataloader: dict, seed: int, max_skipped: int | None = None) -> dict:
    """Data-loader config whose batches are the same in every run and can start anywhere."""
    loader = dict(dataloader)
    batches = dict(type=PlacedBatches, batches=loader.pop("batch_sampler", None))
    batches["drop_last"] = loader.pop("drop_last", False)
    dataset = dict(
        type=PlacedDataset, dataset=loader["dataset"], seed=seed, max_skipped=max_skipped
    )
    return dict(loader, dataset=dataset, batch_sampler=batches)


def changes(before: Position, now: Position) -> list[str]:
    """One line for each setting that has changed between two positions, with its effect."""
    changes = []
    if (before.processes, before.batch_size) != (now.processes, now.batch_size):
        outcome = "learning rate and iterations stay as configured"
        if before.step_size == now.step_size:
            outcome = "the same images in each step, but BatchNorm and dropout see other parts"
        changes.append(
            f"{now.processes} x {now.batch_size} images in a step (processes x batch_size) instead "
            f"of {before.processes} x {before.batch_size}: {outcome}"
        )
    if before.dataset_size != now.dataset_size:
        changes.append(
            f"a data set of {now.dataset_size} images instead of {before.dataset_size}: the "
            "images come in another order"
        )
    return changes


def _common(seed: int) -> int:
    """The seed of the first process."""
    common = torch.tensor(seed)
    broadcast(common)
    return int(common)


def _check_common(iteration: int) -> None:
    iterations = sorted({int(other) for other in all_gather(torch.tensor(iteration))})
    if len(iterations) > 1:
        raise UserError(
            f"the processes begin at different iterations, {iterations}; give them all the same "
            "work dir, on a disk that they share"
        )
