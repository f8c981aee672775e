"""Follow a page of the documentation as a reader does: all its blocks in order, in one folder.

    ```shell     each command is run; tools are forks of a process that has imported the host
    ```python    executed, names kept for the rest of the page; a block that begins with the comment
                 "# NAME.py" is a file of that name and is written, for commands to use
    ```text      what the block before puts out, with "..." for what differs from run to run

``small.py`` says what is run in small and what is not run at all. Once something was, the numbers
in the output of commands may be others, the words not. A block of another kind is an error.
"""

import contextlib
import io
import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import NamedTuple

from docs.small import LEFT_OUT, LESS
from tools.running import ENVIRONMENT, PATIENCE, REPOSITORY, tool

FENCE = "```"
SHELL_OPERATOR = re.compile(r"[|&;<>]|^\w+=")
FILE = re.compile(r"# ([\w./-]+\.py)\b")
NUMBER = re.compile(r"\d+([.,]\d+)*")
RULE = re.compile(r"[-+=]{3,}")  # of a table, as wide as its numbers


class Block(NamedTuple):
    """``language`` is what stands behind the fence; ``line`` is that of the fence, from 1."""

    page: Path
    line: int
    language: str
    text: str

    def __str__(self) -> str:
        return f"{self.page.name}:{self.line}"


def blocks(page: Path) -> list[Block]:
    """All of a page, in order. Fences are three backticks at the beginning of a line."""
    found: list[Block] = []
    inside = False
    for number, line in enumerate(page.read_text().splitlines(), start=1):
        if line.lstrip().startswith(FENCE):
            assert line.startswith(FENCE), f"{page.name}:{number}: an indented fence is not seen"
            inside = not inside
            if inside:
                found.append(Block(page, number, line.removeprefix(FENCE).strip(), ""))
            else:
                assert line == FENCE, f"{page.name}:{number}: the block before is not closed"
        elif inside:
            found[-1] = found[-1]._replace(text=f"{found[-1].text}{line}\n")
    assert not inside, f"{page.name}: the last block is not closed"
    return found


def commands(text: str) -> list[str]:
    """Of a shell block: continued lines joined, comments and empty lines left out."""
    lines = text.replace("\\\n", " ").splitlines()
    bare = (re.sub(r"(^|\s)#\s.*", "", line) for line in lines)
    return [" ".join(line.split()) for line in bare if line.strip()]


class Walk:
    """One page in a folder that has ``configs`` and ``tools``; ``less``: what is small is so."""

    def __init__(self, page: Path, folder: Path, less: bool = True) -> None:
        self.page, self.folder, self.less = page, folder, less
        self.names: dict[str, object] = dict(__name__="__main__")
        self.output = ""  # of the block before
        self.exact = True  # whether its numbers are those of the page
        self.in_small = False  # anything so far
        self.code = ""  # all Python so far

    def follow(self) -> None:
        """Run, write or compare all its blocks."""
        kinds = dict(shell=self._shell, python=self._python, text=self._text)
        before = Path.cwd()
        os.chdir(self.folder)
        try:
            for block in blocks(self.page):
                if block.language.startswith("{"):  # a directive of Sphinx
                    continue
                assert block.language in kinds, f"{block}: ```{block.language} is of no known kind"
                kinds[block.language](block)
        finally:
            os.chdir(before)

    def _shell(self, block: Block) -> None:
        self.output = ""
        for command in commands(block.text):
            if first(LEFT_OUT, command):
                continue
            smaller = in_small(command) if self.less else command
            self.in_small |= smaller != command
            done = run(smaller, self.folder)
            told = (done.stdout + done.stderr)[-3000:]
            assert done.returncode == 0, f"{block}: {smaller}\n{told}"
            self.output += done.stdout
        self.exact = not self.in_small

    def _python(self, block: Block) -> None:
        text = block.text
        if name := FILE.match(text):
            (self.folder / name[1]).parent.mkdir(parents=True, exist_ok=True)
            (self.folder / name[1]).write_text(text)
            return
        self.code += text
        _check_imports(block, self.code)
        # So that a traceback names the line of the page.
        code = compile("\n" * block.line + text, str(block.page), "exec")
        with contextlib.redirect_stdout(io.StringIO()) as output:
            exec(code, self.names)
        self.output, self.exact = output.getvalue(), True

    def _text(self, block: Block) -> None:
        assert shows(block.text, self.output, self.exact), (
            f"{block}: expected\n{block.text}\nfound\n{self.output[-3000:]}"
        )


def in_small(command: str) -> str:
    """What is run in place of a command."""
    row = first(LESS, command)
    return LESS[row](command) if row else command


def first(table: dict, command: str) -> str | None:
    """The first key of a table, a regular expression, that is found in a command."""
    return next((pattern for pattern in table if re.search(pattern, command)), None)


def run(command: str, folder: Path) -> subprocess.CompletedProcess:
    """A command as a shell in ``folder`` runs it, ``python`` being the tests' own."""
    if not SHELL_OPERATOR.search(command):
        split = _bash(f"printf '%s\\0' {command}", folder)
        match split.stdout.split("\0")[:-1]:
            case ["python", path, *words] if path.startswith("tools/"):
                return tool(path.removeprefix("tools/"), *words, folder=folder)
    return _bash(command, folder)


def _bash(command: str, folder: Path) -> subprocess.CompletedProcess:
    # python is that of PYTHON, wherever that lies.
    start = f'python() {{ "{ENVIRONMENT["PYTHON"]}" "$@"; }}; set -o pipefail; '
    how = dict(cwd=folder, env=os.environ | ENVIRONMENT, timeout=PATIENCE)
    return subprocess.run(["bash", "-c", start + command], capture_output=True, text=True, **how)


def shows(expected: str, found: str, exact: bool = True) -> bool:
    """Whether an output is as a page shows it; if not ``exact``, but for its numbers.

    "..." stands for anything, in a line of its own for any lines or none. How wide a gap is does
    not matter.
    """
    if not exact:
        expected, found = (RULE.sub("---", NUMBER.sub("0", text)) for text in (expected, found))
    pattern = "".join(
        "(.*\n)?" if line == "..." else re.escape(line).replace(r"\.\.\.", ".*") + "\n"
        for line in _lines(expected)
    )
    text = "".join(f"{line}\n" for line in _lines(found))
    return re.fullmatch(pattern, text, re.DOTALL) is not None


def _lines(text: str) -> list[str]:
    return [" ".join(line.split()) for line in text.splitlines() if line.strip()]


def _check_imports(block: Block, code: str) -> None:
    """Outside the tests, which have done it, the host cannot be imported before fcn_plugin."""
    imports = re.findall(r"^\s*(?:import|from) (\w+)", code, re.MULTILINE)
    first = next((name for name in imports if name in ("fcn_plugin", "mmseg", "mmcv")), None)
    assert first in (None, "fcn_plugin"), f"{block}: imports {first} before fcn_plugin"


def clone(folder: Path) -> Path:
    """What of the repository commands are run on, as copies: pages may write there."""
    for name in ("configs", "tools"):
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(REPOSITORY / name, folder / name, ignore=ignored)
    return folder
