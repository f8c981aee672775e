"""Hooks, a training loop and an order of images that mmengine's runner lacks."""

from fcn_plugin.engine.bad_numbers import BadNumbersHook
from fcn_plugin.engine.compiling import CompileHook
from fcn_plugin.engine.order import PlacedBatches, PlacedDataset, ReplacementSampler
from fcn_plugin.engine.processes import BFloat16OptimWrapper, SameBuffersHook
from fcn_plugin.engine.progress import ProgressHook
from fcn_plugin.engine.resuming import ScoreResumedHook
from fcn_plugin.engine.runner import BriefRunner, bare_model
from fcn_plugin.engine.snapshots import SnapshotHook
from fcn_plugin.engine.stopping import LastingPatienceHook
from fcn_plugin.engine.trackers import ClearMLVisBackend, MLflowVisBackend, WandbVisBackend
from fcn_plugin.engine.tracking import TrackingHook
from fcn_plugin.engine.train_loop import ExactTrainLoop

__all__ = [
    "BFloat16OptimWrapper",
    "BadNumbersHook",
    "BriefRunner",
    "ClearMLVisBackend",
    "CompileHook",
    "ExactTrainLoop",
    "LastingPatienceHook",
    "MLflowVisBackend",
    "PlacedBatches",
    "PlacedDataset",
    "ProgressHook",
    "ReplacementSampler",
    "SameBuffersHook",
    "ScoreResumedHook",
    "SnapshotHook",
    "TrackingHook",
    "WandbVisBackend",
    "bare_model",
]
