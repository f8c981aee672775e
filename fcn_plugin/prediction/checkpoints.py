"""Which checkpoint is meant by a file or a work dir."""

import sys
from pathlib import Path

from fcn_plugin.engine.resuming import checkpoints_of
from fcn_plugin.errors import UserError
from fcn_plugin.weights.files import check_checkpoint


def find_checkpoint(path: Path) -> Path:
    """``path`` itself, or of a work dir the newest best checkpoint that is whole, else the last.

    Raises:
        UserError: there is none, or the file is damaged.
    """
    if not path.is_dir():
        check_checkpoint(path)
        return path
    found = sorted(path.glob("best_*.pth"), key=lambda file: -file.stat().st_mtime)
    for file in (*found, *checkpoints_of(path)):
        try:
            check_checkpoint(file)
            return file
        except UserError as error:
            print(f"warning: passed over, {error}", file=sys.stderr)
    raise UserError(f"{path}: no checkpoint there; train one first with tools/train.py")
