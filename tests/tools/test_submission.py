"""From a test set without labels to the archive that its leaderboard takes, as a user goes it."""

import tarfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import mmseg
import numpy as np
import pytest
from PIL import Image
from prediction.trained import weights_for
from tools.running import REPOSITORY, tool

from fcn_plugin.data.labels import voc_palette

SIZES = {"one": (80, 60), "two": (60, 80), "three": (64, 64), "four": (50, 70), "five": (33, 47)}
TURNED = "four"  # stored lying on its side
LOADER = dict(batch_size=1, num_workers=0, persistent_workers=False)
LISTS = "ImageSets/Segmentation"
BLIND = dict(ann_file=f"{LISTS}/test.txt", data_prefix=dict(img_path="JPEGImages"))
SPLITS = dict(
    blind=BLIND,
    known=dict(ann_file=f"{LISTS}/val.txt"),
    broken=dict(BLIND, ann_file=f"{LISTS}/broken.txt"),
)
CONFIG = f"""
_base_ = "{REPOSITORY}/configs/fcn8s_vgg16_voc.py"
model = dict(
    backbone=dict(depth=11, base_channels=2, fc_channels=8, init_cfg=None),
    decode_head=dict(in_channels=(8, 16, 8)),
)
train_dataloader = val_dataloader = test_dataloader = {LOADER}
splits = {SPLITS}
"""
MMSEGS = """
_base_ = "voc.py"
metrics = ["ConfusionMatrixMetric", "SubmissionMetric"]
test_evaluator = [dict(type=metrics[0]), dict(type=metrics[1], file="mmseg.tgz")]
"""


@pytest.fixture(scope="module")
def project(tmp_path_factory) -> Path:
    """VOC's layout, a config of a tiny network, and its checkpoint."""
    folder, chance = tmp_path_factory.mktemp("project"), np.random.default_rng(0)
    root = folder / "data/VOCdevkit/VOC2012"
    for each in ("JPEGImages", "SegmentationClass", LISTS):
        (root / each).mkdir(parents=True)
    for name, (width, height) in SIZES.items():
        blocks = chance.integers(0, 256, (height // 8 + 1, width // 8 + 1, 3), dtype=np.uint8)
        image = Image.fromarray(blocks.repeat(8, 0).repeat(8, 1)[:height, :width])
        exif = Image.Exif()
        if name == TURNED:
            image, exif[0x0112] = image.transpose(Image.Transpose.ROTATE_90), 6
        image.save(root / f"JPEGImages/{name}.jpg", exif=exif)
        label = np.full((height, width), 20, np.uint8)
        Image.fromarray(label).save(root / f"SegmentationClass/{name}.png")
    (root / "JPEGImages/broken.jpg").touch()
    for split, names in dict(test=SIZES, val=SIZES, broken=["one", "broken"]).items():
        (root / f"{LISTS}/{split}.txt").write_text("\n".join(names) + "\n")
    (folder / "voc.py").write_text(CONFIG)
    (folder / "mmseg.py").write_text(MMSEGS)
    whole = weights_for(folder / "voc.py").read_bytes()
    # Work dirs whose newest best checkpoint was being written when the run was killed.
    for name, file in dict(bests="best_mIoU_iter_1.pth", lasts="iter_2.pth").items():
        (folder / name).mkdir()
        (folder / name / file).write_bytes(whole)
        (folder / name / "best_mIoU_iter_9.pth").write_bytes(whole[:-1000])
    (folder / "bests/last_checkpoint").write_text(str(folder / "nowhere.pth"))
    (folder / "lasts/last_checkpoint").write_text(str(folder / "lasts/iter_2.pth"))
    return folder


MMSEG = Path(mmseg.__file__).parent
RUNS = {
    "voc": "test.py voc.py weights.pth --split blind --submission voc.tgz --out voc-out "
    "--show-dir voc-pictures",
    "two": "dist_test.sh voc.py weights.pth 2 --split blind --submission two.tgz",
    "two fail": "dist_test.sh voc.py weights.pth 2 --split blind --submission voc.py/two.tgz",
    "rehearsal": "test.py voc.py bests --split known --comp 5 --tta --submission known.tar.gz "
    "--out known-out",
    "no archive": "test.py voc.py lasts --split blind --out only-out",
    "broken image": "test.py voc.py weights.pth --split broken --submission b.tgz",
    "mmseg's": f"{MMSEG}/.mim/tools/test.py mmseg.py weights.pth",
}
FAIL = ("two fail", "broken image")


@pytest.fixture(scope="module")
def runs(project) -> dict:
    """All of them, two at a time."""
    with ThreadPoolExecutor(2) as pool:
        done = pool.map(lambda command: tool(command, folder=project), RUNS.values())
        found = dict(zip(RUNS, done, strict=True))
    for name, run in found.items():
        assert (run.returncode == 0) == (name not in FAIL), run.stderr
    return found


def predictions(file: Path, comp: int) -> dict[str, Image.Image]:
    """What VOC's server finds in the archive, by image."""
    found = {}
    with tarfile.open(file, "r:gz") as archive:
        for info in archive:
            folder, _, name = info.name.rpartition("/")
            assert info.isfile()
            assert folder == f"results/VOC2012/Segmentation/comp{comp}_test_cls"
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
    said = runs["voc"].stdout
    same_as_out(predictions(project / "voc.tgz", comp=6), project / "voc-out")
    assert "voc.tgz: 5 predictions, comp6 of VOC2012, read back and valid" in said
    assert said.strip().endswith("Done: predictions are in voc-out; submission is voc.tgz")
    rehearsal = "the server wants the 1,456 images of its test list, and these are 5"
    assert f"voc.tgz is a rehearsal only: {rehearsal}" in said
    assert len(list((project / "voc-pictures").iterdir())) == 5
    assert not list(project.glob(".*.spool")) and not list(project.glob("*.part"))
    assert predictions(project / "mmseg.tgz", comp=6)  # by mmseg's own tool
    assert "fwIoU: " in runs["mmseg's"].stdout


def test_two_processes_write_the_same_bytes_and_fail_together(project, runs):
    assert (project / "two.tgz").read_bytes() == (project / "voc.tgz").read_bytes()
    lines = runs["two fail"].stderr.splitlines()
    errors = [line for line in lines if line.startswith("error: ")]
    assert errors and all("two.tgz was not written" in line for line in errors)


def test_a_run_that_fails_leaves_nothing(project, runs):
    assert "broken.jpg: damaged image" in runs["broken image"].stderr
    assert not list(project.glob("*b.tgz*")) and not list(project.glob(".*b.tgz*"))


def test_a_rehearsal_on_images_with_labels_is_scored(project, runs):
    """Mirrored and in several scales, from an older checkpoint as the newest is torn."""
    run = runs["rehearsal"]
    same_as_out(predictions(project / "known.tar.gz", comp=5), project / "known-out")
    assert "known.tar.gz is a rehearsal only" in run.stdout
    assert "Done: aAcc" in run.stdout.splitlines()[-1]
    assert "Load checkpoint from bests/best_mIoU_iter_1.pth" in run.stdout
    (warned,) = [line for line in run.stderr.splitlines() if line.startswith("warning: ")]
    assert "bests/best_mIoU_iter_9.pth" in warned


def test_predictions_alone(project, runs):
    assert len(list((project / "only-out").iterdir())) == 5
    said = runs["no archive"].stdout
    assert said.strip().endswith("Done: predictions are in only-out")
    assert "Load checkpoint from lasts/iter_2.pth" in said
