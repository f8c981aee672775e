"""Any FCN on VGG scores as its prototxt says; any other text is refused in a line, and soon."""

import time
from random import Random

import mmengine
import networks
import torch
from hypothesis import given
from hypothesis import strategies as st
from mmseg.apis import init_model
from property.amounts import share
from property.damage import damaged, one_line_naming
from weights.caffe_files import write_caffemodel
from weights.caffe_text import CaffeFile, Variant, interpreted

from fcn_plugin.conversion.caffe.described import DescribedConversion
from fcn_plugin.conversion.caffe.network import read_network
from fcn_plugin.errors import UserError

SLOW = 5.0  # seconds
SIZES = st.tuples(st.integers(1, 70), st.integers(1, 70))


def written(variant: Variant) -> tuple[CaffeFile, dict[str, torch.Tensor]]:
    weights = variant.weights(torch.Generator().manual_seed(0))
    file = CaffeFile(weights, variant.channels)
    variant.write(file)
    return file, weights


@share(0.1)
@given(st.integers(0, 2**32), SIZES)
def test_any_variant_scores_as_described(tmp_path, seed, size):
    variant = Variant.drawn(Random(seed))
    file, weights = written(variant)
    (tmp_path / "net.prototxt").write_text(file.text)
    write_caffemodel(tmp_path / "net.caffemodel", file.blobs)
    (tmp_path / "out.py").unlink(missing_ok=True)
    conversion = DescribedConversion(tmp_path / "net.caffemodel", tmp_path / "net.prototxt")
    config = conversion.write(tmp_path / "out.pth")
    cfg = mmengine.Config.fromfile(config)
    model = init_model(cfg, str(tmp_path / "out.pth"), device="cpu").double()
    image = torch.rand(1, variant.channels, *size, dtype=torch.float64) * 255 - 115
    with torch.no_grad():
        found = model(image, mode="tensor")
    expected = interpreted(variant.write, image, weights)
    assert networks.relative_error(found, expected) <= 1e-10


TEXT = written(Variant(("pool4",), (4, 32), depth=11))[0].text
WORDS = sorted(set(TEXT.split()))
LINES = TEXT.splitlines()


@st.composite
def rewritten(draw) -> bytes:
    """The text with words or layers exchanged, left out or given twice."""
    parts, joint = (TEXT.split(), " ") if draw(st.booleans()) else (list(LINES), "\n")
    pool = WORDS if joint == " " else LINES
    for _ in range(draw(st.integers(1, 3))):
        at = draw(st.integers(0, len(parts) - 1))
        parts[at : at + draw(st.integers(0, 1))] = draw(st.lists(st.sampled_from(pool), max_size=1))
    return joint.join(parts).encode()


@given(st.one_of(damaged(st.just(TEXT.encode())), rewritten()))
def test_any_other_text(tmp_path, content):
    path = tmp_path / "net.prototxt"
    path.write_bytes(content)
    begun = time.perf_counter()
    try:
        network = read_network(path)
        assert network.net in ("fcn16s", "fcn32s") and network.num_classes >= 2
    except UserError as error:
        assert one_line_naming(error, path), str(error)
    assert time.perf_counter() - begun < SLOW
