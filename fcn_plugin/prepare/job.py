"""What is asked for when a data set is prepared, and what of it is there."""

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import NamedTuple

from fcn_plugin.data.catalogue import DATA_SETS, DataSet, Part, Split
from fcn_plugin.prepare.tree_check import faults_of, is_there
from fcn_plugin.system.progress import Progress, silent

DEFAULT_ROOT = Path("data")


class Preparation(NamedTuple):
    """What is asked for."""

    root: Path  # of all data sets
    name: str
    subset: bool  # a part of the set is enough: no published numbers and hashes
    note: Callable[[str], None]  # told what the user should know and cannot see
    progress: Progress = silent

    @property
    def data_set(self) -> DataSet:
        return DATA_SETS[self.name]

    @property
    def folder(self) -> Path:
        return self.root / self.data_set.folder

    @property
    def at_root(self) -> str:
        """The option for the root, for a command to run next."""
        return "" if self.root == DEFAULT_ROOT else f" --root {self.root}"

    def has(self, part: Part) -> bool:
        """Whether all that an archive brings is in place, or all that is made of it."""
        if not self.folder.is_dir():
            return False
        made = [split for split in self.data_set.derived if not split.optional]
        if made and not self.faults(made):
            return True
        needed = [
            split
            for split in part.splits
            if part.optional or not split.optional or is_there(self.folder, split)
        ]
        return not self.faults(needed)

    def faults(self, splits: Iterable[Split]) -> list[str]:
        """What is wrong with some of the data set's splits."""
        return faults_of(self.folder, splits, self.subset)
