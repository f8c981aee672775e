"""Publish a run: what the file holds, that it predicts the same, and what its card says."""

import os
import re
import shutil
import signal
import time
from functools import partial
from pathlib import Path

import killed
import numpy as np
import pytest
import torch
import yaml
from mmengine.config import Config
from mmseg.registry import MODELS
from prediction.trained import image
from publishing.a_run import HOME, SESSION, TEST, TESTED, VALIDATED, work_dir
from tools.running import ran, tool

from fcn_plugin.errors import UserError
from fcn_plugin.prediction import Predictor
from fcn_plugin.publish import lean
from fcn_plugin.publish.card import Licences
from fcn_plugin.publish.facts import facts_of, public
from fcn_plugin.publish.folder import check_folder
from fcn_plugin.publish.lean import publish
from fcn_plugin.publish.results import results_of
from fcn_plugin.weights.files import check_checkpoint

NAMES = {"README.md", "config.py"}


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Path:
    return work_dir(tmp_path_factory.mktemp("published"))


@pytest.fixture(scope="module")
def full(run):
    return publish(run, run.parent / "full/tiny.safetensors", licences=Licences(data="CC0"))


@pytest.fixture(scope="module")
def half(run):
    checkpoint = run / "best_mIoU_iter_4.pth"
    return publish(checkpoint, run.parent / "half/tiny.safetensors", half=True)


def labels(config: Path, weights: Path) -> np.ndarray:
    predictor = Predictor(config, weights, "cpu")
    pictures = [image(weights.parent / f"noise/{i}.png", 64, 96, i) for i in range(4)]
    return np.stack([predictor(picture).labels for picture in pictures])


def test_predicts_as_the_checkpoint_does(run, full, half):
    expected = labels(run.parent / "tiny.py", run)
    assert len(np.unique(expected)) > 2
    assert np.array_equal(labels(full.file.with_name("config.py"), full.file), expected)
    rounded = labels(half.file.with_name("config.py"), half.file)
    assert (rounded == expected).mean() > 0.99
    sizes = [each.stat().st_size for each in (half.file, full.file, full.checkpoint)]
    assert sizes == sorted(sizes)


def test_holds_the_tensors_alone_and_rounds_kernels_only(full, half):
    stored = torch.load(full.checkpoint, weights_only=True)["state_dict"]
    content = check_checkpoint(full.file)
    assert content.keys() == {"state_dict", "meta"}
    assert content["state_dict"].keys() == stored.keys()
    assert all(torch.equal(tensor, stored[name]) for name, tensor in content["state_dict"].items())
    rounded = check_checkpoint(half.file)["state_dict"]
    for name, tensor in stored.items():
        kind = torch.float16 if tensor.dim() >= 2 else tensor.dtype
        assert rounded[name].dtype == kind and torch.equal(rounded[name], tensor.to(kind)), name
    kernels = [tensor for tensor in stored.values() if tensor.dim() >= 2]
    assert half.halved == len(kernels) < half.tensors == full.tensors and full.halved == 0


def test_trains_on_from_it(half, tmp_path):
    """By ``init_cfg`` of the backbone, and of the whole network."""
    cfg = Config.fromfile(half.file.with_name("config.py"))
    state = check_checkpoint(half.file)["state_dict"]
    weights = dict(type="Pretrained", checkpoint=str(half.file))
    for settings in (cfg.model | dict(init_cfg=weights), cfg.model):
        if "init_cfg" not in settings:
            settings.backbone.init_cfg = weights
        model = MODELS.build(settings)
        model.init_weights()
        begins = "" if "init_cfg" in settings else "backbone."
        for name, tensor in model.state_dict().items():
            if name.startswith(begins):
                assert torch.equal(tensor, state[name].to(tensor.dtype)), name


def front(file: Path) -> dict:
    return yaml.safe_load(file.with_name("README.md").read_text().split("---\n")[1])


