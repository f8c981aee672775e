"""Losses and gradients that are not finite, in whole runs of a tiny FCN-8s on tiny shapes."""

import copy
import re
from collections.abc import Callable
from contextlib import nullcontext
from functools import cache, partial
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from engine.runs import same
from mmengine.config import Config
from mmengine.hooks import Hook
from mmengine.model import BaseModel
from mmengine.optim import AmpOptimWrapper, OptimWrapper, OptimWrapperDict
from mmengine.runner import Runner
from mmengine.structures import PixelData
from mmseg.apis import init_model
from mmseg.registry import MODELS
from mmseg.structures import SegDataSample
from tools.running import REPOSITORY, config, tool
from torch import distributed

from fcn_plugin.engine.bad_numbers import BadNumbersHook, without_finite_gradient
from fcn_plugin.engine.bad_origin import Batch, Origin, find_origin, flaw
from fcn_plugin.errors import UserError
from fcn_plugin.prepare.shapes import write_shapes

NAN, INF = float("nan"), float("inf")
LAYER = "backbone.stages.2.conv3_1"


@pytest.fixture(scope="module")
def shapes(tmp_path_factory):
    """A folder with tiny shapes."""
    folder = tmp_path_factory.mktemp("run")
    with pytest.MonkeyPatch.context() as patched:
        patched.chdir(folder)
        # The host formats a config six times a run, and asks compilers for their versions, which
        # takes longer than all the rest.
        patched.setattr(Config, "pretty_text", "")
        patched.setattr("mmengine.runner.runner.collect_env", dict)
        write_shapes(folder / "data/shapes", 8, 2, seed=0)
        config(folder)
        yield folder


@pytest.fixture(scope="module")
def stopped(shapes):
    """A function that gives the run that a fault has stopped, and its spoiler."""
    return cache(partial(train, shapes))


class Spoil(Hook):
    """Does ``fault`` to a run before one of its iterations, and keeps the states before all."""

    priority = "VERY_HIGH"

    def __init__(self, fault: Callable | None = None, at: tuple[int, ...] = (3,)) -> None:
        self.fault = fault
        self.at = at
        self.states: list[dict] = []
        self.names: list[list[str]] = []

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        self.states.append(state(runner))
        self.names.append([sample.img_path for sample in data_batch["data_samples"]])
        self.now = runner.iter + 1 in self.at
        if self.fault is not None and (self.now or self.fault is gradient):
            self.fault(self, runner, data_batch)


def state(runner) -> dict:
    """Weights, buffers and what the optimizer keeps."""
    return copy.deepcopy(
        dict(model=runner.model.state_dict(), optimizer=runner.optim_wrapper.state_dict())
    )


def image(spoil, runner, batch):
    batch["inputs"][2] = batch["inputs"][2].float()
    batch["inputs"][2][0, 0, 0] = NAN


def weight(spoil, runner, batch):
    runner.model.get_submodule(LAYER).weight.data[0] = INF


def gradient(spoil, runner, batch):
    """Nan in one weight's gradient, at the iterations that are spoilt."""
    if runner.iter == 0:
        spoilt = lambda g: g * NAN if spoil.now else None  # noqa: E731
        runner.model.get_submodule(LAYER).weight.register_hook(spoilt)


def scores(spoil, runner, batch):
    """Scores so far apart that the loss is inf and its gradient is not."""
    bias = runner.model.decode_head.score[-1].bias.data
    bias[::2], bias[1::2] = 1.5e38, -1.5e38


def loss(spoil, runner, batch):
    runner.model.decode_head.loss_decode.loss_weight = NAN


