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
    whole = weights_for(folder / "voc.py", seed=2).read_bytes()
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


def check(archive: Path, folder: Path, comp: int) -> None:
    """The archive has what VOC's server wants, the labels that --out wrote."""
    with tarfile.open(archive, "r:gz") as opened:
        files = {info.name: Image.open(opened.extractfile(info)) for info in opened}
        place = f"results/VOC2012/Segmentation/comp{comp}_test_cls"
        assert sorted(files) == sorted(f"{place}/{name}.png" for name in SIZES)
        found = {Path(name).name: np.asarray(image) for name, image in files.items()}
    assert sorted(found) == sorted(path.name for path in folder.iterdir())
    for name, labels in found.items():
        assert labels.shape[::-1] == SIZES[name.removesuffix(".png")]
        assert np.array_equal(np.asarray(Image.open(folder / name)), labels)
    assert len({value for labels in found.values() for value in np.unique(labels)}) > 1


def test_voc(project, runs):
    said = runs["voc"].stdout
    check(project / "voc.tgz", project / "voc-out", comp=6)
    assert "voc.tgz: 5 predictions, comp6 of VOC2012, read back and valid" in said
    assert "Done: predictions are in voc-out; submission is voc.tgz\n" in said
    rehearsal = "the server wants the 1,456 images of its test list, and these are 5"
    assert f"voc.tgz is a rehearsal only: {rehearsal}" in said
    assert len(list((project / "voc-pictures").iterdir())) == 5
    assert not list(project.glob(".*.spool")) and not list(project.glob("*.part"))


def test_others_write_the_same_bytes(project, runs):
    """Two processes, and mmseg's own tool, which scores as well."""
    for name in ("two.tgz", "mmseg.tgz"):
        assert (project / name).read_bytes() == (project / "voc.tgz").read_bytes()
    assert "fwIoU: " in runs["mmseg's"].stdout


def test_runs_that_fail_leave_nothing(project, runs):
    assert "broken.jpg: damaged image" in runs["broken image"].stderr
    assert not list(project.glob("*b.tgz*")) and not list(project.glob(".*b.tgz*"))
    lines = runs["two fail"].stderr.splitlines()
    errors = [line for line in lines if line.startswith("error: ")]
    assert errors and all("two.tgz was not written" in line for line in errors)


def test_from_work_dirs_whose_newest_checkpoint_is_torn(project, runs):
    """Images with labels, mirrored and in several scales, are scored too."""
    run = runs["rehearsal"]
    check(project / "known.tar.gz", project / "known-out", comp=5)
    assert "known.tar.gz is a rehearsal only" in run.stdout
    assert "Done: aAcc" in run.stdout.splitlines()[-2]
    assert "Load checkpoint from bests/best_mIoU_iter_1.pth" in run.stdout
    (warned,) = [line for line in run.stderr.splitlines() if line.startswith("warning: ")]
    assert "bests/best_mIoU_iter_9.pth" in warned
    said = runs["no archive"].stdout
    assert "Done: predictions are in only-out\n" in said
    assert "Load checkpoint from lasts/iter_2.pth" in said
