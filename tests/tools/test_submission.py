"""From a test set without labels to the archive that its leaderboard takes, as a user goes it."""

import tarfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import mmseg
import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmseg.registry import MODELS
from PIL import Image
from tools.running import REPOSITORY, tool

from fcn_plugin.data.labels import voc_palette

SIZES = {"one": (80, 60), "two": (60, 80), "three": (64, 64), "four": (50, 70), "five": (33, 47)}
TURNED = "four"  # stored lying on its side
CLS = "results/VOC2012/Segmentation/comp{}_test_cls"
TINY = """
_base_ = "{base}"
model = dict(
    backbone=dict(depth=11, base_channels=2, fc_channels=8, init_cfg=None),
    decode_head=dict(in_channels=(8, 16, 8)),
)
{loaders}
splits = {splits}
"""
LOADERS = "\n".join(
    f"{name}_dataloader = dict(batch_size=1, num_workers=0, persistent_workers=False)"
    for name in ("train", "val", "test")
)
SPLITS = dict(
    blind=dict(ann_file="ImageSets/Segmentation/test.txt", data_prefix=dict(img_path="JPEGImages")),
    known=dict(ann_file="ImageSets/Segmentation/val.txt"),
    broken=dict(
        ann_file="ImageSets/Segmentation/broken.txt", data_prefix=dict(img_path="JPEGImages")
    ),
)


def images(folder: Path) -> None:
    """One of each size."""
    folder.mkdir(parents=True, exist_ok=True)
    chance = np.random.default_rng(0)
    for name, (width, height) in SIZES.items():
        image = Image.fromarray(chance.integers(0, 256, (height, width, 3), dtype=np.uint8))
        exif = Image.Exif()
        if name == TURNED:
            image, exif[0x0112] = image.transpose(Image.Transpose.ROTATE_90), 6
        image.save(folder / f"{name}.jpg", exif=exif)


def labels(folder: Path, classes: int) -> None:
    folder.mkdir(parents=True)
    for name, (width, height) in SIZES.items():
        label = np.full((height, width), classes - 1, np.uint8)
        Image.fromarray(label).save(folder / f"{name}.png")


def voc(folder: Path) -> None:
    root = folder / "data/VOCdevkit/VOC2012"
    images(root / "JPEGImages")
    labels(root / "SegmentationClass", 21)
    (root / "ImageSets/Segmentation").mkdir(parents=True)
    for split in ("test", "val"):
        (root / f"ImageSets/Segmentation/{split}.txt").write_text("\n".join(SIZES) + "\n")
    (root / "ImageSets/Segmentation/broken.txt").write_text("one\nbroken\n")
    (root / "JPEGImages/broken.jpg").touch()


def checkpoint(of: Path, file: Path) -> None:
    """Random weights, of score layers too, which predict several classes."""
    torch.manual_seed(2)
    model = MODELS.build(Config.fromfile(of).model)
    model.init_weights()
    for name, weight in model.named_parameters():
        if "score" in name or "conv_seg" in name:
            torch.nn.init.normal_(weight, std=1.0)
    torch.save(dict(state_dict=model.state_dict(), meta=dict()), file)


@pytest.fixture(scope="module")
def project(tmp_path_factory) -> Path:
    """VOC's layout, a config of a tiny network, and its checkpoint."""
    folder = tmp_path_factory.mktemp("project")
    voc(folder)
    base = REPOSITORY / "configs/fcn8s_vgg16_voc.py"
    (folder / "voc.py").write_text(TINY.format(base=base, loaders=LOADERS, splits=SPLITS))
    checkpoint(folder / "voc.py", folder / "voc.pth")
    # Work dirs whose newest best checkpoint was being written when the run was killed.
    whole = (folder / "voc.pth").read_bytes()
    for name, others in (("bests", ["best_mIoU_iter_1.pth"]), ("lasts", ["iter_2.pth"])):
        work = folder / name
        work.mkdir()
        for file in others:
            (work / file).write_bytes(whole)
        (work / "best_mIoU_iter_9.pth").write_bytes(whole[:-1000])
    (folder / "bests/last_checkpoint").write_text(str(folder / "nowhere.pth"))
    (folder / "lasts/last_checkpoint").write_text(str(folder / "lasts/iter_2.pth"))
    return folder


MMSEG = Path(mmseg.__file__).parent
RUNS = {
    "voc": "test.py voc.py voc.pth --split blind --submission voc.tgz --out voc-out --show-dir "
    "voc-pictures",
    "two processes": "dist_test.sh voc.py voc.pth 2 --split blind --submission two.tgz",
    "two processes fail": "dist_test.sh voc.py voc.pth 2 --split blind --submission voc.py/two.tgz",
    "rehearsal": "test.py voc.py bests --split known --comp 5 --tta --submission known.tar.gz "
    "--out known-out",
    "only predictions": "test.py voc.py lasts --split blind --out only-out",
    "broken image": "test.py voc.py voc.pth --split broken --submission b.tgz",
    "mmseg's": f"{MMSEG}/.mim/tools/test.py mmseg.py voc.pth",
}


