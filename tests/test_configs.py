"""Every config that is shipped: it builds, whole, and the index of mim says of it what is so."""

import re
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from mmcv.transforms import Compose
from mmengine.config import Config
from mmengine.optim import build_optim_wrapper
from mmseg.registry import DATASETS, HOOKS, METRICS, MODELS, VISUALIZERS

from fcn_plugin.data.catalogue import command_for
from fcn_plugin.data.tasks import meta_of
from fcn_plugin.models import SkipFusionHead
from fcn_plugin.prediction.network import image_channels
from fcn_plugin.system.configs import innermost, one_or_many
from fcn_plugin.weights.sources import BERKELEY

REPO = Path(__file__).parents[1]
FOLDER = REPO / "configs"
NAMES = sorted(path.stem for path in FOLDER.glob("*.py"))
# Whose backbones are another package's; without it the rest of the config is built.
FOREIGN = {
    "fcn8s_convnext-t_ade20k": "mmpretrain",
    "fcn8s_efficientnet-b0_voc": "timm",
    "fcn8s_efficientnet-lite0_camvid": "timm",
    "fcn_efficientnet-lite0_camvid": "timm",
    "segformer_efficientnet-lite0_camvid": "timm",
}

INDEX = yaml.safe_load((REPO / "model-index.yml").read_text())
METAFILES = {path: yaml.safe_load((REPO / path).read_text()) for path in INDEX["Import"]}
ENTRIES = [model for file in METAFILES.values() for model in file["Models"]]
ENTRY = {model["Name"]: model for model in ENTRIES}
METRIC_KEYS = ("mIoU", "aAcc", "mAcc", "fwIoU")  # in the order of README's table


@cache
def read(name: str) -> Config:
    """To be read, or copied."""
    return Config.fromfile(FOLDER / f"{name}.py")


@pytest.mark.parametrize("name", NAMES)
def test_builds(name, tmp_path):
    cfg = read(name).copy()
    assert cfg.custom_imports == dict(imports=["fcn_plugin"], allow_failed_imports=False)
    classes = num_classes(cfg)
    for task in cfg.model.get("task_heads", ()):
        assert num_classes(cfg, task) > 1
    metadata = ENTRY[name]["Metadata"]
    assert metadata.get("Needs") == FOREIGN.get(name)
    if is_installed(FOREIGN.get(name, "torch")):
        model, scores = model_and_scores(cfg.model)
        assert scores.shape[:2] == (1, classes)
        assert metadata["Parameters"] == sum(weight.numel() for weight in model.parameters())
        if isinstance(model.decode_head, SkipFusionHead):  # of the image, or of the finest level
            assert scores.shape[2:] in {(96, 128), (12, 16)}
        build_optim_wrapper(model, cfg.optim_wrapper)
    for evaluator in (*one_or_many(cfg.val_evaluator), *one_or_many(cfg.test_evaluator)):
        METRICS.build(evaluator)
        assert evaluator.get("task") in (None, *cfg.model.get("task_heads", ()))
    assert MODELS.get(cfg.tta_model.type)
    VISUALIZERS.build(dict(cfg.visualizer, name=name, save_dir=str(tmp_path)))
    for hook in (*cfg.custom_hooks, *cfg.default_hooks.values()):
        HOOKS.build(hook)
    for pipeline in (*(dataset.pipeline for dataset in datasets(cfg)), cfg.tta_pipeline):
        Compose(pipeline)


def is_installed(package: str) -> bool:
    """Whether it imports: mmpretrain and timm do not beside a torchvision of another build."""
    try:
        import_module(package)
    except (ImportError, RuntimeError):
        return False
    return True


def model_and_scores(config: dict) -> tuple[torch.nn.Module, torch.Tensor]:
    """Of one image; without memory for VGG16's 134 million parameters where that is possible."""
    if config.backbone.type == "TIMMBackbone":
        config.backbone.pretrained = False  # it would be fetched
    ours = config.backbone.type.startswith(("Convolutionalized", "Streams"))
    with torch.device("meta" if ours else "cpu"), torch.no_grad():
        model = MODELS.build(config).eval()
        return model, model(torch.zeros(1, image_channels(model), 96, 128), mode="tensor")


def datasets(cfg: Config) -> list[dict]:
    loaders = (cfg.train_dataloader, cfg.val_dataloader, cfg.test_dataloader)
    return [dataset for loader in loaders for dataset in innermost(loader.dataset)]


