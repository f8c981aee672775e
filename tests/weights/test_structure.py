"""Damaged checkpoints, wrong types and weights that are none end in one line with the file."""

import re
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from mmengine.logging import HistoryBuffer
from mmengine.runner import CheckpointLoader

from fcn_plugin.conversion.convert import convert
from fcn_plugin.engine.resuming import check_resumable, find_checkpoint
from fcn_plugin.errors import UserError
from fcn_plugin.weights.files import check_checkpoint, read, read_content, tensors_and_meta

Change = Callable[[dict], Any]


def sound() -> dict[str, Any]:
    """What a run leaves, in small."""
    return dict(
        state_dict=torch.nn.BatchNorm2d(2).state_dict(),
        meta=dict(
            epoch=0,
            iter=4,
            seed=np.int64(1),
            net="fcn8s",
            padding=None,
            input=dict(order="BGR", mean=(1.0, 2.0, 3.0), std=(1.0, 1.0, 1.0)),
            dataset_meta=dict(
                classes=("a", "b"),
                palette=np.zeros((2, 3), np.uint8),
                reduce_zero_label=False,
                label_map={1: 0, 2: 255},
                tasks=dict(geo=dict(classes=("c", "d"), palette=None, label_map={3: 0})),
            ),
        ),
        message_hub=dict(
            log_scalars={"train/loss": HistoryBuffer([1.0], [1])},
            runtime_info=dict(iter=4, best_score=np.float64(3), best_ckpt="best.pth"),
            resumed_keys={"train/loss": True},
        ),
        optimizer=dict(state={0: dict(step=1)}, param_groups=[dict(lr=0.1, params=[0])]),
        param_schedulers=[dict(last_step=4)],
    )


def put(path: str, value: Any) -> Change:
    """A change of what stands at a path like "meta.iter", or "state_dict/w" if names have dots."""

    def change(content: dict) -> None:
        *way, key = re.split("/" if "/" in path else r"\.", path)
        for step in way:
            content = content[step]
        content[key] = value

    change.__name__ = f"{path}={value!r}"[:60]
    return change


HOSTILE = "\x1b]0;x\x07\x1b[31m\n\r\u202e"
# Refused however it is read.
CONTENTS = [
    put("state_dict", {1: torch.zeros(1)}),
    put("state_dict", {"w": np.zeros(2)}),
    put("state_dict", {HOSTILE: torch.zeros(1)}),
    put("meta", [1]),
    put("meta.iter", "4"),
    put("meta.epoch", -1),
    put("meta.input", 5),
    put("meta.input.mean", ()),
    put("meta.input.mean", (1.0, float("nan"))),
    put("meta.input.std", (1.0, 0.0, 1.0)),
    put("meta.dataset_meta.classes", "ab"),
    put("meta.dataset_meta.palette", [[0, 0], [1, 1]]),
    put("meta.dataset_meta.palette", np.full((2, 3), np.nan)),
    put("meta.dataset_meta.label_map", {"a": "b"}),
    put("meta.dataset_meta.tasks", ["geo"]),
    put("meta.dataset_meta.tasks.geo", 5),
    put("meta.dataset_meta.tasks.geo.classes", "cd"),
    put("meta.dataset_meta.tasks.geo.label_map", {"a": "b"}),
]
# Refused where a run goes on from it.
RUNS = [
    put("meta", None),
    put("message_hub.log_scalars", {"train/loss": 3}),
    put("message_hub.log_scalars", {HOSTILE: HistoryBuffer([1.0], [1])}),
    put("message_hub.runtime_info", None),
    put("message_hub.runtime_info.keep_ckpt_ids", ["../../x"]),
    put("optimizer", {}),
    put("optimizer.param_groups", [1]),
    put("param_schedulers", [3]),
]
NAN, INF = float("nan"), float("inf")
WEIGHTS: dict[str, Callable[[], torch.Tensor]] = {
    "sparse": lambda: torch.eye(2).to_sparse(),
    "meta": lambda: torch.ones(2, device="meta"),
    "quantized": lambda: torch.quantize_per_tensor(torch.ones(2), 1.0, 0, torch.qint8),
    "complex": lambda: torch.ones(2, dtype=torch.complex64),
    "NaN": lambda: torch.tensor((1, NAN)),
    "NaN in eighths": lambda: torch.tensor((1, NAN)).to(torch.float8_e5m2),
    "inf, expanded": lambda: torch.tensor(INF).expand(2),
}


def saved(folder: Path, change: Change) -> Path:
    content = sound()
    change(content)
    torch.save(content, folder / "iter_4.pth")
    return folder / "iter_4.pth"


@contextmanager
def refused(path: Path, words: str | None = None) -> Iterator[None]:
    with pytest.raises(UserError, match=words) as error:
        yield
    message = str(error.value)
    assert message.startswith(f"{path}: ") and message.isprintable() and ";" in message


def versions(content: dict) -> None:
    content["state_dict"]._metadata = {"": {"version": "new"}}


@pytest.mark.parametrize("change", [*CONTENTS, versions], ids=lambda change: change.__name__)
def test_the_wrong_types_are_refused(tmp_path, change):
    path = saved(tmp_path, change)
    with refused(path):
        read_content(path)


