"""The model index that mim and mmengine read: every config once, and nothing but what is so."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from mmengine.config import Config

from fcn_plugin.weights.sources import BERKELEY

REPO = Path(__file__).parents[1]
INDEX = yaml.safe_load((REPO / "model-index.yml").read_text())
METAFILES = {path: yaml.safe_load((REPO / path).read_text()) for path in INDEX["Import"]}
MODELS = [model for file in METAFILES.values() for model in file["Models"]]
CONFIGS = sorted(path.stem for path in (REPO / "configs").glob("*.py"))
METRICS = ("mIoU", "aAcc", "mAcc", "fwIoU")  # in the order of README's table


def by_name(models: list[dict]) -> dict[str, dict]:
    return {model["Name"]: model for model in models}


def of_pipeline(dataset: Config) -> str:
    """The size of the crops that a data set's pipeline makes."""
    while "pipeline" not in dataset:
        dataset = dataset["datasets"][0] if "datasets" in dataset else dataset["dataset"]
    sizes = [step["crop_size"] for step in dataset["pipeline"] if "crop_size" in step]
    return "x".join(map(str, sizes[0])) if sizes else "whole images"


def facts(name: str) -> dict[str, Any]:
    """What a config itself says of the entries of Metadata."""
    cfg = Config.fromfile(REPO / "configs" / f"{name}.py")
    heads = cfg.model.decode_head
    heads = heads if isinstance(heads, list | tuple) else [heads]
    steps = cfg.optim_wrapper.get("accumulative_counts", 1)
    return {
        "Architecture": [cfg.model.backbone.type, *(head.type for head in heads)],
        "Batch Size": cfg.train_dataloader.batch_size * steps,
        "Crop Size": of_pipeline(cfg.train_dataloader.dataset),
        "Iterations": cfg.train_cfg.max_iters,
    }


def test_the_index_has_every_metafile():
    there = sorted(str(path.relative_to(REPO)) for path in REPO.glob("configs/**/metafile.yml"))
    assert len(there) >= 7
    assert sorted(METAFILES) == there


def test_every_config_is_in_one_of_them():
    """What to add for a config is in ``facts``: print(facts(NAME))."""
    assert len(CONFIGS) > 20
    assert sorted(model["Name"] for model in MODELS) == CONFIGS


@pytest.mark.parametrize("path", METAFILES)
def test_models_are_of_their_files_collection(path):
    (collection,) = METAFILES[path]["Collections"]
    assert collection["Paper"] == "https://arxiv.org/abs/1411.4038"
    assert METAFILES[path]["Models"]
    for model in METAFILES[path]["Models"]:
        assert model["In Collection"] == collection["Name"]
        assert model["Config"] == f"configs/{model['Name']}.py"
        # mim looks configs up in small letters.
        assert model["Name"] == model["Name"].lower()


@pytest.mark.parametrize("name", CONFIGS)
def test_metadata_are_the_configs(name):
    metadata = by_name(MODELS)[name]["Metadata"]
    stated = facts(name)
    assert {key: metadata[key] for key in stated} == stated
    assert metadata["Training Data"]


def measured() -> dict[str, list[float]]:
    """The rows of README's table of results."""
    text = (REPO / "README.md").read_text()
    rows = re.findall(
        r"^\| `(\w[\w-]*)\.py` \|.*?\|((?: [\d.]+ \|){4})$",
        text.partition("## Results")[2].partition("\n## ")[0],
        re.MULTILINE,
    )
    return {name: [float(score) for score in re.findall(r"[\d.]+", rest)] for name, rest in rows}


def test_results_are_those_that_readme_has_measured():
    found = {
        model["Name"]: [model["Results"][0]["Metrics"][key] for key in METRICS]
        for model in MODELS
        if "Results" in model
    }
    assert len(found) >= 2
    assert found == measured()
    for name in found:
        assert len(by_name(MODELS)[name]["Results"]) == 1
        assert {"Command", "Training Resources"} <= set(by_name(MODELS)[name]["Metadata"])


def test_published_figures_are_no_results():
    """Text that says whose they are, beside a config that was not run here."""
    others = [model for model in MODELS if "Published" in model["Metadata"]]
    assert len(others) >= 11
    for model in others:
        assert "Results" not in model
        for line in model["Metadata"]["Published"]:
            assert re.match(r".+, .+: mean IU \d\d\.\d", line), line


def test_the_configs_docstrings_say_the_same():
    """Where one names the released weights' score, so does the metafile."""
    compared = 0
    for name, model in by_name(MODELS).items():
        head = (REPO / "configs" / f"{name}.py").read_text().split('"""')[1]
        if score := re.search(r"(?:Published|Others report):? (\d\d\.\d+) mean IU", head):
            assert f"mean IU {score[1]}" in " ".join(model["Metadata"]["Published"]), name
            compared += 1
    assert compared >= 8


def test_weights_are_the_published_ones_alone():
    weights = {model["Name"]: model["Weights"] for model in MODELS if "Weights" in model}
    assert len(weights) == 8
    for name, url in weights.items():
        assert re.fullmatch(rf"{BERKELEY}/[\w-]+\.caffemodel", url)
        assert name.endswith("heavy") or "alexnet" in name
        assert "Results" not in by_name(MODELS)[name]


def test_what_mim_makes_of_them_has_no_gaps():
    """mim joins lists as texts and finds no column of a nested table."""
    for model in MODELS:
        for value in model["Metadata"].values():
            assert isinstance(value, str | int) or all(isinstance(text, str) for text in value)
