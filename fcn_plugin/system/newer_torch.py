"""What a newer PyTorch is needed for than the package as a whole."""

import torch

from fcn_plugin.errors import UserError

LEAST = "2.13"


def need_newer_torch(purpose: str) -> None:
    """Raise ``UserError`` if torch is older than the oldest that was found to do for ``purpose``.

    PyTorch 2.10 trains and predicts, but neither compiles nor exports a network whose geometry is
    in fractions; 2.11 and 2.12 were not tried.
    """
    if torch.__version__ < LEAST:
        raise UserError(
            f"{purpose} needs torch {LEAST}, not {torch.__version__}; pip install 'torch>={LEAST}'"
        )