@pytest.fixture(scope="module")
def runs(project) -> dict:
    """All of them, two at a time."""
    (project / "mmseg.py").write_text(
        '_base_ = "voc.py"\ntest_evaluator = [dict(type="ConfusionMatrixMetric"), '
        'dict(type="SubmissionMetric", file="mmseg.tgz")]\n'
    )

    def attempt(name: str):
        return name, tool(RUNS[name], folder=project)

    with ThreadPoolExecutor(2) as pool:
        return dict(pool.map(attempt, RUNS))


def voc_predictions(file: Path, comp: int) -> dict[str, Image.Image]:
    """What VOC's server finds in the archive, by image."""
    found = {}
    with tarfile.open(file, "r:gz") as archive:
        for info in archive:
            folder, _, name = info.name.rpartition("/")
            assert info.isfile() and folder == CLS.format(comp)
            found[name.removesuffix(".png")] = Image.open(archive.extractfile(info))
            found[name.removesuffix(".png")].load()
    assert sorted(found) == sorted(SIZES)
    for name, image in found.items():
        assert (image.format, image.mode, image.size) == ("PNG", "P", SIZES[name])
        assert image.getpalette() == [level for colour in voc_palette() for level in colour]
        assert np.asarray(image).max() <= 20
    return found


def same_as_out(found: dict[str, Image.Image], folder: Path) -> None:
    assert sorted(path.name for path in folder.iterdir()) == sorted(f"{n}.png" for n in found)
    for name, image in found.items():
        assert np.array_equal(np.asarray(Image.open(folder / f"{name}.png")), np.asarray(image))
    assert len({value for image in found.values() for value in np.unique(image)}) > 1


def test_voc(project, runs):
    run = runs["voc"]
    assert run.returncode == 0, run.stderr
    same_as_out(voc_predictions(project / "voc.tgz", comp=6), project / "voc-out")
    assert "voc.tgz: 5 predictions, comp6 of VOC2012, read back and valid" in run.stdout
    last = run.stdout.splitlines()[-1]
    assert last.endswith("Done: predictions are in voc-out; submission is voc.tgz")
    rehearsal = "the server wants the 1,456 images of its test list, and these are 5"
    assert f"voc.tgz is a rehearsal only: {rehearsal}" in run.stdout
    assert len(list((project / "voc-pictures").iterdir())) == 5
    assert not list(project.glob(".*.spool")) and not list(project.glob("*.part"))


def test_two_processes_write_the_same_bytes(project, runs):
    assert runs["two processes"].returncode == 0, runs["two processes"].stderr
    assert (project / "two.tgz").read_bytes() == (project / "voc.tgz").read_bytes()


def test_two_processes_fail_together(runs):
    run = runs["two processes fail"]
    assert run.returncode != 0
    errors = [line for line in run.stderr.splitlines() if line.startswith("error: ")]
    assert errors and all("two.tgz was not written" in line for line in errors)


def test_a_run_that_fails_leaves_nothing(project, runs):
    assert runs["broken image"].returncode == 1
    assert "broken.jpg: damaged image" in runs["broken image"].stderr
    assert not list(project.glob("*b.tgz*")) and not list(project.glob(".*b.tgz*"))


def test_a_rehearsal_on_images_with_labels_is_scored(project, runs):
    """Mirrored and in several scales, from an older checkpoint as the newest is torn."""
    run = runs["rehearsal"]
    assert run.returncode == 0, run.stderr
    same_as_out(voc_predictions(project / "known.tar.gz", comp=5), project / "known-out")
    assert "comp5 of VOC2012, read back and valid" in run.stdout
    assert "known.tar.gz is a rehearsal only" in run.stdout
    assert "Done: aAcc" in run.stdout.splitlines()[-1]
    assert "Load checkpoint from bests/best_mIoU_iter_1.pth" in run.stdout
    warned = [line for line in run.stderr.splitlines() if line.startswith("warning: ")]
    assert len(warned) == 1 and "bests/best_mIoU_iter_9.pth" in warned[0]


def test_predictions_alone(project, runs):
    run = runs["only predictions"]
    assert run.returncode == 0, run.stderr
    assert len(list((project / "only-out").iterdir())) == 5
    assert run.stdout.splitlines()[-1].endswith("Done: predictions are in only-out")
    assert "Load checkpoint from lasts/iter_2.pth" in run.stdout


def test_mmsegs_own_tool(project, runs):
    """mmseg's test.py, with the metric in the config."""
    run = runs["mmseg's"]
    assert run.returncode == 0, run.stderr
    assert voc_predictions(project / "mmseg.tgz", comp=6)
    assert "mmseg.tgz: 5 predictions" in run.stdout and "fwIoU: " in run.stdout
