"""Checkpoints of the wrong types, and with weights that are none, end in one line with the file."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from mmengine.logging import HistoryBuffer
from safetensors.torch import save_file

from fcn_plugin.conversion.convert import convert
from fcn_plugin.engine.resuming import check_resumable, find_checkpoint
from fcn_plugin.errors import UserError
from fcn_plugin.weights.files import check_checkpoint, read_content, tensors_and_meta

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
    put("state_dict", [1]),
    put("state_dict", {1: torch.zeros(1)}),
    put("state_dict", {"w": "text"}),
    put("state_dict", {"w": np.zeros(2)}),
    put("state_dict", {HOSTILE: torch.zeros(1)}),
    put("meta", [1]),
    put("meta.iter", "4"),
    put("meta.epoch", -1),
    put("meta.net", {"a": 1}),
    put("meta.input", 5),
    put("meta.input.mean", np.zeros(3)),
    put("meta.input.mean", ()),
    put("meta.input.mean", (1.0, float("nan"))),
    put("meta.input.std", (1.0, 0.0, 1.0)),
    put("meta.input.order", "RBG"),
    put("meta.dataset_meta", [("classes", ("a", "b"))]),
    put("meta.dataset_meta.classes", "ab"),
    put("meta.dataset_meta.classes", (1, 2)),
    put("meta.dataset_meta.palette", "red"),
    put("meta.dataset_meta.palette", [[0, 0], [1, 1]]),
    put("meta.dataset_meta.palette", [[0, 0, 300], [1, 1, 1]]),
    put("meta.dataset_meta.palette", np.float64(3)),
    put("meta.dataset_meta.palette", np.full((2, 3), np.nan)),
    put("meta.dataset_meta.reduce_zero_label", "no"),
    put("meta.dataset_meta.label_map", {"a": "b"}),
]
# Refused where a run goes on from it.
RUNS = [
    put("meta", None),
    put("meta.iter", None),
    put("message_hub", [1]),
    put("message_hub.log_scalars", {"train/loss": 3}),
    put("message_hub.log_scalars", {HOSTILE: HistoryBuffer([1.0], [1])}),
    put("message_hub.runtime_info", None),
    put("message_hub.runtime_info.iter", "4"),
    put("message_hub.runtime_info.best_score", "best"),
    put("message_hub.runtime_info.keep_ckpt_ids", ["../../x"]),
    put("message_hub.resumed_keys", {"train/loss": "yes"}),
    put("optimizer", {}),
    put("optimizer", {"a": [1]}),
    put("optimizer.state", {0: 1}),
    put("optimizer.param_groups", [1]),
    put("param_schedulers", [3]),
]


def numbers(*values: float) -> torch.Tensor:
    return torch.tensor(values)


NAN, INF = float("nan"), float("inf")
WEIGHTS: dict[str, Callable[[], torch.Tensor]] = {
    "sparse": lambda: torch.eye(2).to_sparse(),
    "sparse rows": lambda: torch.eye(2).to_sparse_csr(),
    "meta": lambda: torch.ones(2, device="meta"),
    "quantized": lambda: torch.quantize_per_tensor(torch.ones(2), 1.0, 0, torch.qint8),
    "complex": lambda: torch.ones(2, dtype=torch.complex64),
    "NaN": lambda: numbers(1, NAN),
    "inf": lambda: numbers(1, INF),
    "NaN in halves": lambda: numbers(1, NAN).half(),
    "NaN in eighths": lambda: numbers(1, NAN).to(torch.float8_e5m2),
    "inf, expanded": lambda: torch.tensor(INF).expand(2),
}


def saved(folder: Path, change: Change) -> Path:
    content = sound()
    change(content)
    torch.save(content, folder / "iter_4.pth")
    return folder / "iter_4.pth"


def converted(path: Path) -> None:
    convert(path, path.parent / "out.pth")


def in_one_line(error: pytest.ExceptionInfo, path: Path) -> str:
    message = str(error.value)
    assert message.startswith(f"{path}: ") and message.isprintable() and ";" in message
    return message


def versions(value: Any) -> Change:
    def change(content: dict) -> None:
        content["state_dict"]._metadata = value

    change.__name__ = f"_metadata={value!r}"
    return change


VERSIONS = [versions(5), versions({"": 5}), versions({"": {"version": "new"}}), versions({1: {}})]


@pytest.mark.parametrize("change", CONTENTS + VERSIONS, ids=lambda change: change.__name__)
def test_the_wrong_types_are_refused(tmp_path, change):
    path = saved(tmp_path, change)
    place = change.__name__.partition("=")[0]
    place = "meta.input" if "input" in place else place
    with pytest.raises(UserError) as error:
        read_content(path)
    assert place in in_one_line(error, path) or place == "state_dict"


@pytest.mark.parametrize("change", RUNS, ids=lambda change: change.__name__)
def test_no_run_goes_on_from_the_wrong_types(tmp_path, change):
    path = saved(tmp_path, change)
    check_checkpoint(path)  # of what predicts this is no concern
    with pytest.raises(UserError) as error:
        check_resumable(path)
    in_one_line(error, path)


@pytest.mark.filterwarnings("ignore")  # PyTorch's, of kinds of tensors that are rare
@pytest.mark.parametrize("kind", WEIGHTS)
def test_weights_that_are_none_are_refused(tmp_path, kind):
    path = saved(tmp_path, put("state_dict/running_var", WEIGHTS[kind]()))
    with pytest.raises(UserError) as error:
        check_checkpoint(path)
    assert ": running_var has " in in_one_line(error, path)


@pytest.mark.parametrize("door", [check_resumable, find_checkpoint, converted])
def test_so_they_are_by_every_door(tmp_path, door):
    path = saved(tmp_path, put("state_dict/weight", WEIGHTS["sparse"]()))
    with pytest.raises(UserError) as error:
        door(path)
    assert ": weight has the layout sparse" in in_one_line(error, path)


SOUND = [
    put("optimizer", dict(one=sound()["optimizer"], two=sound()["optimizer"])),
    put("message_hub.runtime_info.best_score", torch.tensor(3.0)),
    put("message_hub.runtime_info.best_score", NAN),
    put("state_dict/_extra_state", {"scale": 1}),
    put("state_dict/block._extra_state", None),
    put("state_dict/attn_mask", numbers(0, -INF)),
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


def test_of_safetensors_too(tmp_path):
    path = tmp_path / "x.safetensors"
    save_file({"w": torch.zeros(1)}, path, metadata={"fcn_plugin": '{"iter": "x"}'})
    with pytest.raises(UserError) as error:
        read_content(path)
    in_one_line(error, path)
