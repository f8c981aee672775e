"""Find what would stop or spoil a run later, before its first iteration."""

from fcn_plugin.checks.hook import DataCheckHook
from fcn_plugin.checks.input import InputCheckHook
from fcn_plugin.checks.run import ScheduleCheckHook

__all__ = ["DataCheckHook", "InputCheckHook", "ScheduleCheckHook"]
