"""``python -m fcn_plugin TOOL ...``: the command ``fcn-plugin`` where its script is not found."""

import sys

from fcn_plugin_command import main

if __name__ == "__main__":
    if not hasattr(sys.modules["fcn_plugin"], "__version__"):
        del sys.modules["fcn_plugin"]  # bare, see there; a tool imports it whole
    main()
