"""The options for preparing a data set, and which parts of it are in place already."""

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import NamedTuple

from fcn_plugin.data.catalogue import DATA_SETS, DataSet, Part, Split
from fcn_plugin.prepare.tree_check import faults_of, is_there
from fcn_plugin.system.progress import Progress, silent

DEFAULT_ROOT = Path("data")


class Preparation(NamedTuple):
    """The options of one run."""

    root: Path  # of all data sets
    name: str
    subset: bool  # a part of the set is enough: no published numbers and hashes
    note: Callable[[str], None]  # called with each line that the user should read
    progress: Progress = silent

    @property
    def data_set(self) -> DataSet:
        return DATA_SETS[self.name]

    @property
    def folder(self) -> Path:
        return self.root / self.data_set.folder

    @property
    def at_root(self) -> str:
        """The option ``--root`` for the user's next command; empty for the default root."""
        return "" if self.root == DEFAULT_ROOT else f" --root {self.root}"

    def has(self, part: Part) -> bool:
        """Whether all files of an archive are in place, or all splits derived from them."""
        if not self.folder.is_dir():
            return False
        derived = [split for split in self.data_set.derived if not split.optional]
        if derived and not self.faults(derived):
            return True
        needed = [
            split
            for split in part.splits
            if part.optional or not split.optional or is_there(self.folder, split)
        ]
        return not self.faults(needed)

    def faults(self, splits: Iterable[Split]) -> list[str]:
        """The faults of some of the data set's splits, in words."""
        return faults_of(self.folder, splits, self.subset)