def train(folder, fault=None, at=(3,), action="stop", change=lambda cfg: None, hooks=(), **more):
    """Four iterations; gives the runner, also of a run that was stopped, and the spoiler."""
    cfg = Config.fromfile(folder / "tiny.py")
    cfg.work_dir = str(folder / f"work{len(list(folder.glob('work*')))}")
    cfg.experiment_name = cfg.work_dir.replace("/", "-")
    cfg.merge_from_dict(dict(val_cfg=None, val_dataloader=None, val_evaluator=None))
    cfg.train_cfg.type = "IterBasedTrainLoop"
    cfg.default_hooks.checkpoint.update(interval=100, save_best=None)
    del cfg.default_hooks["bad_numbers"]  # registered last, below
    cfg.train_dataloader.dataset.serialize_data = False
    cfg.visualizer.vis_backends = [dict(type="LocalVisBackend")]
    cfg.log_level = "WARNING"
    spoil = Spoil(fault, at)
    judge = [dict(type="BadNumbersHook", action=action, **more)] if action else []
    cfg.custom_hooks = []
    change(cfg)
    runner = Runner.from_cfg(cfg)
    for hook in [spoil, *judge, *hooks]:
        runner.register_hook(hook)
    runner.said = ""
    try:
        runner.train()
    except UserError as error:
        runner.said = str(error)
    return runner, spoil


def left_by(runner) -> list[Path]:
    """The checkpoints of the hook."""
    return sorted(Path(runner.work_dir).glob("bad_numbers_*"))


def checkpoint_of(runner) -> dict:
    (path,) = left_by(runner)
    return torch.load(path, weights_only=True)


FAULTS = {
    image: r"gradient is not finite \(decode.loss_ce nan\); the image itself has nan .*look at the",
    weight: rf"layer: {LAYER} \(Conv2d\), its weight has inf; .* or start from other weights",
    gradient: rf"not finite \(loss 1\.\d+\); first layer: {LAYER} \(Conv2d\), its gradient has nan",
    scores: r"loss is not finite \(decode.loss_ce inf\); .*loss_decode \(CrossEntropyLoss\), its o",
    loss: r"gradient is not finite \(decode.loss_ce nan\); .*EntropyLoss\), its output has nan",
}


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.__name__)
def test_a_run_stops_and_says_where_it_began(stopped, fault):
    runner, spoil = stopped(fault)
    assert runner.iter == 2
    assert runner.said.startswith("iteration 3: ")
    assert "\n" not in runner.said
    assert re.search(FAULTS[fault], runner.said), runner.said
    names = spoil.names[2]
    told = names[2:3] if fault is image else names
    assert [name for name in names if name in runner.said] == told[:3]
    assert ("(of 4)" in runner.said) == (fault is image)
    assert ("and 1 more" in runner.said) == (fault is not image)
    (file,) = left_by(runner)
    assert file.name == "bad_numbers_iter_3.pth"
    assert str(file) in runner.said
    about = torch.load(file, weights_only=True)["meta"]["bad_numbers"]
    assert about["iteration"] == 3
    assert about["images"] == told
    assert about["layer"] in runner.said


@pytest.mark.parametrize("fault", [image, gradient, loss], ids=lambda fault: fault.__name__)
def test_the_checkpoint_is_of_before_the_step(stopped, fault):
    """BatchNorm's statistics included, into which a bad image has gone already."""
    runner, spoil = stopped(fault)
    stored = checkpoint_of(runner)
    assert same(stored["state_dict"], spoil.states[2]["model"])
    assert same(stored["optimizer"], spoil.states[2]["optimizer"])
    assert same(state(runner)["model"], spoil.states[2]["model"])


def test_the_checkpoint_is_a_checkpoint(shapes, stopped):
    runner, _ = stopped(image)
    (file,) = left_by(runner)
    assert not (file.parent / "last_checkpoint").exists()
    model = init_model(str(shapes / "tiny.py"), str(file), device="cpu")
    assert same(model.backbone.state_dict(), runner.model.backbone.state_dict())
    assert model.dataset_meta["classes"][1] == "circle"


@pytest.mark.parametrize("loop", ["IterBasedTrainLoop", "ExactTrainLoop"])
def test_resumed_from_the_checkpoint_a_run_meets_the_same_batch(shapes, loop):
    def resumed(cfg, file=None):
        cfg.train_cfg.type = loop
        cfg.resume, cfg.load_from = file is not None, file

    runner, spoil = train(shapes, image, change=resumed)
    (file,) = left_by(runner)
    again, spoilt = train(shapes, image, change=partial(resumed, file=str(file)))
    assert spoilt.names == spoil.names[2:]
    assert again.said.split("; the weights")[0] == runner.said.split("; the weights")[0]


