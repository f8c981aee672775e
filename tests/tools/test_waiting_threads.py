"""The tools' threads sleep while they wait, unless the user has chosen otherwise."""

import json
import os
import subprocess
import sys

import pytest
from tools.running import TOOLS

NAMES = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT")
UNSET = {name: value for name, value in os.environ.items() if name not in NAMES}
SHOW = (
    "import json, os, sys; "
    f"print(json.dumps([*map(os.environ.get, {NAMES}), 'torch' in sys.modules]))"
)
CASES = [
    ({}, ["PASSIVE", "0"]),
    ({"OMP_WAIT_POLICY": "ACTIVE"}, ["ACTIVE", None]),
    ({"GOMP_SPINCOUNT": "1000"}, [None, "1000"]),
]


COMMANDS = {
    "a tool": [sys.executable, "-c", f"import common; {SHOW}"],
    # In place of the Python that make would set up, one that shows its environment.
    "make": ["make", "-s", "-C", "..", "lint", "READY=", f'RUN={sys.executable} -c "{SHOW}" #'],
}


@pytest.mark.parametrize("command", COMMANDS.values(), ids=COMMANDS)
@pytest.mark.parametrize(("chosen", "expected"), CASES)
def test_set_before_torch_loads(chosen, expected, command):
    shown = subprocess.check_output(command, env=UNSET | chosen, cwd=TOOLS, text=True)
    assert json.loads(shown.splitlines()[0]) == [*expected, False]
