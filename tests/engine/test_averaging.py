"""mmengine's ``EMAHook`` with our loop, checkpoints and best checkpoint."""

import torch
from engine.runs import result, runner, same
from mmengine.hooks import Hook

MOMENTUM, BEGIN, ITERATIONS = 0.3, 2, 8


class Recorder(Hook):
    """The weights after each iteration, and at each scoring."""

    def __init__(self) -> None:
        self.trained: dict[int, torch.Tensor] = {}
        self.scored: dict[int, torch.Tensor] = {}

    def after_train_iter(self, runner, *args, **kwargs) -> None:
        self.trained[runner.iter + 1] = runner.model.weight.detach().clone()

    def before_val_iter(self, runner, *args, **kwargs) -> None:
        self.scored[runner.iter] = runner.model.weight.detach().clone()


def run(folder, iterations=ITERATIONS, resume=False):
    recorder = Recorder()
    ema = dict(type="EMAHook", momentum=MOMENTUM, begin_iter=BEGIN)
    trained = runner(folder, iterations, resume, hooks=dict(ema=ema), custom_hooks=[recorder])
    trained.train()
    return trained, recorder


def checkpoint(folder, name: str) -> dict:
    return torch.load(folder / name, weights_only=False)


def average(trained: dict[int, torch.Tensor], last: int) -> torch.Tensor:
    mean = trained[BEGIN]
    for iteration in range(BEGIN + 1, last + 1):
        mean = (1 - MOMENTUM) * mean + MOMENTUM * trained[iteration]
    return mean


def test_the_average_is_scored_and_saved(tmp_path):
    _, recorder = run(tmp_path)
    assert set(recorder.scored) == {3, 6, 8}
    for iteration, weight in recorder.scored.items():
        torch.testing.assert_close(weight, average(recorder.trained, iteration))
        assert not same(weight, recorder.trained[iteration])
    for file in tmp_path.glob("*.pth"):
        saved = checkpoint(tmp_path, file.name)
        iteration = saved["meta"]["iter"]
        torch.testing.assert_close(
            saved["state_dict"]["weight"], average(recorder.trained, iteration)
        )
        raw = saved["ema_state_dict"]["module.weight"]
        assert same(raw, recorder.trained[iteration])
    assert {file.name.split("_")[0] for file in tmp_path.glob("*.pth")} == {"best", "iter"}


def test_a_resumed_run_has_the_same_average(tmp_path):
    whole, _ = run(tmp_path / "whole")
    run(tmp_path / "killed", ITERATIONS // 2)
    resumed, _ = run(tmp_path / "killed", resume=True)
    ours, theirs = (
        checkpoint(tmp_path / name, f"iter_{ITERATIONS}.pth") for name in ("killed", "whole")
    )
    assert same(result(resumed), result(whole))
    for part in ("state_dict", "ema_state_dict"):
        assert same(ours[part], theirs[part])