def test_without_the_hook_all_weights_are_lost(shapes):
    runner, _ = train(shapes, image, action=None)
    weights = list(runner.model.parameters())
    assert sum(bool(flaw(p)) for p in weights) == len(weights)


OPTIMIZERS = {
    "sgd": dict(optimizer=dict(type="SGD", lr=0.01, momentum=0.9, weight_decay=0.1)),
    "adamw": dict(optimizer=dict(type="AdamW", lr=0.01, weight_decay=0.1)),
    "clipped": dict(
        optimizer=dict(type="SGD", lr=0.01, momentum=0.9), clip_grad=dict(max_norm=1.0)
    ),
    "bfloat16": dict(type="BFloat16OptimWrapper", optimizer=dict(type="Adam", lr=0.01)),
}


def optimized(name: str) -> Callable:
    def change(cfg):
        cfg.optim_wrapper = dict(type="OptimWrapper") | OPTIMIZERS[name]

    return change


@pytest.mark.parametrize("name", OPTIMIZERS)
@pytest.mark.parametrize("fault", [image, gradient], ids=lambda fault: fault.__name__)
def test_a_skipped_step_changes_nothing(shapes, fault, name):
    runner, spoil = train(shapes, fault, action="skip", change=optimized(name))
    assert (runner.iter, runner.said) == (4, "")
    before, after = spoil.states[2:]
    assert same(before, after)
    assert not same(before["optimizer"], state(runner)["optimizer"])
    assert not any(map(flaw, state(runner)["model"].values()))


def test_which_steps_are_made_and_told(shapes):
    runner, spoil = train(shapes, image, at=(2, 4), action="skip")
    one, two, three, four = (s["model"] for s in spoil.states)
    assert not same(one, two)
    assert same(two, three)
    assert not same(three, four)
    assert same(four, state(runner)["model"])
    (file,) = left_by(runner)
    assert file.name == "bad_numbers_iter_2.pth"
    log = "\n".join(path.read_text() for path in file.parent.glob("*/*.log"))
    assert log.count(f"the weights before iteration 2 are in {file}") == 2
    assert "iteration 4: " in log
    assert "step skipped (2 of at most 10)" in log


def test_too_many_skipped_steps_stop_the_run(shapes):
    runner, _ = train(shapes, image, at=(1, 2, 3, 4), action="skip", max_skipped=2)
    assert runner.iter == 2
    assert runner.said.startswith("iteration 3: ")


def test_of_an_infinite_loss_with_finite_gradient_the_step_is_made(shapes):
    runner, spoil = train(shapes, scores, action="skip", max_skipped=1)
    assert "the weights after iteration 3 are in" in runner.said
    stored = checkpoint_of(runner)
    assert not same(stored["state_dict"], spoil.states[2]["model"])
    assert stored["meta"]["iter"] == 3
    (log,) = Path(runner.work_dir).glob("*/*.log")
    assert "step made, its gradient is finite (1 of at most 1)" in log.read_text()


def test_a_run_without_faults_is_the_same_bit_for_bit(shapes):
    (with_hook, one), (without, two) = (train(shapes, action=a) for a in ("skip", None))
    assert same(one.states, two.states)
    assert same(state(with_hook), state(without))
    assert not left_by(with_hook)


def test_going_on_is_as_if_the_batch_had_not_been(shapes):
    """Neither the second pass nor the skipped step draws random numbers or leaves a trace."""

    class Chance(Hook):
        """Notes the random numbers to come before each iteration."""

        def before_train_iter(self, runner, batch_idx, data_batch=None):
            self.states.append(torch.get_rng_state())

    seen = []
    for fault in (gradient, None):
        hook = Chance()
        hook.states = []
        train(shapes, fault, at=(2,), action="skip", hooks=[hook])
        seen.append(hook.states)
    assert same(*seen)
    assert not same(seen[0][0], seen[0][1])


