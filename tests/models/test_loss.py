"""The loss from coarse scores is the host's loss on upsampled scores."""

import copy

import pytest
import torch
from mmengine.structures import PixelData
from mmseg.models.losses import CrossEntropyLoss
from mmseg.structures import SegDataSample
from torch.nn import functional
from torch.utils._python_dispatch import TorchDispatchMode

from fcn_plugin.errors import UserError
from fcn_plugin.models import ConvolutionalizedVGG, SkipFusionHead, coarse
from fcn_plugin.models.coarse import Block, CoarseScores
from fcn_plugin.models.loss import blockwise_losses
from fcn_plugin.models.upsample import Placement

CLASSES = 5
CHANNELS = (4, 5, 6)
CROSS_ENTROPIES = {
    "mean over valid": dict(avg_non_ignore=True),
    "mean over all": dict(),
    "sum": dict(reduction="sum"),
    "a third": dict(avg_non_ignore=True, loss_weight=1 / 3),
}
SAMPLERS = {
    "all pixels": None,
    "improbable pixels": dict(type="OHEMPixelSampler", thresh=0.3, min_kept=50),
    "fewest pixels": dict(type="OHEMPixelSampler", thresh=0.01, min_kept=20),
    "worst pixels": dict(type="OHEMPixelSampler", min_kept=100),
}
SIZES = [(1, 1), (33, 200), (97, 131)]


@pytest.fixture(autouse=True)
def _small_blocks(monkeypatch):
    """Several blocks on either axis, even of small images."""
    monkeypatch.setattr(coarse, "ELEMENTS", 40 * 16 * CLASSES)
    monkeypatch.setattr(coarse, "HEIGHT", 16)


def head(blockwise: bool, loss=None, **settings) -> SkipFusionHead:
    made = SkipFusionHead(
        CHANNELS,
        (0, 1, 2),
        CLASSES,
        loss_decode=dict(type="CrossEntropyLoss", **(loss or dict(avg_non_ignore=True))),
        blockwise=blockwise,
        **settings,
    )
    generator = torch.Generator().manual_seed(1)
    for parameter in made.parameters():
        torch.nn.init.normal_(parameter, generator=generator)
    return made.double()


