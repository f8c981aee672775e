"""Every backbone under our head and every head on our backbones, for benchmarks/pairs.py."""

import fcn_plugin  # noqa: F401  # mmseg can be imported from here on