def test_gradients_accumulate_until_the_step(shapes):
    """A bad batch takes those with it that were to make the same step."""

    def change(cfg):
        cfg.optim_wrapper.accumulative_counts = 2

    runner, spoil = train(shapes, image, at=(3,), action="skip", change=change)
    assert [same(a["optimizer"], b["optimizer"]) for a, b in pairwise(spoil.states)] == [
        True,
        False,
        True,
    ]
    assert not any(map(flaw, state(runner)["model"].values()))
    runner, spoil = train(shapes, gradient, at=(3,), change=change)
    assert runner.said.startswith("iteration 4: the gradient is not finite (loss 1.")
    gradient_of = f"of the last batch, but in the gradient of {LAYER}.weight; images"
    assert f"not found again in a second pass {gradient_of}" in runner.said
    about = checkpoint_of(runner)["meta"]["bad_numbers"]
    assert about["images"] == spoil.names[2] + spoil.names[3]


def compiled(cfg):
    cfg.custom_hooks = [dict(type="CompileHook", backend="eager")]


def hosts_compilation(cfg):
    cfg.compile = dict(backend="eager")


def recomputed(cfg):
    cfg.model.backbone.with_cp = True


def padded(cfg):
    cfg.model.backbone.update(padding="reference", norm_cfg=None)


def host_head(cfg):
    cfg.model.decode_head = dict(
        type="FCNHead", in_channels=8, in_index=2, channels=4, num_classes=5
    )


def bfloat16(cfg):
    cfg.optim_wrapper.type = "BFloat16OptimWrapper"


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(compiled, marks=pytest.mark.slow),
        pytest.param(hosts_compilation, marks=pytest.mark.slow),
        recomputed,
        padded,
        host_head,
        bfloat16,
    ],
    ids=lambda change: change.__name__,
)
def test_the_layer_is_found_in(shapes, change):
    runner, _ = train(shapes, weight, change=change)
    assert f"first layer: {LAYER} (Conv2d), its weight has inf" in runner.said
    assert ("train without --amp" in runner.said) == (change is bfloat16)


def test_a_layer_found_by_its_gradient_in_a_recomputed_stage(shapes):
    runner, _ = train(shapes, gradient, change=recomputed)
    assert f"first layer: {LAYER} (Conv2d), its gradient has nan" in runner.said


@pytest.mark.parametrize(
    "error",
    [OSError(28, "No space left on device"), RuntimeError("no\nway")],
    ids=["disk", "other"],
)
def test_a_checkpoint_that_cannot_be_written(shapes, monkeypatch, error):
    def fail(*args, **kwargs):
        raise error

    with monkeypatch.context() as patch:
        patch.setattr(Runner, "save_checkpoint", fail)
        runner, _ = train(shapes, image)
    said = str(error).splitlines()[0]
    assert f"no checkpoint of it could be written ({said}); look at" in runner.said
    assert not left_by(runner)


def test_a_search_that_fails_is_said(shapes, monkeypatch):
    def fail(*args):
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr("fcn_plugin.engine.bad_numbers.find_origin", fail)
    runner, _ = train(shapes, gradient)
    assert "the layer could not be found (CUDA out of memory); images data" in runner.said


@pytest.mark.parametrize("action", ["stop", "skip"])
def test_the_optimizer_is_left_as_it_was(shapes, action):
    """After a run, and after one that was stopped."""
    runner, _ = train(shapes, image, action=action, at=(2,))
    parameters = list(runner.model.parameters())
    for parameter in parameters:
        parameter.grad = torch.full_like(parameter, NAN)
    runner.optim_wrapper.optimizer.step()
    assert all(map(flaw, parameters))


def test_an_unknown_action_is_refused():
    with pytest.raises(UserError, match=r"action 'ignore', must be one of \['stop', 'skip'\]"):
        BadNumbersHook(action="ignore")


def test_finite_gradients_whose_norm_overflows_are_no_fault():
    huge, small = (torch.nn.Parameter(torch.zeros(4)) for _ in range(2))
    unused = torch.nn.Parameter(torch.zeros(4))
    huge.grad, small.grad = torch.full((4,), 3e38), torch.ones(4)
    assert torch.nn.utils.get_total_norm([huge.grad]).isinf()
    assert without_finite_gradient([huge, small, unused]) == []
    small.grad[1] = NAN
    assert without_finite_gradient([huge, small, unused]) == [small]
    assert without_finite_gradient([unused]) == []


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.int64])
def test_what_is_no_number(dtype):
    tensor = torch.zeros(3, 2, dtype=dtype)
    assert flaw(tensor) == flaw(tensor[:0]) == ""
    if dtype.is_floating_point:
        tensor[1, 0] = -INF
        assert flaw(tensor) == "inf"
        tensor[2, 1] = NAN
        assert flaw(tensor) == "nan"
        assert flaw(tensor[0]) == ""