def num_classes(cfg: Config, task: str | None = None) -> int:
    """As the data sets have it, which the label loaders and the heads must agree with."""
    heads = one_or_many(cfg.model.decode_head if task is None else cfg.model.task_heads[task])
    counts = {head.num_classes for head in heads}
    for dataset in datasets(cfg):
        meta = dataset.get("metainfo") or DATASETS.get(dataset.type).METAINFO
        counts.add(len(meta_of(meta, task)["classes"]))
        loaders = [step for step in dataset.pipeline if "num_classes" in step]
        counts |= {step["num_classes"] for step in loaders if step.get("task") == task}
    (count,) = counts
    return count


# --- the index ----------------------------------------------------------------------------------


def facts(name: str) -> dict[str, Any]:
    """What a config itself says of the entries of Metadata."""
    cfg = read(name)
    pipeline = innermost(cfg.train_dataloader.dataset)[0].pipeline
    sizes = [step["crop_size"] for step in pipeline if "crop_size" in step]
    accumulated = cfg.optim_wrapper.get("accumulative_counts", 1)
    return {
        "Architecture": [
            cfg.model.backbone.type,
            *(head.type for head in one_or_many(cfg.model.decode_head)),
        ],
        "Batch Size": cfg.train_dataloader.batch_size * accumulated,
        "Crop Size": "x".join(map(str, sizes[0])) if sizes else "whole images",
        "Iterations": cfg.train_cfg.max_iters,
        "Starts From": weights_before(name, cfg.model.backbone),
        "Data Sets": ", ".join(data_sets(cfg)),
    }


def data_sets(cfg: Config) -> list[str]:
    """Of prepare_data, in the order in which the training and then the scoring reads them."""
    names: dict[str, None] = {}
    for dataset in datasets(cfg):
        command = command_for(Path(dataset.data_root), dataset.get("ann_file", ""))
        names |= dict.fromkeys(re.findall(r"prepare_data ([\w-]+)", command))
    return list(names)


def weights_before(name: str, backbone: dict) -> str:
    if backbone.type == "Streams":
        return "FCN-32s"
    if "checkpoint" in (backbone.get("init_cfg") or {}) or backbone.get("pretrained"):
        return "ImageNet"
    stages = dict(fcn16s="FCN-32s", fcn8s="FCN-16s") if name.endswith("-heavy") else {}
    return stages.get(name.partition("_")[0], "nothing")


@pytest.mark.parametrize("name", NAMES)
def test_no_setting_of_norms_or_biases_is_for_one_part_only(name):
    """mmengine skips it for all that custom_keys match, such as the whole backbone."""
    settings = read(name).optim_wrapper.get("paramwise_cfg") or {}
    if "backbone" in settings.get("custom_keys", {}):
        assert settings.keys() == {"custom_keys"}


def test_every_metafile_and_config_is_in_the_index_once():
    """What to add for a config is in ``facts``: print(facts(NAME))."""
    there = sorted(str(path.relative_to(REPO)) for path in REPO.glob("configs/**/metafile.yml"))
    assert len(there) >= 7 and sorted(METAFILES) == there
    assert sorted(model["Name"] for model in ENTRIES) == NAMES
    assert sum("Weights" in model for model in ENTRIES) == 14


@pytest.mark.parametrize("name", NAMES)
def test_the_index_says_what_the_config_says(name):
    entry, metadata, stated = ENTRY[name], ENTRY[name]["Metadata"], facts(name)
    assert entry["Config"] == f"configs/{name}.py"
    assert name == name.lower()  # mim looks configs up in small letters
    assert {key: metadata[key] for key in stated} == stated
    # Figures and weights that others published are no results of ours.
    assert "Results" not in entry or not {"Published", "Weights"} & {*metadata, *entry}
    if "Weights" in entry:
        assert re.fullmatch(rf"{BERKELEY}/[\w-]+\.caffemodel", entry["Weights"])
    head = (FOLDER / f"{name}.py").read_text().split('"""')[1]
    if score := re.search(r"(?:Published|Others report):? (\d\d\.\d+) mean IU", head):
        assert f"mean IU {score[1]}" in " ".join(metadata["Published"])


def test_results_are_those_that_readme_has_measured():
    text = (REPO / "README.md").read_text().partition("## Results")[2].partition("\n## ")[0]
    row = re.compile(
        r"^\| `(\w[\w-]*)\.py` \|.*?\|((?: [\d.]+(?: \[[\d., ]+\])? \|){4})$", re.MULTILINE
    )
    measured = {
        name: [float(cell.split()[0]) for cell in rest.split(" |")[:-1]]
        for name, rest in row.findall(text)
    }
    stated = {}
    for model in ENTRIES:
        if "Results" in model:
            (result,) = model["Results"]
            stated[model["Name"]] = [result["Metrics"][key] for key in METRIC_KEYS]
            assert {"Command", "Training Resources"} <= set(model["Metadata"])
    assert len(stated) >= 2
    assert stated == measured
