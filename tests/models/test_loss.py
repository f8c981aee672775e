"""The loss from coarse scores is mmseg's loss on upsampled scores."""

import pytest
import torch
from families import CLASS_WEIGHTS
from mmseg.models.losses import CrossEntropyLoss
from models.small import CLASSES, Largest, backbone, features, labelled
from torch.nn import functional

from fcn_plugin.errors import UserError
from fcn_plugin.models import SkipFusionHead, coarse
from fcn_plugin.models.coarse import Block, CoarseScores
from fcn_plugin.models.loss import blockwise_losses
from fcn_plugin.models.upsample import Placement

CHANNELS = (4, 8, 6)
CROSS_ENTROPIES = [{}, dict(reduction="sum"), dict(avg_non_ignore=True, loss_weight=1 / 3)]
SAMPLERS = [
    dict(thresh=0.3, min_kept=50),  # the improbable
    dict(thresh=0.01, min_kept=3000),  # the fewest
    dict(thresh=0.01, min_kept=10**5),  # all but the surest
    dict(min_kept=100),  # the worst
]
WEIGHTS = [0.5, 2.0, 1.0, 3.0, 0.1]
SMALL = (20, 30)
pytestmark = [
    pytest.mark.usefixtures("small_blocks"),
    pytest.mark.filterwarnings("ignore:Default ``avg_non_ignore``"),
]


def head(blockwise: bool = True, loss=None, kind=SkipFusionHead, **settings) -> SkipFusionHead:
    loss = dict(type="CrossEntropyLoss") | (dict(avg_non_ignore=True) if loss is None else loss)
    common = dict(num_classes=CLASSES, loss_decode=loss, blockwise=blockwise)
    made = kind(CHANNELS, (0, 1, 2), **common | settings)
    generator = torch.Generator().manual_seed(1)
    for parameter in made.parameters():
        torch.nn.init.normal_(parameter, generator=generator)
    return made.double()


def levels_of(geometry: str, size: tuple[int, int]):
    """Features of a published or a padded network, or what a backbone of mmseg returns."""
    if geometry == "mmseg":
        return features(size, channels=CHANNELS, dtype=torch.float64)
    vgg = backbone(depth=11, padding=geometry, base_channels=1, fc_channels=6).double().eval()
    with torch.no_grad():
        return vgg(torch.randn(2, 3, *size, dtype=torch.float64))


def judged(made: SkipFusionHead, levels, samples) -> tuple[dict, list[torch.Tensor]]:
    losses = made.loss(levels, samples, {})
    losses["loss_ce"].backward()
    return losses, [parameter.grad for parameter in made.parameters()]


def assert_as_on_the_plain_path(size, geometry="same", void=0.1, **settings) -> None:
    """Loss, accuracy and gradients."""
    levels, samples = levels_of(geometry, size), labelled(size, void=void)
    (found, gradients), (expected, plain) = (
        judged(head(blockwise, **settings), levels, samples) for blockwise in (True, False)
    )
    loss, accuracy = (float(expected[key]) for key in ("loss_ce", "acc_seg"))
    assert float(found["loss_ce"]) == pytest.approx(loss, rel=1e-10, abs=1e-10) and loss > 0
    assert float(found["acc_seg"]) == pytest.approx(accuracy, rel=1e-6)  # single in mmseg
    for one, other in zip(gradients, plain, strict=True):
        torch.testing.assert_close(
            one, other, rtol=0, atol=1e-10 * max(float(other.abs().max()), 1)
        )


@pytest.mark.parametrize(
    ("geometry", "size", "loss"),
    [
        *((geometry, (33, 200), None) for geometry in ("reference", "same", "mmseg")),
        *(("reference", size, None) for size in ((1, 1), (97, 131))),
        *(("same", (33, 70), loss) for loss in CROSS_ENTROPIES),
    ],
    ids=str,
)
def test_it_is_mmsegs(geometry, size, loss):
    assert_as_on_the_plain_path(size, geometry, loss=loss)