def test_the_card_tells_what_the_run_records(full, half):
    assert {path.name for path in full.file.parent.glob("*.*")} == {full.file.name, *NAMES}
    assert check_folder(full.file.parent) == full.file
    head = front(full.file)
    assert head["license"] == "unknown" and head["pipeline_tag"] == "image-segmentation"
    assert head["library_name"] == "fcn_plugin" and head["datasets"] == ["shapes"]
    assert {"ConvolutionalizedVGG", "arxiv:1411.4038"} < {*head["tags"]}
    (index,) = head["model-index"]
    scores = {
        result["dataset"]["name"]: {each["name"]: each["value"] for each in result["metrics"]}
        for result in index["results"]
    }
    # Each split once, by its fullest record.
    assert scores.keys() == {"BaseSegDataset in shapes, val", "BaseSegDataset in shapes, hidden"}
    assert scores["BaseSegDataset in shapes, hidden"]["mean IU"] == TESTED["mIoU"] / 100
    assert scores["BaseSegDataset in shapes, val"]["pixel accuracy"] == 0.901
    text = " ".join(full.file.with_name("README.md").read_text().split())
    for words in (
        f"`{full.file.name}`",
        "| class | IU, BaseSegDataset in shapes, val | |---|---:|",  # not of the hidden split
        "A network that gives each pixel of a picture one of 5 classes (",
        "| star | 1.00 |",
        "| 90.10 [90.10, 90.10] |",  # of images that are all alike
        "| 51.00 [48.50, 52.50] | 81.00 |",
        "| triangle | - |",
        "Hardly found (IU below 20 percent): star.",
        "RGB, values 0 to 255, less 123.675, 116.28, 103.53, divided by 58.395",
        "| the pictures and labels | CC0 |",
        "| the initial weights, `start.pth` | unknown |",
        "| time | 0:57:00 |",
        "no optimizer state",
    ):
        assert words in text, words
    assert len(full.unknown) == 2 and len(half.unknown) == 3
    assert "before the rounding" in half.file.with_name("README.md").read_text()
    stored = (path.read_bytes() for path in full.file.parent.glob("*.*"))
    assert not any(HOME.encode() in content for content in stored)


def test_without_scores_it_says_so(run, tmp_path):
    other = run / "iter_2.pth"
    content = torch.load(run / "best_mIoU_iter_4.pth", weights_only=True)
    content["meta"] = dict(iter=2)
    torch.save(content, other)
    published = publish(other, tmp_path / "tiny.safetensors")
    other.unlink()
    assert published.results == [] and "scores" in published.unknown[-1]
    assert "model-index" not in front(published.file)
    cfg = public(Config.fromfile(published.file.with_name("config.py")))
    cfg.val_dataloader = None
    assert facts_of(run, cfg).validated_on == "nothing"
    text = published.file.with_name("README.md").read_text()
    assert "None are recorded with the run." in text
    assert "of a picture a class\n" in text and "| classes | not recorded in the" in text


def test_only_what_was_measured_of_this_file_counts(run, tmp_path):
    copy = tmp_path / "run"
    shutil.copytree(run, copy)
    cfg, checkpoint = Config.fromfile(run.parent / "tiny.py"), copy / "best_mIoU_iter_4.pth"

    def origins(step: int | None = 4) -> list[str]:
        results = results_of(checkpoint, copy, cfg, step)
        return [result.origin.split(",")[0].split(" at ")[0] for result in results]

    assert origins() == ["fcn-plugin report", "fcn-plugin test"]
    config = copy / TEST / "vis_data/config.py"
    test = Config.fromfile(config)
    # The checkpoint of another run has the same name, and is tested in the same work dir.
    for tested, named in ((checkpoint, True), (run / checkpoint.name, False)):
        test.load_from = str(tested)
        test.dump(config)
        assert ("fcn-plugin test" in origins()) == named
    test.load_from = str(checkpoint)
    test.dump(config)
    late = time.time() + 9  # the file was written again after the test
    os.utime(checkpoint, (late, late))
    assert origins() == ["fcn-plugin report"]
    content = torch.load(checkpoint, weights_only=True)
    content["state_dict"]["decode_head.score.0.bias"] += 1
    torch.save(content, checkpoint)
    os.utime(checkpoint, (late, late))
    assert origins() == ["the run's validation"] and origins(None) == []
    (result,) = results_of(checkpoint, copy, cfg, 4)
    assert result.scores == VALIDATED and result.images == 7
    cfg.val_dataloader.batch_size = 2
    (result,) = results_of(checkpoint, copy, cfg, 4)
    assert result.images is None  # the last batch may be half


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("/home/me/a.pth", "a.pth"),
        ("file:///home/me/a.pth", "a.pth"),
        ("~/mine/a.pth", "a.pth"),
        (r"C:\mine\a.pth", "a.pth"),
        ("https://me:secret@host.example/a.pth", "https://host.example/a.pth"),
        ("https://host.example/a.pth?X-Amz-Signature=1f", "https://host.example/a.pth"),
        ("https://host.example/a@b.pth", "https://host.example/a@b.pth"),
        ("data/camvid", "data/camvid"),
        ("torchvision://vgg16", "torchvision://vgg16"),
        ("", ""),
    ],
)
def test_no_folder_or_password_is_published(text, shown):
    cfg = public(Config(dict(model=dict(paths=[text], load_from=text))))
    assert cfg.model == dict(paths=[shown], load_from=shown)