def network() -> torch.nn.Module:
    """A tiny FCN-8s with a host's auxiliary head, ready to train."""
    normed = dict(type="BN")
    return MODELS.build(
        dict(
            type="FCNSegmentor",
            data_preprocessor=dict(type="SegDataPreProcessor"),
            backbone=dict(
                type="ConvolutionalizedVGG",
                depth=11,
                base_channels=2,
                fc_channels=8,
                norm_cfg=normed,
            ),
            decode_head=dict(
                type="SkipFusionHead", in_channels=(8, 16, 8), in_index=(0, 1, 2), num_classes=5
            ),
            auxiliary_head=dict(
                type="FCNHead", in_channels=8, in_index=0, channels=4, num_classes=5
            ),
            train_cfg=dict(),
            test_cfg=dict(mode="whole"),
        )
    ).train()


def test_every_layer_is_named():
    """Each weight of each layer in turn is not finite, then each gradient."""
    model, batch = network(), Batch.of(dict(inputs=pictures(2), data_samples=samples(2)))
    clean, tried = copy.deepcopy(model.state_dict()), 0
    for name, layer in model.named_modules():
        title = f"{name} ({type(layer).__name__})"
        for parameter in layer.parameters(recurse=False):
            parameter.data[-1] = NAN
            assert found(model, batch) == Origin("weight", title, "nan")
            model.load_state_dict(clean)
            handle = parameter.register_hook(lambda gradient: gradient * NAN)
            assert found(model, batch) == Origin("gradient", title, "nan")
            handle.remove()
            assert parameter.grad is None
            tried += 1
    assert tried == len(list(model.parameters())) > 40
    assert found(model, batch) == Origin()


def found(model, batch) -> Origin:
    return find_origin(model, batch, nullcontext())


def test_a_layer_that_is_not_trained_is_named_by_its_statistics():
    model, batch = network(), Batch.of(dict(inputs=pictures(2), data_samples=samples(2)))
    layer = model.backbone.stages[1].norm_conv2_1
    layer.running_mean[0] = INF
    assert found(model, batch) == Origin()
    layer.running_mean[0] = INF
    layer.eval()
    title = "backbone.stages.1.norm_conv2_1 (BatchNorm2d)"
    assert found(model, batch) == Origin("statistic", title, "inf")


def test_only_the_images_concerned_are_named():
    model, images = network(), pictures(4)
    images[[1, 3]] = images[[1, 3]].sign() * 3e38
    batch = Batch.of(dict(inputs=images, data_samples=samples(4)))
    origin = found(model, batch)
    assert (origin.part, origin.flaw) == ("output", "inf")
    assert origin.layer == "backbone.stages.0.conv1_1 (Conv2d)"
    assert origin.of(list("abcd")) == ["b", "d"]


def test_a_second_pass_draws_the_random_numbers_of_the_first():
    """And of those to come none, even if it draws more."""
    batch = Batch.of(dict(inputs=torch.zeros(1)))
    drawn, state = torch.rand(3), torch.get_rng_state()
    with batch.same_chance():
        assert torch.equal(torch.rand(3), drawn)
        torch.rand(5)
    assert torch.equal(torch.get_rng_state(), state)


def pictures(number: int) -> torch.Tensor:
    return torch.rand(number, 3, 32, 32) * 255 - 115


def samples(number: int) -> list[SegDataSample]:
    truth = PixelData(data=torch.randint(0, 5, (1, 32, 32)))
    meta = dict(img_shape=(32, 32), ori_shape=(32, 32))
    return [SegDataSample(gt_sem_seg=truth, metainfo=meta) for _ in range(number)]


# --- mixed precision and several optimizers, with the smallest of models -------------------------