@pytest.mark.parametrize("sampler", SAMPLERS, ids=str)
@pytest.mark.parametrize(
    "weights",
    [pytest.param(None, id="plain"), pytest.param(WEIGHTS, id="weighted", marks=CLASS_WEIGHTS)],
)
def test_hard_pixels_are_mmsegs(sampler, weights):
    # mmseg cannot weigh classes where an ignored label is none of them.
    void, loss = 0 if weights else 0.1, dict(avg_non_ignore=True, class_weight=weights)
    sampler = dict(type="OHEMPixelSampler", **sampler)
    assert_as_on_the_plain_path((61, 70), void=void, loss=loss, sampler=sampler)


@CLASS_WEIGHTS
@pytest.mark.parametrize("average", [True, False], ids=["valid", "all"])
def test_classes_are_weighed(average):
    """With an ignored class as mmseg does; a label above the classes weighs nothing."""
    loss, size = dict(avg_non_ignore=average, class_weight=WEIGHTS), (40, 50)
    assert_as_on_the_plain_path(size, void=0, loss=loss, ignore_index=1)
    levels, samples = levels_of("same", size), labelled(size, void=0.1)
    labels = torch.cat([sample.gt_sem_seg.data for sample in samples])
    expected = functional.cross_entropy(
        head()(levels), labels, torch.tensor(WEIGHTS, dtype=torch.float64), ignore_index=255
    )
    found = judged(head(loss=loss), levels, samples)[0]["loss_ce"]
    torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("offset", [3.5, 4.0])
def test_large_scores_do_not_overflow(offset):
    """And the comparisons can fail: scores half a fine pixel away give another loss."""
    scores = 1e4 * torch.randn(1, CLASSES, 6, 6)
    labels = torch.randint(0, CLASSES, (1, 48, 48))
    fine = functional.interpolate(scores.double(), (48, 48), mode="bilinear")
    rows, cols = Placement(8, offset, 0, 48), Placement(8, 3.5, 0, 48)
    losses = blockwise_losses(
        CoarseScores(scores, rows, cols, False), labels, CrossEntropyLoss(), None, 255
    )
    expected = functional.cross_entropy(fine, labels)
    apart = abs(float(losses["loss_ce"].double() / expected - 1))
    assert apart < 1e-6 if offset == 3.5 else apart > 1e-3


@pytest.mark.parametrize("void", [255, 0])
def test_no_label_and_equal_scores(void):
    """No label costs nothing; of equal scores, as score layers start, each counts in part."""
    made, levels = head(ignore_index=void), levels_of("same", SMALL)
    losses, gradients = judged(made, levels, labelled(SMALL, torch.full((1, *SMALL), void)))
    assert (float(losses["loss_ce"]), float(losses["acc_seg"])) == (0, 100)  # as mmseg says
    assert not any(gradient.any() for gradient in gradients)
    made.init_weights()
    losses, _ = judged(made, levels, labelled(SMALL))
    assert float(losses["acc_seg"]) == pytest.approx(100 / CLASSES)


def test_no_scores_of_the_images_size(monkeypatch):
    """Neither outside the operators nor, where the dispatch mode does not look, inside."""
    size = (256, 256)
    levels, samples = levels_of("same", size), labelled(size, void=0.1)
    full, sizes = 2 * CLASSES * 256 * 256, []

    def fine_scores(block, scores):
        fine = whole(block, scores)
        assert fine.data_ptr() == block.buffer.data_ptr()
        sizes.append(fine.numel())
        return fine

    whole = Block.fine_scores
    monkeypatch.setattr(Block, "fine_scores", fine_scores)
    for blockwise in (True, False):
        with Largest() as largest:
            judged(head(blockwise), levels, samples)
        assert (largest.elements < full) == blockwise
    assert sum(sizes) == full and max(sizes) <= coarse.ELEMENTS


