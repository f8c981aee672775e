"""From a test set without labels to the archive that its leaderboard takes, as a user goes it."""

import tarfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import mmseg
import numpy as np
import pytest
from PIL import Image
from prediction.trained import image, weights_for
from tools.running import REPOSITORY, tool

SIZES = {"one": (80, 60), "two": (60, 80), "three": (64, 64), "four": (50, 70), "five": (33, 47)}
LOADER = dict(batch_size=1, num_workers=0, persistent_workers=False)
LISTS = "ImageSets/Segmentation"
BLIND = dict(ann_file=f"{LISTS}/test.txt", data_prefix=dict(img_path="JPEGImages"))
SPLITS = dict(blind=BLIND, known=dict(ann_file=f"{LISTS}/val.txt"))
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
    folder = tmp_path_factory.mktemp("project")
    root = folder / "data/VOCdevkit/VOC2012"
    for each in ("JPEGImages", "SegmentationClass", LISTS):
        (root / each).mkdir(parents=True)
    for seed, (name, (width, height)) in enumerate(SIZES.items()):
        image(root / f"JPEGImages/{name}.jpg", height, width, seed)
        label = np.full((height, width), 20, np.uint8)
        Image.fromarray(label).save(root / f"SegmentationClass/{name}.png")
    for split in ("test", "val"):
        (root / f"{LISTS}/{split}.txt").write_text("\n".join(SIZES) + "\n")
    (folder / "voc.py").write_text(CONFIG)
    (folder / "mmseg.py").write_text(MMSEGS)
    weights_for(folder / "voc.py", seed=2)
    return folder


MMSEG = Path(mmseg.__file__).parent
RUNS = {
    "voc": "test.py voc.py weights.pth --split blind --submission voc.tgz --out voc-out "
    "--show-dir voc-pictures",
    "two": "dist_test.sh voc.py weights.pth 2 --split blind --submission two.tgz",
    "two fail": "dist_test.sh voc.py weights.pth 2 --split blind --submission voc.py/two.tgz",
    "rehearsal": "test.py voc.py weights.pth --split known --comp 5 --tta "
    "--submission known.tar.gz --out known-out",
    "mmseg's": f"{MMSEG}/.mim/tools/test.py mmseg.py weights.pth",
}


@pytest.fixture(scope="module")
def runs(project) -> dict:
    """All of them, two at a time."""
    with ThreadPoolExecutor(2) as pool:
        done = pool.map(lambda command: tool(command, folder=project), RUNS.values())
        found = dict(zip(RUNS, done, strict=True))
    for name, run in found.items():
        assert (run.returncode == 0) == (name != "two fail"), run.stderr
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
    assert said.strip().endswith("Done: predictions are in voc-out; submission is voc.tgz")
    assert "voc.tgz is a rehearsal only: the server wants the 1,456 images" in said
    assert len(list((project / "voc-pictures").iterdir())) == 5
    assert not list(project.glob(".*.spool")) and not list(project.glob("*.part"))


def test_others_write_the_same_bytes(project, runs):
    """Two processes, and mmseg's own tool, which scores as well."""
    for name in ("two.tgz", "mmseg.tgz"):
        assert (project / name).read_bytes() == (project / "voc.tgz").read_bytes()
    assert "fwIoU: " in runs["mmseg's"].stdout


def test_two_processes_that_fail_say_what_was_not_written(runs):
    lines = runs["two fail"].stderr.splitlines()
    errors = [line for line in lines if line.startswith("error: ")]
    assert errors and all("two.tgz was not written" in line for line in errors)


def test_images_with_labels_mirrored_and_in_several_scales_are_scored_too(project, runs):
    check(project / "known.tar.gz", project / "known-out", comp=5)
    assert "Done: aAcc" in runs["rehearsal"].stdout.splitlines()[-1]
