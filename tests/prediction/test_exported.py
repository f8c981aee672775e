"""Predictions from ONNX files that are written here by hand: one 1 x 1 convolution."""

import json
from importlib.util import find_spec
from pathlib import Path

import cv2
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from prediction.trained import image
from tools.running import REPOSITORY

from fcn_plugin.errors import UserError
from fcn_plugin.prediction import runtimes
from fcn_plugin.prediction.exported import ExportedPredictor
from fcn_plugin.prediction.photos import PhotoReader

NAMES = ["sky", "road", "tree"]
# The files' numbers are 4, 1 and 2: 0 is void, and class 0 has the number 4.
TOLD = dict(
    made_by="fcn_plugin 1.0",
    preprocessing="inside",
    resizing=None,
    bits=None,
    left_to_caller=[],
    classes=NAMES,
    palette=[[1, 2, 3], [4, 5, 6], [7, 8, 9]],
    reduce_zero_label=True,
    label_map=[[0, 1], [1, 2], [2, 9], [3, 0]],
    threshold=None,
    memory=dict(border=0, scale=100, power=1, countable=2**31),
)
NUMBERS = (4, 1, 2)
BACKENDS = [
    "onnxruntime",
    pytest.param(
        "openvino",
        marks=pytest.mark.skipif(not find_spec("openvino"), reason="the extra openvino"),
    ),
]


def weights(channels: int) -> np.ndarray:
    chance = np.random.default_rng(1)
    return chance.normal(size=(channels, 3)) / 40