def test_what_it_started_from_is_of_the_session_that_began_it(run, tmp_path):
    """An earlier run may have been trained in the same work dir, and a run may go on from one."""
    copy = tmp_path / "run"
    shutil.copytree(run, copy)
    cfg = public(Config.fromfile(run.parent / "tiny.py"))
    cfg.model.backbone.init_cfg = None

    def initial(name: str, **settings) -> list[str]:
        folder = copy / f"2031020{name}_000000"
        shutil.copytree(run / SESSION, folder)
        file = folder / "vis_data/config.py"
        session = Config.fromfile(file)
        session.merge_from_dict(dict(load_from=None) | settings)
        session.dump(file)
        return list(facts_of(copy, cfg).initial)

    assert list(facts_of(copy, cfg).initial) == ["start.pth"]
    assert initial("1", load_from="a/second.pth") == ["second.pth"]
    assert initial("2", load_from="a/iter_2.pth", resume=True) == ["second.pth"]
    assert initial("3") == []
    for folder in copy.glob("2031*"):
        shutil.rmtree(folder)
    assert list(facts_of(copy, cfg).initial) == ["not recorded"]
    assert initial("4", load_from="other/iter_2.pth", resume=True) == ["iter_2.pth"]


@pytest.mark.parametrize(
    "taken", ["README.md", "config.py", "tiny.safetensors", "other-0123abcd.safetensors"]
)
def test_nothing_is_replaced(run, tmp_path, taken):
    (tmp_path / taken).write_text("mine")
    with pytest.raises(UserError, match=f"{taken}: is there already; .* folder of their own"):
        publish(run, tmp_path / "tiny.safetensors")
    assert (tmp_path / taken).read_text() == "mine" and len(list(tmp_path.iterdir())) == 1


def test_killed_while_it_writes(run, tmp_path, monkeypatch):
    """There are weights with card and config, or none; the next run makes them."""
    # What is read of the run, and formatting the config, take seconds each time.
    facts = facts_of(run, public(Config.fromfile(run.parent / "tiny.py")))
    monkeypatch.setattr(Config, "pretty_text", "# the config")
    monkeypatch.setattr(lean, "facts_of", lambda *_: facts)
    monkeypatch.setattr(lean, "results_of", lambda *_: [])

    def left(moment: int) -> set[str]:
        """The names of the files that are left, in a folder named by the moment."""
        folder = tmp_path / str(moment)
        write = partial(publish, run, folder / "tiny.safetensors")
        assert killed.run(write, folder, moment) == -signal.SIGKILL
        names = {path.name for path in folder.glob("*") if path.is_file()}
        if weights := names - NAMES:
            assert check_folder(folder).name in weights
            return names
        if names:  # between two renamings
            with pytest.raises(UserError, match=r"is there already; .* or delete it"):
                write()
            for name in names:
                (folder / name).unlink()
        assert check_folder(write().file.parent).parent == folder
        assert len(list(folder.iterdir())) == 3
        return names

    moments = killed.run(partial(publish, run, tmp_path / "all/tiny.safetensors"), tmp_path / "all")
    kinds = [left(moment) for moment in range(moments // 2, moments + 1)]
    assert set() in kinds and {"config.py"} in kinds and NAMES in kinds and len(kinds[-1]) == 3


def test_as_a_user_does(run, tmp_path):
    done = ran(f"convert_weights.py --publish {run} out/net.safetensors --half", folder=tmp_path)
    (file,) = (tmp_path / "out").glob("net-*.safetensors")
    *_, gap, last, following = done.stdout.splitlines()
    assert "unknown in out/README.md: the licence of the initial weights" in gap
    assert re.fullmatch(rf"Done: out/{file.name}, 0\.1 MB of .*iter_4\.pth's 0\.\d MB", last)
    assert following == "Next: fcn-plugin publish push out OWNER/NAME"
    for words, fault in {
        f"--publish {run} net.pth": "error: net.pth: published weights are safetensors; name it",
        f"--publish {tmp_path} net.safetensors": "no checkpoint there; train one first",
        f"--publish {tmp_path / 'out' / file.name} new/net.safetensors": "no training in it",
    }.items():
        refused = tool(f"convert_weights.py {words}", folder=tmp_path)
        assert refused.returncode == 1 and fault in refused.stderr, refused.stderr
    assert tool("convert_weights.py a b --half", folder=tmp_path).returncode == 2
