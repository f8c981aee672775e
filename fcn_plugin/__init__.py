"""Fully convolutional networks (FCN-8s and its kin) for MMSegmentation.

Importing the package registers everything in ``mmseg.registry``. A config needs one line::

    custom_imports = dict(imports=["fcn_plugin"], allow_failed_imports=False)

Raises:
    ImportError: MMSegmentation, or what it needs, is absent, too old or too new.
"""

from fcn_plugin import compat
from fcn_plugin.version import __version__ as __version__

compat.prepare()

# mmseg can be imported only from here on, hence E402.
import fcn_plugin.checks  # noqa: E402  # only registration
import fcn_plugin.data.camvid  # noqa: E402  # only registration
import fcn_plugin.data.images  # noqa: E402  # only registration
import fcn_plugin.data.labels  # noqa: E402  # only registration
import fcn_plugin.data.transforms  # noqa: E402  # only registration
import fcn_plugin.engine  # noqa: E402  # only registration
import fcn_plugin.evaluation.metric  # noqa: E402  # only registration
import fcn_plugin.evaluation.pictures  # noqa: E402  # only registration
import fcn_plugin.evaluation.submission  # noqa: E402  # only registration
import fcn_plugin.evaluation.visualizer  # noqa: E402  # only registration
import fcn_plugin.models  # noqa: E402  # only registration
import fcn_plugin.report.hook  # noqa: E402  # only registration
import fcn_plugin.weights.host_loaders  # noqa: E402, F401  # only registration
