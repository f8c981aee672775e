"""Every config that is shipped builds, whole: model, pipelines, metrics, optimizer."""

from importlib import import_module
from pathlib import Path

import pytest
import torch
from mmcv.transforms import Compose
from mmengine.config import Config
from mmengine.optim import build_optim_wrapper
from mmseg.registry import DATASETS, HOOKS, METRICS, MODELS, VISUALIZERS

from fcn_plugin.models import SkipFusionHead

FOLDER = Path(__file__).parents[1] / "configs"
CONFIGS = sorted(FOLDER.glob("*.py"))
PROMISED = {
    "fcn8s_vgg16_voc",
    "fcn16s_vgg16_voc",
    "fcn32s_vgg16_voc",
    "fcn8s_vgg16_voc-train",
    "fcn8s_vgg16_ade20k",
    "fcn8s_vgg16_camvid",
    "fcn8s_vgg16-bn_camvid-scratch",
    "fcn8s_vgg16-bn_camvid-scratch-half",
    "fcn8s_vgg16_shapes",
    "fcn8s_vgg16_voc2011",
    "fcn16s_vgg16_voc2011",
    "fcn32s_vgg16_voc2011",
    "fcn32s_vgg16_voc2011-heavy",
    "fcn16s_vgg16_voc2011-heavy",
    "fcn8s_vgg16_voc2011-heavy",
    "fcn8s-atonce_vgg16_voc2011-heavy",
    "fcn32s_alexnet_voc2011",
    "fcn32s_googlenet_voc2011",
    "fcn32s_vgg16_pascal-context-heavy",
    "fcn16s_vgg16_pascal-context-heavy",
    "fcn8s_vgg16_pascal-context-heavy",
    "fcn8s_vgg16_pascal-context",
    "fcn8s_vgg16_pascal-context59",
    "fcn8s_r50_voc",
    "fcn8s_r50-d8_voc",
    "fcn8s_mobilenet-v2_voc",
    "fcn8s_hrnet-w18_voc",
    "fcn8s_efficientnet-b0_voc",
    "fcn8s_swin-t_ade20k",
    "fcn8s_convnext-t_ade20k",
    "fcn8s_mit-b0_ade20k",
    "fcn8s_mscan-t_ade20k",
    "fcn8s_pcpvt-s_ade20k",
    "fcn8s_vit-b16_ade20k",
    "psp_vgg16_voc",
    "deeplabv3_vgg16_voc",
    "ocr_vgg16_voc",
    "uper_vgg16_ade20k",
    "segformer_vgg16_ade20k",
}
# Whose backbones are another package's; without it the rest of the config is built.
FOREIGN = {"fcn8s_convnext-t_ade20k": "mmpretrain", "fcn8s_efficientnet-b0_voc": "timm"}


def test_the_promised_configs_are_there():
    assert {path.stem for path in CONFIGS} == PROMISED


def test_every_base_file_is_used():
    used = {Path(line).resolve() for path in CONFIGS for line in _text(path) if ".py" in line}
    bases = set((FOLDER / "_base_").rglob("*.py"))
    assert len(bases) >= 8
    # Those of the configs that prepare_data.py own writes.
    own = ("datasets/own.py", "models/fcn8s_vgg16-bn_narrow.py")
    assert bases - used == {FOLDER / "_base_" / name for name in own}


def _text(path: Path) -> list[str]:
    """The config and all its bases, each headed by a line with its path."""
    return Config.fromfile(path).text.splitlines()


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_builds(path, tmp_path):
    cfg = Config.fromfile(path)
    assert cfg.custom_imports == dict(imports=["fcn_plugin"], allow_failed_imports=False)
    classes = _num_classes(cfg)
    if _at_hand(FOREIGN.get(path.stem)):
        model, scores = _model_and_scores(cfg.model)
        assert scores.shape[:2] == (1, classes)
        if isinstance(model.decode_head, SkipFusionHead):
            # Of the image, or of the finest level.
            assert scores.shape[2:] in {(96, 128), (12, 16)}
        build_optim_wrapper(model, cfg.optim_wrapper)
    METRICS.build(cfg.val_evaluator)
    METRICS.build(cfg.test_evaluator)
    assert MODELS.get(cfg.tta_model.type)
    VISUALIZERS.build(dict(cfg.visualizer, name=path.stem, save_dir=str(tmp_path)))
    for hook in (*cfg.custom_hooks, *cfg.default_hooks.values()):
        HOOKS.build(hook)
    for pipeline in (*_pipelines(cfg), cfg.tta_pipeline):
        Compose(pipeline)


def _at_hand(package: str | None) -> bool:
    """Whether it imports: mmpretrain and timm do not beside a torchvision of another build."""
    try:
        import_module(package or "torch")
    except (ImportError, RuntimeError):
        return False
    return True


def _model_and_scores(config: dict) -> tuple[torch.nn.Module, torch.Tensor]:
    """Of one image; without memory for VGG16's 134 million parameters where that is possible."""
    if config.backbone.type == "TIMMBackbone":
        config.backbone.pretrained = False  # it would be fetched
    if config.get("neck"):
        config.backbone.num_layers, config.backbone.out_indices = 3, (0, 1, 2)
    ours = config.backbone.type.startswith("Convolutionalized")
    with torch.device("meta" if ours else "cpu"), torch.no_grad():
        model = MODELS.build(config).eval()
        return model, model(torch.zeros(1, 3, 96, 128), mode="tensor")


def _datasets(node) -> list[dict]:
    if isinstance(node, dict):
        found = [node] if "pipeline" in node else []
        return found + [inner for child in node.values() for inner in _datasets(child)]
    if isinstance(node, list):
        return [inner for child in node for inner in _datasets(child)]
    return []


def _all_datasets(cfg) -> list[dict]:
    loaders = (cfg.train_dataloader, cfg.val_dataloader, cfg.test_dataloader)
    found = [dataset for loader in loaders for dataset in _datasets(loader.dataset)]
    assert len(found) >= 3
    return found


def _pipelines(cfg) -> list:
    return [dataset.pipeline for dataset in _all_datasets(cfg)]


def _num_classes(cfg) -> int:
    """As the data sets have it, which the label loaders and the head must agree with."""
    counts = set()
    for dataset in _all_datasets(cfg):
        kind = DATASETS.get(dataset.type)
        meta = dataset.get("metainfo") or kind.METAINFO
        counts.add(len(meta["classes"]))
        counts |= {step["num_classes"] for step in dataset.pipeline if "num_classes" in step}
    heads = cfg.model.decode_head
    counts |= {head.num_classes for head in (heads if isinstance(heads, list) else [heads])}
    assert len(counts) == 1
    return counts.pop()