class Line(BaseModel):
    """y = a + b; its loss and gradients are what the test gives as ``inputs``."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = torch.nn.Linear(1, 1), torch.nn.Linear(1, 1)

    def forward(self, inputs, data_samples=None, mode="tensor"):
        y = self.a(inputs) + self.b(inputs)
        return dict(loss=y.sum()) if mode == "loss" else y


class Scaled(AmpOptimWrapper):
    """The host's, which asks for a GPU where it is made and nowhere else."""

    def __init__(self, optimizer, **settings) -> None:
        OptimWrapper.__init__(self, optimizer, **settings)
        self._scale_update_param, self.cast_dtype = None, torch.bfloat16
        self.loss_scaler = torch.amp.GradScaler("cpu", init_scale=2.0**16)


def fake_run(model, wrapper, folder):
    """What the hook asks of a runner."""
    said: list[str] = []
    return SimpleNamespace(
        model=model,
        optim_wrapper=wrapper,
        iter=0,
        work_dir=str(folder),
        message_hub=SimpleNamespace(runtime_info={}),
        save_checkpoint=lambda *args, **kwargs: None,
        logger=SimpleNamespace(warning=said.append),
        said=said,
    )


def iterate(hook, runner, inputs, times=1):
    for _ in range(times):
        batch = dict(inputs=inputs)
        hook.before_train_iter(runner, runner.iter, batch)
        outputs = runner.model.train_step(batch, runner.optim_wrapper)
        hook.after_train_iter(runner, runner.iter, batch, outputs)
        runner.iter += 1


def begun(model, wrapper, folder, **settings):
    hook, runner = BadNumbersHook(**settings), fake_run(model.train(), wrapper, folder)
    hook.before_train(runner)
    return hook, runner


def descending(model, fused: bool) -> Scaled:
    """Fused, an optimizer unscales its gradients and leaves out overflows itself."""
    return Scaled(torch.optim.SGD(model.parameters(), lr=1e-3, fused=fused))


@pytest.mark.parametrize("fused", [False, True])
def test_an_overflow_that_the_scaler_leaves_out_is_no_fault(tmp_path, fused):
    model = Line()
    hook, runner = begun(model, descending(model, fused), tmp_path)
    before = copy.deepcopy(model.state_dict())
    iterate(hook, runner, torch.full((1, 1), 1e34))
    assert same(model.state_dict(), before)
    assert runner.optim_wrapper.loss_scaler.get_scale() == 2.0**15
    iterate(hook, runner, torch.ones(1, 1), times=102)
    assert not same(model.state_dict(), before)
    assert not any(map(flaw, model.parameters()))
    assert runner.said == []


@pytest.mark.parametrize("fused", [False, True])
def test_overflows_without_end_are_a_fault(tmp_path, fused):
    """At each the step is left out, and nothing would be learned until the end."""
    model = Line()
    model.b.weight.register_hook(lambda g: g * NAN)
    hook, runner = begun(model, descending(model, fused), tmp_path)
    iterate(hook, runner, torch.ones(1, 1), times=100)
    with pytest.raises(UserError, match=r"iteration 101: the gradient is .*, however .*: b"):
        iterate(hook, runner, torch.ones(1, 1))


def test_a_loss_that_is_no_number_is_one_with_a_scaler_too(tmp_path):
    model = Line()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    hook, runner = begun(model, Scaled(optimizer), tmp_path, action="skip", max_skipped=1)
    before = copy.deepcopy(model.state_dict())
    iterate(hook, runner, torch.full((1, 1), NAN))
    assert same(model.state_dict(), before)
    (said,) = runner.said
    assert "the loss is not finite (loss nan); the image itself has nan" in said
    assert said.endswith("step skipped (1 of at most 1)")
    with pytest.raises(UserError, match=r"iteration 2: .*at model.data_preprocessor$"):
        iterate(hook, runner, torch.full((1, 1), NAN))


class Pair(Line):
    """Trained by two optimizers, each for its own half."""

    def train_step(self, data, optim_wrapper):
        for wrapper in optim_wrapper.values():
            with wrapper.optim_context(self):
                data = self.data_preprocessor(data, True)
                losses = self(**data, mode="loss")
            total, logged = self.parse_losses(losses)
            wrapper.update_params(total)
        return logged


