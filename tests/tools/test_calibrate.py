"""tools/calibrate.py, on images whose labels are drawn from what a tiny network says of them."""

import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from data.multi_task_sets import data_set, write_set
from families import NEWER_TORCH
from mmengine.config import Config
from mmengine.runner import Runner
from PIL import Image
from prediction.trained import trained, weights_for
from tools.running import REPOSITORY, ran, tool
from tools.test_tasks import CONFIG as TWO_TASKS

from fcn_plugin.evaluation.calibration import calibration_counts, calibration_error, confidence_of
from fcn_plugin.export import export_onnx
from fcn_plugin.prediction.network import load_network
from fcn_plugin.prepare.shapes import write_shapes
from fcn_plugin.weights.files import read

KNOWN = 2.5
CALIBRATE = "calibrate.py tiny.py weights.pth --out"


def predicted(folder: Path, checkpoint: str) -> list:
    """The network and its samples of the validation images."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        cfg = Config.fromfile("tiny.py")
        model, _ = load_network(cfg, Path(checkpoint), torch.device("cpu"))
        loader = Runner.build_dataloader(cfg.val_dataloader)
        with torch.no_grad():
            samples = [sample for batch in loader for sample in model.test_step(batch)]
    assert len(samples) == 9
    return [model, *samples]


@pytest.fixture(scope="module")
def project(tmp_path_factory) -> Path:
    """With a network that is ``KNOWN`` times too sure of the validation images' labels."""
    folder = tmp_path_factory.mktemp("project")
    write_shapes(folder / "data" / "shapes", train=2, val=9, size=64)
    trained(folder, iter=7, hook_msgs=dict(best_ckpt="elsewhere.pth"))
    generator = torch.Generator().manual_seed(1)
    for sample in predicted(folder, "weights.pth")[1:]:
        scores = sample.seg_logits.data.flatten(1).t() / KNOWN
        drawn = scores.softmax(1).multinomial(1, generator=generator)
        label = drawn.view(sample.gt_sem_seg.shape).numpy().astype(np.uint8)
        label[:5] = 255
        Image.fromarray(label).save(folder / sample.seg_map_path)
    return folder


def error(samples: list) -> float:
    """Of all pixels."""
    counts = 0
    for sample in samples:
        truth, labels = sample.gt_sem_seg.data[0], sample.pred_sem_seg.data[0]
        sure = confidence_of(sample.to_dict())
        counts = counts + calibration_counts(truth, labels, sure, 5, 255).sum(1).numpy()
    return calibration_error(counts)


def test_finds_the_temperature_and_writes_it_into_the_score_layers(project):
    done = ran(f"{CALIBRATE} calibrated.pth", folder=project).stdout
    (told,) = re.findall(r"divided by ([\d.]+); fitted to 33,984 pixels of 9 images", done)
    assert float(told) == pytest.approx(KNOWN, rel=0.03)
    assert done.endswith("Next: fcn-plugin test tiny.py calibrated.pth\n")
    tensors, meta = read(project / "calibrated.pth")
    given, _ = read(project / "weights.pth")
    found = meta.pop("temperature")
    assert f"{found:.4f}" == told and meta == dict(iter=7)
    layers = {name for name in given if not torch.equal(given[name], tensors[name])}
    assert layers == {
        f"decode_head.score.{i}.{kind}" for i in range(3) for kind in ("weight", "bias")
    }
    (_, *before), (_, *after) = (
        predicted(project, f"{name}.pth") for name in ("weights", "calibrated")
    )
    for old, new in zip(before, after, strict=True):
        close = 1e-6 * float(old.seg_logits.data.abs().max())
        scores = old.seg_logits.data / found
        torch.testing.assert_close(new.seg_logits.data, scores, rtol=0, atol=close)
        assert (old.pred_sem_seg.data == new.pred_sem_seg.data).float().mean() > 0.999
    was, now = (100 * error(samples) for samples in (before, after))
    assert now < 2 < 5 < was
    told = [float(value) for value in re.findall(r"([\d.]+) % +[\d.]+\n", done)]
    assert told == pytest.approx([was, now], abs=0.01)  # all pixels are drawn


