"""The command line of tools/prepare_data.py."""

import json
import zipfile

import numpy as np
from PIL import Image
from prepare.archives_of_sets import sbd, tar, tgz, voc2012
from tools.running import ran, tool


def test_shapes_are_written_and_counted_in_the_last_line(tmp_path):
    for _ in range(2):  # the second time finds them finished
        done = ran("prepare_data.py shapes --train 3 --val 2 --seed 7", folder=tmp_path)
        assert done.stdout.splitlines() == [
            "data/shapes: 3 train and 2 val images, 64x64, 5 classes",
            "Next: fcn-plugin configs shapes",
        ]
        assert done.stderr == ""  # a bar only on a terminal


def test_what_is_published_is_asked_for_unless_a_part_is_meant(tmp_path):
    tgz(tmp_path / "mine.tgz", sbd())
    refused = tool("prepare_data.py sbd --archive mine.tgz", folder=tmp_path)
    assert refused.returncode == 1 and refused.stdout == ""
    note, error = refused.stderr.splitlines()
    assert note.startswith("mine.tgz: not as published (md5 ")
    assert error.endswith("or give --subset if it is meant to be only a part")
    done = ran("prepare_data.py sbd --archive mine.tgz --subset", folder=tmp_path)
    assert done.stdout.splitlines() == [
        "For seg11valid also run: fcn-plugin prepare_data voc2011",
        "For trainaug also run: fcn-plugin prepare_data voc2012",
        "data/sbd: train 3, val 2 images",
        "Next: fcn-plugin configs sbd",
    ]


def test_check_lists_all_faults_and_fails(tmp_path):
    tar(tmp_path / "a.tar", voc2012())
    command = "prepare_data.py voc2012 --root elsewhere --subset"
    ran(f"{command} --archive a.tar", folder=tmp_path)
    folder = tmp_path / "elsewhere/VOCdevkit/VOC2012"
    (folder / "JPEGImages/t0.jpg").write_bytes(b"")
    (folder / "SegmentationClass/v1.png").unlink()
    checked = tool(f"{command} --check", folder=tmp_path)
    assert checked.returncode == 1 and checked.stdout == ""
    label, image, error = checked.stderr.splitlines()
    assert "SegmentationClass/v1.png: no such label" in label
    assert "JPEGImages/t0.jpg: damaged image, the file is empty" in image
    assert error.startswith("error: elsewhere/VOCdevkit/VOC2012: faults, listed above: 2;")


def labelled(folder, count=4) -> None:
    """Pictures with a square each, as labelme has them, and one without a label."""
    (folder / "test").mkdir(parents=True)
    rng = np.random.default_rng(0)
    for number in range(count + 1):
        pixels = rng.integers(0, 255, (32, 40, 3), np.uint8)
        name = f"test/{number}" if number == count else str(number)
        Image.fromarray(pixels).save(folder / f"{name}.jpg")
    shape = dict(label="box", shape_type="rectangle", points=[[4, 4], [19, 19]])
    for number in range(count):
        content = dict(shapes=[shape], imagePath=f"{number}.jpg", imageHeight=32, imageWidth=40)
        (folder / f"{number}.json").write_text(json.dumps(content))


# A network of a few channels, two iterations.
SMALL = (
    "--cfg-options model.backbone.base_channels=2 model.backbone.fc_channels=4 "
    "model.decode_head.in_channels=[8,16,4] train_dataloader.num_workers=0 "
    "val_dataloader.num_workers=0 test_dataloader.num_workers=0 "
    "train_cfg.max_iters=2 train_cfg.val_interval=2 default_hooks.checkpoint.interval=2"
)


def test_ones_own_pictures_become_a_data_set_that_trains_and_is_handed_in(tmp_path):
    """The configs as they are written, from another folder than where the data set was made."""
    labelled(tmp_path / "in")
    done = ran("prepare_data.py", "own", "in", folder=tmp_path)
    *table, last, pretrained, scratch = done.stdout.splitlines()
    assert table[1].split()[1::2] == ["class", "value", "train", "val", "pixels"]
    assert table[3].split()[1::2] == ["background", "0", "3", "1", "80.00", "|"]
    assert table[4].split()[1::2] == ["box", "1", "3", "1", "20.00", "|"]
    assert pretrained.endswith(": fcn-plugin train data/mine/fcn8s_vgg16_mine.py")
    assert last == "data/mine: train 3, val 1, test 1 images, 2 classes"

    name = scratch.rpartition("/")[2]
    folder = tmp_path / "elsewhere"
    folder.mkdir()
    config, work = f"../data/mine/{name}", f"work_dirs/{name.removesuffix('.py')}"
    ran(f"train.py {config} {SMALL}", folder=folder)
    options = f"--split test --submission results.zip {SMALL}"
    done = ran(f"test.py {config} {work} {options}", folder=folder)
    assert "results.zip: 1 predictions, index PNGs, read back and valid" in done.stdout
    with zipfile.ZipFile(folder / "results.zip") as archive:
        assert archive.namelist() == ["4.png"]
        assert Image.open(archive.open("4.png")).size == (40, 32)
