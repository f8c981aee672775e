"""Fully convolutional networks (FCN-8s and its kin) for MMSegmentation.

Importing the package registers everything in ``mmseg.registry``. A config needs one line::

    custom_imports = dict(imports=["fcn_plugin"], allow_failed_imports=False)

Raises:
    ImportError: MMSegmentation, or what it needs, is absent, too old or too new.
"""

import re
import sys

# For ``python -m fcn_plugin`` Python imports the package before ``__main__``, and shows "-m" as
# the first word until then. It stays bare, so that --help answers at once and a tool imports torch
# only after it has set OpenMP's variables.
_runs_itself = sys.argv[:1] == ["-m"] and re.fullmatch(
    "(-[A-Za-z]*m)?fcn_plugin", sys.orig_argv[-len(sys.argv)]
)
if not _runs_itself:
    from fcn_plugin import compat
    from fcn_plugin.version import __version__ as __version__

    compat.prepare()

    # mmseg can be imported only from here on.
    import fcn_plugin.checks  # only registration
    import fcn_plugin.data.bands  # only registration
    import fcn_plugin.data.camvid  # only registration
    import fcn_plugin.data.images  # only registration
    import fcn_plugin.data.labels  # only registration
    import fcn_plugin.data.nyud  # only registration
    import fcn_plugin.data.side_by_side  # only registration
    import fcn_plugin.data.siftflow  # only registration
    import fcn_plugin.data.transforms  # only registration
    import fcn_plugin.engine  # only registration
    import fcn_plugin.evaluation.metric  # only registration
    import fcn_plugin.evaluation.pictures  # only registration
    import fcn_plugin.evaluation.submission  # only registration
    import fcn_plugin.evaluation.visualizer  # only registration
    import fcn_plugin.models  # only registration
    import fcn_plugin.report.hook  # only registration
    import fcn_plugin.weights.host_loaders  # only registration
    import fcn_plugin.weights.timm_backbone  # noqa: F401  # only registration