def written(folder: Path, channels=3, output="scores", size=("height", "width"), **told) -> Path:
    """A file that gives scores, or of them labels in the numbers of the data set."""
    kernel = weights(channels).astype(np.float32).reshape(channels, 3, 1, 1)
    offset = np.float32([-127.5]).reshape(1, 1, 1, 1)
    nodes = [
        helper.make_node("Cast", ["image"], ["floats"], to=TensorProto.FLOAT),
        helper.make_node("Transpose", ["floats"], ["planes"], perm=[0, 3, 1, 2]),
        helper.make_node("Add", ["planes", "offset"], ["centred"]),
        helper.make_node("Conv", ["centred", "kernel"], ["scores"]),
    ]
    constants = {"kernel": kernel, "offset": offset}
    kind, shape = TensorProto.FLOAT, ["batch", channels, *size]
    if output == "labels":
        constants["numbers"] = np.uint8(NUMBERS)
        nodes.append(helper.make_node("ArgMax", ["scores"], ["best"], axis=1, keepdims=0))
        nodes.append(helper.make_node("Gather", ["numbers", "best"], ["labels"]))
        kind, shape = TensorProto.UINT8, ["batch", *size]
    graph = helper.make_graph(
        nodes,
        "tiny",
        [helper.make_tensor_value_info("image", TensorProto.UINT8, ["batch", *size, 3])],
        [helper.make_tensor_value_info(output, kind, shape)],
        [numpy_helper.from_array(array, name) for name, array in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    for key, value in (TOLD | told).items():
        if value is not Ellipsis:
            entry = model.metadata_props.add()
            entry.key, entry.value = key, value if isinstance(value, str) else json.dumps(value)
    file = folder / f"{output}.onnx"
    onnx.save(model, file)
    return file


def scores_of(bgr: np.ndarray, channels: int = 3) -> np.ndarray:
    """[C, H, W] in double precision."""
    return np.einsum("cb,hwb->chw", weights(channels), bgr[..., ::-1] - 127.5)


@pytest.mark.parametrize("backend", BACKENDS)
def test_labels_probabilities_and_confidence(tmp_path, backend):
    predictor = ExportedPredictor(written(tmp_path), backend)
    assert predictor.classes.names == tuple(NAMES) and predictor.classes.numbers == NUMBERS
    pictures = [predictor.read(image(tmp_path / f"{i}.png", 33, 50, i)) for i in range(3)]
    results = predictor.predict(pictures, [tmp_path / "0.npy", True, False], confidence=True)
    labels_alone = ExportedPredictor(written(tmp_path, output="labels"), backend)
    alone = labels_alone.predict(pictures, [False] * 3)
    for number, (result, labelled) in enumerate(zip(results, alone, strict=True)):
        bgr = cv2.imread(str(tmp_path / f"{number}.png"))
        scores = scores_of(bgr)
        expected = np.array(NUMBERS)[scores.argmax(0)]
        assert result.labels.dtype == np.uint8 and np.array_equal(result.labels, expected)
        assert np.array_equal(labelled.labels, expected) and labelled.confidence is None
        assert np.array_equal(result.image, bgr[..., ::-1])
        shares = np.exp(scores) / np.exp(scores).sum(0)
        np.testing.assert_allclose(result.confidence, 255 * shares.max(0), atol=0.51)
        if number < 2:
            stored = np.load(tmp_path / "0.npy") if number == 0 else result.probabilities
            assert stored.dtype == np.float16
            np.testing.assert_allclose(stored, shares, atol=1e-3)
    assert results[2].probabilities is None


def test_a_single_score_is_compared_with_its_threshold(tmp_path):
    two = dict(classes=NAMES[:2], palette=[], label_map=[], reduce_zero_label=False, threshold=0.3)
    predictor = ExportedPredictor(written(tmp_path, channels=1, **two))
    picture = predictor.read(image(tmp_path / "a.png", 20, 30))
    (result,) = predictor.predict([picture], [True], confidence=True)
    second = 1 / (1 + np.exp(-scores_of(picture.image, 1)[0]))
    assert np.array_equal(result.labels, second > 0.3) and 0 < result.labels.mean() < 1
    np.testing.assert_allclose(result.probabilities, [1 - second, second], atol=1e-3)
    chosen = np.where(second > 0.3, second, 1 - second)
    np.testing.assert_allclose(result.confidence, 255 * chosen, atol=0.51)


# what is other than usual -> what is said
REFUSED = {
    "not ours": (dict(made_by=...), "not made by fcn_plugin; export it again"),
    "old": (dict(memory=...), "wrote too little .* export it again"),
    "by the caller": (dict(preprocessing="by the caller"), "without --no-preprocessing"),
    "resize": (dict(left_to_caller=[dict(type="Resize")]), "leaves Resize to the caller"),
    "nameless": (dict(classes=[]), "names no classes"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_file_that_cannot_be_predicted_is_refused(tmp_path, name):
    told, message = REFUSED[name]
    with pytest.raises(UserError, match=message):
        ExportedPredictor(written(tmp_path, **told))


def test_what_a_file_cannot_do_is_said_with_the_remedy(tmp_path, monkeypatch):
    labels = ExportedPredictor(written(tmp_path, output="labels"))
    picture = labels.read(image(tmp_path / "a.png", 20, 30))
    with pytest.raises(UserError, match=r"labels\.onnx: gives labels alone; .*--scores"):
        labels.predict([picture], [False], confidence=True)
    fixed = ExportedPredictor(written(tmp_path, size=(20, 31)))
    with pytest.raises(UserError, match=r"a\.png: 30x20 pixels, and .* takes 31x20 only"):
        fixed.predict([picture], [False])
    (tmp_path / "damaged.onnx").write_bytes(b"damaged")
    for file, backend, message in (
        ("none.onnx", "onnxruntime", "no such file"),
        ("damaged.onnx", "onnxruntime", "cannot load it .* export it again"),
    ):
        with pytest.raises(UserError, match=message):
            ExportedPredictor(tmp_path / file, backend)
    monkeypatch.setattr(runtimes, "import_module", lambda name: exec("raise ImportError"))
    with pytest.raises(UserError, match=r"pip install openvino$"):
        ExportedPredictor(tmp_path / "labels.onnx", "openvino")


def test_a_batch_is_cut_to_what_memory_allows_and_a_picture_refused(tmp_path, monkeypatch):
    predictor = ExportedPredictor(written(tmp_path, output="labels"))
    pictures = [predictor.read(image(tmp_path / f"{i}.png", 40, 50, i)) for i in range(5)]
    expected = predictor.predict(pictures, [False] * 5)
    batches, run = [], predictor.runtime.run
    counted = predictor.runtime._replace(run=lambda b: (batches.append(len(b)), run(b))[1])
    predictor.runtime = counted
    need = 2.25 * 100 * 40 * 50  # HIDDEN, and the scale above
    monkeypatch.setattr("fcn_plugin.system.memory.free_memory", lambda: int(2.5 * need))
    found = predictor.predict(pictures, [False] * 5)
    assert batches == [2, 2, 1]
    for one, other in zip(found, expected, strict=True):
        assert np.array_equal(one.labels, other.labels)
    monkeypatch.setattr("fcn_plugin.system.memory.free_memory", lambda: int(0.9 * need))
    with pytest.raises(UserError, match=r"0\.png: a picture of 50x40 .* with the config"):
        predictor.predict(pictures, [False] * 5)
    large = image(tmp_path / "large.png", 2100, 2100)
    with pytest.raises(UserError, match=r"large\.png: a picture of 2100x2100 .* in windows"):
        predictor.read(large)  # before it is decoded


def test_pictures_are_read_as_the_configs_loader_reads_them(tmp_path):
    from fcn_plugin.data.images import LoadCheckedImage

    pixels = np.random.default_rng(0).integers(0, 256, (37, 41, 3), np.uint8)
    cv2.imwrite(str(tmp_path / "a.jpg"), pixels)
    cv2.imwrite(str(tmp_path / "b.png"), pixels.astype(np.uint16) * 16)
    for name, bits in (("a.jpg", None), ("b.png", 12)):
        expected = LoadCheckedImage(bits=bits).transform(dict(img_path=str(tmp_path / name)))
        assert np.array_equal(PhotoReader(bits, None)(tmp_path / name).image, expected["img"])
    for resizing, factors in (
        (dict(scale=[82, 74], keep_ratio=False), (2.0, 2.0)),
        (dict(scale=[82, 37], keep_ratio=True), (1.0, 1.0)),
        (dict(factor=[0.5, 0.25], keep_ratio=False), (0.5, 0.25)),
    ):
        assert PhotoReader(None, resizing)(pixels).factors == pytest.approx(factors)


def test_an_extra_installs_each_runtime():
    extras = (REPOSITORY / "setup.cfg").read_text().partition("[options.extras_require]")[2]
    for package in runtimes.RUNTIMES:
        assert f"    {package}\n" in extras
