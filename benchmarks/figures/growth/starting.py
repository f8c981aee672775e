"""The start of commands and imports, against that of Python itself."""

import json
import subprocess
import sys
from pathlib import Path

from figures.growth.curve import Curve

COMMAND = str(Path(__file__).parents[3] / "fcn_plugin_command.py")
COMMANDS = {
    "python": ("-c", "pass"),
    "fcn-plugin --help": (COMMAND, "--help"),
    "fcn-plugin score --help": (COMMAND, "score", "--help"),
    "import mmseg": ("-c", "import mmseg"),
    "import fcn_plugin": ("-c", "import fcn_plugin"),
}
# A process of its own that is small: the peak of one that a large one starts includes the latter's.
TIMED = """
import json, resource, subprocess, sys, time
for _ in range(2):  # the first reads files from the disk
    start = time.perf_counter()
    subprocess.run(sys.argv[1:], stdout=subprocess.DEVNULL, check=True)
    seconds = time.perf_counter() - start
print(json.dumps([seconds, 1024 * resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss]))
"""


def start(name: str) -> tuple[float, int]:
    command = [sys.executable, "-c", TIMED, sys.executable, *COMMANDS[name]]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    seconds, memory = json.loads(done.stdout)
    return seconds, memory


CURVES = [Curve("start", "start", "", (*COMMANDS,), reading=start)]