@pytest.mark.parametrize(
    "settings",
    [
        dict(upsample="deconv"),
        dict(loss_decode=[dict(type="CrossEntropyLoss"), dict(type="DiceLoss")]),
        dict(out_channels=1, threshold=0.3, loss=dict(use_sigmoid=True)),
    ],
    ids=["deconv", "both", "one channel"],
)
def test_what_it_cannot_do_takes_the_plain_path(settings):
    label = torch.randint(0, 2, (1, 64, 96))
    levels, samples = levels_of("mmseg", (64, 96)), labelled((64, 96), label)
    heads = (head(blockwise, num_classes=2, **settings) for blockwise in (True, False))
    losses, plain = (made.loss(levels, samples, {}) for made in heads)
    assert losses == plain


class Tripled(SkipFusionHead):
    def loss_by_feat(self, scores, samples):
        return {key: 3 * value for key, value in super().loss_by_feat(scores, samples).items()}


def test_what_a_subclass_or_a_hook_changes_is_not_skipped():
    levels, samples = levels_of("same", SMALL), labelled(SMALL)

    def loss(made) -> float:
        return float(made.loss(levels, samples, {})["loss_ce"])

    expected, hooked = loss(head()), head()
    assert loss(head(kind=Tripled)) == pytest.approx(3 * expected)
    for module in (hooked, hooked.upscore[0]):
        handle = module.register_forward_hook(lambda _, __, scores: 3 * scores)
        assert abs(loss(hooked) - expected) > 1e-3
        handle.remove()
    assert loss(hooked) == expected
    for method in ("forward", "predict", "predict_by_feat"):
        assert not head(kind=type("Own", (SkipFusionHead,), {method: None})).upsamples_by_matrices


def test_class_weights_must_be_one_for_each_class():
    made = head(loss=dict(class_weight=[1.0] * 6))
    with pytest.raises(UserError, match=f"6 weights for {CLASSES} classes"):
        made.loss(levels_of("same", SMALL), labelled(SMALL), {})


def test_mixed_precision_judges_in_single():
    """Under autocast scores come in bfloat16; they are judged as mmseg's loss judges them."""
    size = (64, 96)
    made = head().float()
    levels, samples = features(size, channels=CHANNELS), labelled(size, void=0.1)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        losses = made.loss(levels, samples, {})
        scores = made.coarse(levels, size).scores
    assert scores.dtype == torch.bfloat16 and losses["loss_ce"].dtype == torch.float32
    fine = functional.interpolate(scores.float(), size, mode="bilinear")
    labels = torch.cat([sample.gt_sem_seg.data for sample in samples])
    expected = functional.cross_entropy(fine, labels, ignore_index=255)
    torch.testing.assert_close(losses["loss_ce"], expected, rtol=1e-5, atol=0)
    losses["loss_ce"].backward()
    assert all(parameter.grad.abs().max() > 0 for parameter in made.parameters())


@pytest.mark.parametrize("weighted", [False, True])
def test_operators_keep_torchs_rules(weighted):
    scores = torch.randn(2, CLASSES, 5, 6, requires_grad=True)
    labels = torch.randint(0, CLASSES, (2, 40, 48))
    sides = [8.0, 3.5, 0.0, 40.0], [8.0, 3.5, 0.0, 48.0]
    weights = (torch.rand(CLASSES), torch.rand(labels.shape)) if weighted else (None, None)
    operators, close = torch.ops.fcn_plugin, dict(atol=1e-4, rtol=1e-4)
    of_sum = scores, labels, *weights, *sides, False, 255, True
    torch.library.opcheck(operators.cross_entropy_sum, of_sum, **close)
    of_map = scores.detach(), labels, *sides, False, 255
    torch.library.opcheck(operators.cross_entropy_map, of_map)


def test_second_derivatives_are_refused():
    losses = head().loss(levels_of("same", SMALL), labelled(SMALL), {})
    with pytest.raises(NotImplementedError, match="blockwise=False"):
        losses["loss_ce"].backward(create_graph=True)