def test_several_optimizers(tmp_path):
    model = Pair()
    model.b.weight.register_hook(lambda g: g * NAN)
    halves = {name: torch.optim.SGD(getattr(model, name).parameters(), lr=0.1) for name in "ab"}
    wrappers = OptimWrapperDict(**{name: OptimWrapper(half) for name, half in halves.items()})
    hook, runner = begun(model, wrappers, tmp_path, action="skip")
    before = copy.deepcopy(model.state_dict())
    iterate(hook, runner, torch.ones(1, 1))
    after = model.state_dict()
    assert same(after["b.weight"], before["b.weight"])
    assert not same(after["a.weight"], before["a.weight"])
    assert "first layer: b (Linear), its gradient has nan" in runner.said[0]


# --- several processes ----------------------------------------------------------------------------


@pytest.fixture
def process_group():
    distributed.init_process_group("gloo", rank=0, world_size=1, store=distributed.HashStore())
    yield
    distributed.destroy_process_group()


def test_no_process_waits_for_others_in_its_second_pass(process_group):
    """They may be through with theirs already; SyncBatchNorm would wait for them, on a GPU."""

    class Normed(Line):
        def __init__(self) -> None:
            super().__init__()
            self.b = torch.nn.Sequential(torch.nn.Linear(1, 1), torch.nn.SyncBatchNorm(1))

    model, inputs = Normed().train(), torch.rand(4, 1)
    with pytest.raises(ValueError, match="SyncBatchNorm expected input tensor to be on"):
        model(inputs, mode="loss")
    model.b[0].weight.data.fill_(NAN)
    before = copy.deepcopy(model.state_dict())
    context = OptimWrapper(torch.optim.SGD(model.parameters(), lr=0.1)).optim_context(model)
    origin = find_origin(model, Batch.of(dict(inputs=inputs)), context)
    assert origin.words == "first layer: b.0 (Linear), its weight has nan"
    assert model.b[1].training
    assert model.state_dict().keys() == before.keys()


@pytest.mark.slow
def test_processes_stop_together(shapes):
    """The one whose image is bad names it, the other says that it was not its own."""
    (shapes / "spoiling.py").write_text(
        """
from mmengine import dist
from mmengine.hooks import Hook
from mmengine.registry import HOOKS


@HOOKS.register_module()
class SpoilSecondProcess(Hook):
    def before_train_iter(self, runner, batch_idx, data_batch=None):
        if dist.get_rank() == 1 and runner.iter == 2:
            data_batch["inputs"][1] = data_batch["inputs"][1] * float("nan")
"""
    )
    (shapes / "spoilt.py").write_text(
        """
_base_ = "tiny.py"
work_dir = "spoilt"
custom_imports = dict(imports=["fcn_plugin", "spoiling"], allow_failed_imports=False)
custom_hooks = [dict(type="SpoilSecondProcess")]
train_dataloader = dict(batch_size=2)
"""
    )
    run = tool(
        "dist_train.sh",
        "spoilt.py",
        2,
        folder=shapes,
        PYTHONPATH=f"{shapes}:{REPOSITORY}",
        MASTER_PORT="29631",
    )
    assert run.returncode != 0
    lines = sorted(line for line in run.stderr.splitlines() if line.startswith("error: process"))
    assert len(lines) == 2, run.stderr[-3000:]
    assert "this process's batch is not the cause, another's is; the weights before it" in lines[0]
    assert "process 1, iteration 3: " in lines[1]
    assert "the image itself has nan" in lines[1]
    assert (shapes / "spoilt/bad_numbers_iter_3.pth").exists()


# --- the tool -------------------------------------------------------------------------------------


def test_training_with_a_learning_rate_far_too_high(shapes):
    (shapes / "high.py").write_text(
        """
_base_ = "tiny.py"
optim_wrapper = dict(optimizer=dict(lr=1e30))
"""
    )
    run = tool("train.py", "high.py", "--work-dir", "high", folder=shapes)
    assert run.returncode == 1, run.stderr[-2000:]
    last = run.stderr.splitlines()[-1]
    assert re.match(
        r"error: iteration [23]: the gradient is not finite \(decode.loss_ce nan\)", last
    )
    assert "; first layer: backbone.stages." in last
    assert "; images data/shapes/JPEGImages/train_0" in last
    (file,) = (shapes / "high").glob("bad_numbers_*")
    assert f"are in {file}; lower optim_wrapper.optimizer.lr or" in last
