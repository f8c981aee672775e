"""What tools/pairs.py tries: every backbone under our head, and every head on our backbones."""

import fcn_plugin  # noqa: F401  # makes the host importable, whichever module comes first