def test_again_and_on_another_split(project):
    """From safetensors, whose temperature is a factor; and on other images."""
    ran(f"{CALIBRATE} first.safetensors", folder=project)
    first, meta = read(project / "first.safetensors")
    done = ran("calibrate.py tiny.py first.safetensors --out second.pth", folder=project).stdout
    second, both = read(project / "second.pth")
    assert both["temperature"] == pytest.approx(meta["temperature"], rel=1e-5)
    assert "with earlier ones" in done
    assert all(torch.allclose(first[name], second[name], rtol=1e-5) for name in first)
    split = ran("calibrate.py tiny.py weights.pth --out of.pth --split train", folder=project)
    assert "of 2 images" in split.stdout


def test_one_of_two_tasks(tmp_path):
    """Of its head alone; the other's can follow."""
    write_set(tmp_path / "data", count=2)
    text = TWO_TASKS.format(repository=REPOSITORY, dataset=data_set("data"))
    (tmp_path / "two.py").write_text(text)
    weights_for(tmp_path / "two.py")
    ran("calibrate.py two.py weights.pth --task geo --out geo.pth", folder=tmp_path)
    ran("calibrate.py two.py geo.pth --out both.pth", folder=tmp_path)
    (first, _), (second, geo), (third, both) = (
        read(tmp_path / f"{name}.pth") for name in ("weights", "geo", "both")
    )
    assert geo.keys() == {"geo_temperature"} and both.keys() == {"geo_temperature", "temperature"}
    for old, new, head in (
        (first, second, "task_heads.geo.score."),
        (second, third, "decode_head.score."),
    ):
        changed = {name for name in old if not torch.equal(old[name], new[name])}
        assert changed == {name for name in old if name.startswith(head)} != set()


@NEWER_TORCH
def test_the_exported_file_gives_calibrated_probabilities(project, tmp_path):
    import onnxruntime

    ran(f"{CALIBRATE} exported.pth", folder=project)
    _, meta = read(project / "exported.pth")
    model, *samples = predicted(project, "exported.pth")
    export_onnx(model, tmp_path / "tiny.onnx", argmax=False, size=(64, 64))
    session = onnxruntime.InferenceSession(tmp_path / "tiny.onnx")
    before = predicted(project, "weights.pth")[1:]
    for sample, old in zip(samples, before, strict=True):
        image = np.asarray(Image.open(project / sample.img_path))[None]
        (scores,) = session.run(None, dict(image=image))
        found = torch.from_numpy(scores[0]).softmax(0)
        expected = (old.seg_logits.data.double() / meta["temperature"]).softmax(0)
        torch.testing.assert_close(found.double(), expected, rtol=0, atol=1e-5)
        assert (found - old.seg_logits.data.softmax(0)).abs().max() > 0.1


def test_what_is_refused(project, tmp_path):
    shutil.copytree(project, tmp_path / "project")
    folder = tmp_path / "project"
    bad = torch.load(folder / "weights.pth", weights_only=True)
    bad["meta"]["temperature"] = -1.0
    torch.save(bad, folder / "bad.pth")
    zero = {name: torch.zeros_like(value) for name, value in bad["state_dict"].items()}
    torch.save(dict(state_dict=zero), folder / "zero.pth")
    for command, message in {
        f"{CALIBRATE} weights.pth": "weights.pth: a folder, or the checkpoint itself",
        f"{CALIBRATE} data": "data: a folder, or",
        f"{CALIBRATE} out.pth --task geo": "task 'geo'",
        f"{CALIBRATE} out.pth --split none": "--split none",
        "calibrate.py tiny.py bad.pth --out out.pth": "bad.pth: its meta data have temperature",
        "calibrate.py tiny.py zero.pth --out out.pth": "the same score everywhere",
    }.items():
        done = tool(command, folder=folder)
        assert done.returncode == 1 and message in done.stderr, done.stderr[-2000:]
        assert len(done.stderr.strip().splitlines()) == 1
    for label in (folder / "data/shapes").rglob("SegmentationClass/*.png"):
        Image.fromarray(np.full((64, 64), 255, np.uint8)).save(label)
    done = tool(f"{CALIBRATE} out.pth", folder=folder)
    assert "all pixels are void" in done.stderr
    assert not (folder / "out.pth").exists()