def levels_of(geometry: str, size: tuple[int, int]):
    """Features of a published or a padded network, or what a host's backbone returns."""
    if geometry != "host":
        backbone = ConvolutionalizedVGG(11, padding=geometry, base_channels=1, fc_channels=6)
        features = backbone.double().eval()(torch.randn(2, 3, *size, dtype=torch.float64))
        levels = [
            torch.randn(2, c, *level.shape[2:], dtype=torch.float64)
            for c, level in zip(CHANNELS, features, strict=True)
        ]
        return type(features)(levels, features.maps, features.image_size, features.zero_border)
    return tuple(
        torch.randn(2, c, *(-(-side // stride) for side in size), dtype=torch.float64)
        for c, stride in zip(CHANNELS, (8, 16, 32), strict=True)
    )


def labelled(size: tuple[int, int], void: float = 0.1) -> list[SegDataSample]:
    labels = torch.randint(0, CLASSES, (2, 1, *size))
    labels[torch.rand(labels.shape) < void] = 255
    return [SegDataSample(gt_sem_seg=PixelData(data=label)) for label in labels]


def judged(made: SkipFusionHead, levels, samples) -> tuple[dict, list[torch.Tensor]]:
    losses = made.loss(levels, samples, {})
    losses["loss_ce"].backward()
    return losses, [parameter.grad for parameter in made.parameters()]


def assert_same(one, other, tolerance: float = 1e-10) -> None:
    loss, accuracy = (float(other[0][key]) for key in ("loss_ce", "acc_seg"))
    assert float(one[0]["loss_ce"]) == pytest.approx(loss, rel=tolerance, abs=tolerance)
    assert float(one[0]["acc_seg"]) == pytest.approx(accuracy, rel=1e-6)  # single in the host
    for gradient, expected in zip(one[1], other[1], strict=True):
        scale = float(expected.abs().max())
        torch.testing.assert_close(gradient, expected, rtol=0, atol=tolerance * max(scale, 1))


@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize("geometry", ["reference", "same", "host"])
@pytest.mark.parametrize("loss", CROSS_ENTROPIES.values(), ids=CROSS_ENTROPIES)
@pytest.mark.filterwarnings("ignore:Default ``avg_non_ignore``")
def test_loss_accuracy_and_gradients_are_those_of_the_plain_path(loss, geometry, size):
    levels, samples = levels_of(geometry, size), labelled(size)
    plain = judged(head(False, loss), levels, samples)
    assert float(plain[0]["loss_ce"]) > 0
    assert_same(judged(head(True, loss), levels, samples), plain)


@pytest.mark.parametrize("sampler", SAMPLERS.values(), ids=SAMPLERS)
@pytest.mark.parametrize("weights", [None, [0.5, 2.0, 1.0, 3.0, 0.1]], ids=["plain", "weighted"])
def test_hard_pixels_are_those_of_the_host(sampler, weights):
    size = (61, 70)
    levels = levels_of("same", size)
    # The host cannot weigh classes where an ignored label is none of them.
    samples = labelled(size, void=0 if weights else 0.1)
    loss = dict(avg_non_ignore=True, class_weight=weights)
    plain = judged(head(False, loss, sampler=sampler), levels, samples)
    assert_same(judged(head(True, loss, sampler=sampler), levels, samples), plain)


@pytest.mark.parametrize("average", [True, False], ids=["valid", "all"])
@pytest.mark.parametrize("ignore", [1, 255])
@pytest.mark.filterwarnings("ignore:Default ``avg_non_ignore``")
def test_classes_are_weighed(average, ignore):
    """With an ignored class as the host; a label beyond the classes weighs nothing."""
    weights = [0.5, 2.0, 1.0, 3.0, 0.1]
    loss = dict(avg_non_ignore=average, class_weight=weights)
    size = (40, 50)
    levels = levels_of("same", size)
    samples = labelled(size, void=0.1 if ignore == 255 else 0)
    made = judged(head(True, loss, ignore_index=ignore), levels, samples)
    if ignore == 1:
        assert_same(made, judged(head(False, loss, ignore_index=ignore), levels, samples))
        return
    labels = torch.cat([sample.gt_sem_seg.data for sample in samples])
    expected = functional.cross_entropy(
        head(True)(levels), labels, torch.tensor(weights).double(), ignore_index=255
    )
    torch.testing.assert_close(made[0]["loss_ce"], expected, rtol=1e-10, atol=1e-10)


def test_a_misplaced_pixel_is_noticed():
    """The comparison above can fail: scores half a fine pixel away give another loss."""
    scores = torch.randn(1, CLASSES, 6, 6, dtype=torch.float64)
    labels = torch.randint(0, CLASSES, (1, 48, 48))
    loss = CrossEntropyLoss(avg_non_ignore=True)
    right, wrong = (Placement(8, offset, 0, 48) for offset in (3.5, 4.0))
    exact = functional.cross_entropy(
        functional.interpolate(scores, (48, 48), mode="bilinear"), labels
    )
    for rows, difference in ((right, 0), (wrong, 1e-3)):
        found = blockwise_losses(CoarseScores(scores, rows, right, False), labels, loss, None, 255)[
            "loss_ce"
        ]
        assert (abs(float(found - exact)) > 1e-3) == bool(difference)


@pytest.mark.parametrize("void", [255, 0])
def test_crops_without_a_label_cost_nothing(void):
    size = (20, 30)
    levels = levels_of("same", size)
    samples = [SegDataSample(gt_sem_seg=PixelData(data=torch.full((1, *size), void)))] * 2
    losses, gradients = judged(head(True, ignore_index=void), levels, samples)
    assert float(losses["loss_ce"]) == 0
    assert float(losses["acc_seg"]) == 100  # as the host says
    assert not any(gradient.any() for gradient in gradients)


def test_equal_scores_count_in_part():
    """Score layers start at zero; then no class is ahead, and a fifth is right by chance."""
    made = head(True)
    made.init_weights()
    losses, _ = judged(made, levels_of("same", (40, 50)), labelled((40, 50)))
    assert float(losses["acc_seg"]) == pytest.approx(100 / CLASSES)


def test_large_scores_do_not_overflow():
    scores = 1e4 * torch.randn(1, CLASSES, 6, 6)
    labels = torch.randint(0, CLASSES, (1, 48, 48))
    place = Placement(8, 3.5, 0, 48)
    losses = blockwise_losses(
        CoarseScores(scores, place, place, False), labels, CrossEntropyLoss(), None, 255
    )
    fine = functional.interpolate(scores.double(), (48, 48), mode="bilinear")
    torch.testing.assert_close(
        losses["loss_ce"].double(), functional.cross_entropy(fine, labels), rtol=1e-6, atol=0
    )


def test_a_label_beyond_the_classes_is_an_error():
    samples = labelled((20, 30))
    samples[1].gt_sem_seg.data[0, 3, 4] = CLASSES
    with pytest.raises((IndexError, RuntimeError), match="out of bounds"):
        head(True).loss(levels_of("same", (20, 30)), samples, {})


class Largest(TorchDispatchMode):
    """The largest tensor that any operator makes."""

    elements = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        made = function(*args, **(kwargs or {}))
        for tensor in made if isinstance(made, tuple | list) else [made]:
            if isinstance(tensor, torch.Tensor):
                self.elements = max(self.elements, tensor.numel())
        return made


def test_no_scores_of_the_images_size(monkeypatch):
    """Neither outside the operators nor, where the dispatch mode does not look, inside."""
    size = (256, 256)
    levels, samples = levels_of("same", size), labelled(size)
    full, made = 2 * CLASSES * 256 * 256, []

    def upsample(block, scores):
        made.append(whole(block, scores))
        assert made[-1].data_ptr() == block.room.data_ptr()
        return made[-1]

    whole = Block.upsample
    monkeypatch.setattr(Block, "upsample", upsample)
    for blockwise in (True, False):
        with Largest() as largest:
            judged(head(blockwise), levels, samples)
        assert (largest.elements < full) == blockwise
    sizes = [fine.numel() for fine in made]
    assert sum(sizes) == full and max(sizes) <= coarse.ELEMENTS


@pytest.mark.parametrize(
    "settings",
    [
        dict(upsample="deconv"),
        dict(upsample="nearest"),
        dict(loss_decode=dict(type="DiceLoss")),
        dict(loss_decode=[dict(type="CrossEntropyLoss"), dict(type="DiceLoss")]),
        dict(out_channels=1, num_classes=2, threshold=0.3),
    ],
    ids=["deconv", "nearest", "dice", "both", "one channel"],
)
@pytest.mark.filterwarnings("ignore:Default ``avg_non_ignore``")
def test_what_it_cannot_do_takes_the_plain_path(settings):
    made = SkipFusionHead(
        **dict(in_channels=CHANNELS, in_index=(0, 1, 2), num_classes=2) | settings
    )
    samples = labelled((64, 96), void=0)
    for sample in samples:
        sample.gt_sem_seg.data.clamp_(max=1)
    levels = tuple(level.float() for level in levels_of("host", (64, 96)))
    plain = copy.deepcopy(made)
    plain.blockwise = False
    for key, value in plain.loss(levels, samples, {}).items():
        torch.testing.assert_close(made.loss(levels, samples, {})[key], value, rtol=0, atol=0)


class Sharpened(SkipFusionHead):
    def forward(self, *inputs):
        return 3 * super().forward(*inputs)


class Tripled(SkipFusionHead):
    def loss_by_feat(self, scores, samples):
        return {key: 3 * value for key, value in super().loss_by_feat(scores, samples).items()}


@pytest.mark.parametrize("kind", [Sharpened, Tripled])
def test_what_a_subclass_changes_is_not_passed_by(kind):
    made, changed = head(True), head(True)
    changed.__class__ = kind
    levels, samples = levels_of("same", (20, 30)), labelled((20, 30))
    losses = [h.loss(levels, samples, {})["loss_ce"] for h in (made, changed)]
    assert abs(float(losses[0] - losses[1])) > 1e-3


def test_hooks_see_the_scores():
    made, seen = head(True), []
    made.register_forward_hook(lambda module, inputs, scores: seen.append(scores.shape))
    made.upscore[0].register_forward_hook(lambda module, inputs, scores: seen.append(scores.shape))
    made.loss(levels_of("same", (20, 30)), labelled((20, 30)), {})
    assert seen == [(2, CLASSES, 20, 30)] * 2


@pytest.mark.parametrize("number", [CLASSES - 1, CLASSES + 1])
def test_class_weights_must_be_one_for_each_class(number):
    made = head(True, dict(avg_non_ignore=True, class_weight=[1.0] * number))
    with pytest.raises(UserError, match=f"{number} weights for {CLASSES} classes"):
        made.loss(levels_of("same", (20, 30)), labelled((20, 30)), {})


def test_mixed_precision_judges_in_single():
    """Under autocast scores come in bfloat16; they are judged as the host's loss judges them."""
    size = (64, 96)
    made = head(True).float()
    levels = tuple(level.float() for level in levels_of("host", size))
    samples = labelled(size)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        losses = made.loss(levels, samples, {})
        scores = made.fuse(levels)[0]
    assert scores.dtype == torch.bfloat16 and losses["loss_ce"].dtype == torch.float32
    fine = functional.interpolate(scores.float(), size, mode="bilinear")
    labels = torch.cat([sample.gt_sem_seg.data for sample in samples])
    expected = functional.cross_entropy(fine, labels, ignore_index=255)
    torch.testing.assert_close(losses["loss_ce"], expected, rtol=1e-5, atol=0)
    losses["loss_ce"].backward()
    assert all(parameter.grad.abs().max() > 0 for parameter in made.parameters())


def test_compiled_whole():
    """One graph, without a break, with the same loss and gradients."""
    size = (40, 50)
    levels, samples = levels_of("host", size), labelled(size)
    plain, compiled = head(True), head(True)
    expected = judged(plain, levels, samples)
    compiled.loss = torch.compile(compiled.loss, backend="aot_eager", fullgraph=True)
    assert_same(judged(compiled, levels, samples), expected)


@pytest.mark.parametrize("weighted", [False, True])
def test_operators_keep_torchs_rules(weighted):
    scores = torch.randn(2, CLASSES, 5, 6, requires_grad=True)
    labels = torch.randint(0, CLASSES, (2, 40, 48))
    places = [8.0, 3.5, 0.0, 40.0], [8.0, 3.5, 0.0, 48.0]
    weights = (torch.rand(CLASSES), torch.rand(labels.shape)) if weighted else (None, None)
    torch.library.opcheck(
        torch.ops.fcn_plugin.cross_entropy_sum,
        (scores, labels, *weights, *places, False, 255, True),
        atol=1e-4,
        rtol=1e-4,
    )
    torch.library.opcheck(
        torch.ops.fcn_plugin.cross_entropy_map, (scores.detach(), labels, *places, False, 255)
    )


def test_second_derivatives_are_refused():
    losses = head(True).loss(levels_of("same", (20, 30)), labelled((20, 30)), {})
    with pytest.raises(NotImplementedError, match="blockwise=False"):
        losses["loss_ce"].backward(create_graph=True)