@pytest.mark.parametrize("change", RUNS, ids=lambda change: change.__name__)
def test_no_run_goes_on_from_the_wrong_types(tmp_path, change):
    path = saved(tmp_path, change)
    check_checkpoint(path)  # of what predicts this is no concern
    with refused(path):
        check_resumable(path)


@pytest.mark.filterwarnings("ignore")  # PyTorch's, of kinds of tensors that are rare
@pytest.mark.parametrize("kind", WEIGHTS)
def test_weights_that_are_none_are_refused(tmp_path, kind):
    path = saved(tmp_path, put("state_dict/running_var", WEIGHTS[kind]()))
    doors = [check_checkpoint]
    if kind == "sparse":
        doors += [check_resumable, lambda path: convert(path, tmp_path / "out.pth")]
    for door in doors:
        with refused(path, ": running_var has "):
            door(path)


SOUND = [
    put("optimizer", dict(one=sound()["optimizer"], two=sound()["optimizer"])),
    put("message_hub.runtime_info.best_score", torch.tensor(NAN)),
    put("state_dict/block._extra_state", {"scale": 1}),
    put("state_dict/attn_mask", torch.tensor((0, -INF))),
]


@pytest.mark.parametrize("change", SOUND, ids=lambda change: change.__name__)
def test_what_other_modules_and_metrics_keep_is_theirs(tmp_path, change):
    """And so a sound one goes through every door: the negative control."""
    path = saved(tmp_path, change)
    check_resumable(path)
    assert find_checkpoint(path) == path
    assert read_content(path)["meta"]["dataset_meta"]["palette"].tolist() == [[0, 0, 0]] * 2
    tensors = tensors_and_meta(path, check_checkpoint(path))[0]
    assert {*torch.nn.BatchNorm2d(2).state_dict()} <= {*tensors}
    assert not any("extra" in name for name in tensors)


def test_other_peoples_meta_data_are_their_own(tmp_path):
    meta = dict(CLASSES=3, input=dict(size=3), env_info="x", dataset_meta=None, config={})
    torch.save(dict(state_dict={}, meta=meta), tmp_path / "theirs.pth")
    assert "config" not in read_content(tmp_path / "theirs.pth")["meta"]
    torch.save({"meta": torch.zeros(1)}, tmp_path / "theirs.pth")  # a parameter's name
    check_checkpoint(tmp_path / "theirs.pth")


# --- damaged bytes -------------------------------------------------------------------------------


@pytest.fixture
def checkpoint(tmp_path) -> Path:
    state = {f"layer{i}.weight": torch.full((40, 10), float(i)) for i in range(3)}
    torch.save({"state_dict": state, "meta": {}}, tmp_path / "iter.pth")
    return tmp_path / "iter.pth"


def load(path: Path) -> Any:
    return CheckpointLoader.load_checkpoint(str(path))


@pytest.mark.parametrize("door", [check_checkpoint, read, load])
def test_a_flipped_bit_in_a_tensor_is_seen(checkpoint, door):
    with zipfile.ZipFile(checkpoint) as archive:
        content = archive.read("iter/data/2")
    data = bytearray(checkpoint.read_bytes())
    data[data.index(content) + 123] ^= 1
    checkpoint.write_bytes(data)
    torch.load(checkpoint, weights_only=True)  # the negative control: PyTorch sees nothing
    with refused(checkpoint, ": damaged, .* iter/data/2 "):
        door(checkpoint)


def test_damage_anywhere_is_seen_or_harmless(checkpoint):
    """Harmless is what lies between the records: their tensors come through."""
    whole, expected = checkpoint.read_bytes(), read_content(checkpoint)["state_dict"]
    flipped = [bytearray(whole) for _ in range(0, len(whole), 61)]
    for number, data in enumerate(flipped):
        data[61 * number] ^= 1 << 61 * number % 8
    refusals = 0
    for data in [*flipped, *(whole[:length] for length in range(0, len(whole), 151))]:
        checkpoint.write_bytes(data)
        try:
            check_checkpoint(checkpoint)
        except UserError as error:
            assert str(error).startswith(f"{checkpoint}: ") and "\n" not in str(error)
            refusals += 1
        else:
            assert len(data) == len(whole)
            found = read_content(checkpoint)["state_dict"]
            assert all(torch.equal(found[name], expected[name]) for name in expected)
    assert refusals > 50


def test_a_tensor_that_is_marked_as_a_folder_is_seen(checkpoint):
    """PyTorch does not read it, and the tensor is whatever was in memory."""
    data = bytearray(checkpoint.read_bytes())
    entry = data.rindex(b"iter/data/2") - 46  # of the archive's directory
    data[entry + 38] |= 0x10
    checkpoint.write_bytes(data)
    torch.load(checkpoint, weights_only=True)  # the negative control: it says nothing
    with refused(checkpoint, "iter/data/2 is marked as a folder"):
        read_content(checkpoint)


def test_a_bomb_is_not_unfolded(checkpoint):
    with zipfile.ZipFile(checkpoint) as source:
        parts = {name: source.read(name) for name in source.namelist()}
    with zipfile.ZipFile(checkpoint, "w", zipfile.ZIP_DEFLATED) as target:
        for name, content in parts.items():
            target.writestr(name, content)
    with refused(checkpoint, "compressed, as no PyTorch file is"):
        check_checkpoint(checkpoint)
