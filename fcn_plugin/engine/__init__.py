"""What the host's runner lacks."""

from fcn_plugin.engine.bad_numbers import BadNumbersHook
from fcn_plugin.engine.buffers import SameBuffersHook
from fcn_plugin.engine.compiling import CompileHook
from fcn_plugin.engine.cpu import BFloat16OptimWrapper
from fcn_plugin.engine.data_check import DataCheckHook
from fcn_plugin.engine.input_check import InputCheckHook
from fcn_plugin.engine.pictures import PicturesHook
from fcn_plugin.engine.resuming import ScoreResumedHook
from fcn_plugin.engine.sampling import ReplacementSampler
from fcn_plugin.engine.schedule_check import ScheduleCheckHook
from fcn_plugin.engine.snapshots import SnapshotHook
from fcn_plugin.engine.train_loop import ExactTrainLoop

__all__ = [
    "BFloat16OptimWrapper",
    "BadNumbersHook",
    "CompileHook",
    "DataCheckHook",
    "ExactTrainLoop",
    "InputCheckHook",
    "PicturesHook",
    "ReplacementSampler",
    "SameBuffersHook",
    "ScheduleCheckHook",
    "ScoreResumedHook",
    "SnapshotHook",
]
