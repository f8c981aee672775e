"""Follow a page of the documentation as a reader does: run all its blocks in order, in one folder.

    ```shell     commands to run; tools run in forks of a process that has imported mmseg
    ```python    code to execute; names are kept for the rest of the page. A block that begins with
                 the comment "# NAME.py" is written to that file instead, for later commands
    ```text      expected output of the block before, with "..." for anything that varies

``small.py`` says which commands run in a smaller form, and which are skipped. After a smaller
command, numbers in the output may differ, but not words. Other kinds of blocks are errors.
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

from fcn_plugin_command import TOOLS

FENCE = "```"
SHELL_OPERATOR = re.compile(r"[|&;<>]|^\w+=")
FILE = re.compile(r"# ([\w./-]+\.py)\b")
COMMAND = re.compile(r"\b(?:fcn-plugin|python -m fcn_plugin) (\w+)")
FILES = {
    Path(name).stem: f"python tools/{name}" if name.endswith(".py") else f"tools/{name}"
    for name in TOOLS
}
NEXT = re.compile(r"^(.* - )?Next: .*\n", re.MULTILINE)  # a page has its own next command
NUMBER = re.compile(r"\d+([.,]\d+)*")
RULE = re.compile(r"[-+=]{3,}")  # in a table, as long as its columns are wide


class Block(NamedTuple):
    """A block; ``language`` is the word after the opening fence, ``line`` its line, from 1."""

    page: Path
    line: int
    language: str
    text: str

    def __str__(self) -> str:
        return f"{self.page.name}:{self.line}"


def blocks(page: Path) -> list[Block]:
    """All blocks of a page, in order. A fence is three backticks at the start of a line."""
    result: list[Block] = []
    inside = False
    for number, line in enumerate(page.read_text().splitlines(), start=1):
        if line.lstrip().startswith(FENCE):
            assert line.startswith(FENCE), f"{page.name}:{number}: an indented fence is not seen"
            inside = not inside
            if inside:
                result.append(Block(page, number, line.removeprefix(FENCE).strip(), ""))
            else:
                assert line == FENCE, f"{page.name}:{number}: the block before is not closed"
        elif inside:
            result[-1] = result[-1]._replace(text=f"{result[-1].text}{line}\n")
    assert not inside, f"{page.name}: the last block is not closed"
    return result


def commands(text: str) -> list[str]:
    """The commands of a shell block: continued lines joined, comments and empty lines dropped.

    ``fcn-plugin TOOL`` is the tool's file, by which ``small.py`` knows it.
    """
    text = COMMAND.sub(lambda found: FILES.get(found[1], found[0]), text)
    lines = text.replace("\\\n", " ").splitlines()
    bare = (re.sub(r"(^|\s)#\s.*", "", line) for line in lines)
    return [" ".join(line.split()) for line in bare if line.strip()]


class Walk:
    """One page, run in a folder with ``configs`` and ``tools``; ``less`` runs smaller commands."""

    def __init__(self, page: Path, folder: Path, less: bool = True) -> None:
        self.page, self.folder, self.less = page, folder, less
        self.names: dict[str, object] = dict(__name__="__main__")
        self.output = ""  # of the block before
        self.exact = True  # whether numbers in it must be those of the page
        self.in_small = False  # whether any command so far was a smaller one
        self.code = ""  # all Python so far

    def follow(self) -> None:
        """Run, write or compare all blocks of the page."""
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
            output = (done.stdout + done.stderr)[-3000:]
            assert done.returncode == 0, f"{block}: {smaller}\n{output}"
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
        # The empty lines make a traceback show line numbers of the page.
        code = compile("\n" * block.line + text, str(block.page), "exec")
        with contextlib.redirect_stdout(io.StringIO()) as output:
            exec(code, self.names)
        self.output, self.exact = output.getvalue(), True

    def _text(self, block: Block) -> None:
        output = self.output if "Next: " in block.text else NEXT.sub("", self.output)
        assert shows(block.text, output, self.exact), (
            f"{block}: expected\n{block.text}\nfound\n{output[-3000:]}"
        )


def in_small(command: str) -> str:
    """The command to run instead of a command of the page."""
    row = first(LESS, command)
    return LESS[row](command) if row else command


def first(table: dict, command: str) -> str | None:
    """The first key of a table, a regular expression, that matches in a command."""
    return next((pattern for pattern in table if re.search(pattern, command)), None)


def run(command: str, folder: Path) -> subprocess.CompletedProcess:
    """The result of a command run by a shell in ``folder``, with the tests' ``python``."""
    if not SHELL_OPERATOR.search(command):
        split = _bash(f"printf '%s\\0' {command}", folder)
        match split.stdout.split("\0")[:-1]:
            case ["python", path, *words] if path.startswith("tools/"):
                return tool(path.removeprefix("tools/"), *words, folder=folder)
    return _bash(command, folder)


def _bash(command: str, folder: Path) -> subprocess.CompletedProcess:
    # Defines python as the interpreter in the variable PYTHON, and the command for a --help.
    start = f'python() {{ "{ENVIRONMENT["PYTHON"]}" "$@"; }}; set -o pipefail; '
    start += 'fcn-plugin() { python -m fcn_plugin "$@"; }; '
    how = dict(cwd=folder, env=os.environ | ENVIRONMENT, timeout=PATIENCE)
    return subprocess.run(["bash", "-c", start + command], capture_output=True, text=True, **how)


def shows(expected: str, actual: str, exact: bool = True) -> bool:
    """Whether an output equals what a page shows; unless ``exact``, numbers may differ.

    "..." stands for any text, on its own line for any number of lines. Runs of blanks count as one.
    """
    if not exact:
        expected, actual = (RULE.sub("---", NUMBER.sub("0", text)) for text in (expected, actual))
    pattern = "".join(
        "(.*\n)?" if line == "..." else re.escape(line).replace(r"\.\.\.", ".*") + "\n"
        for line in _lines(expected)
    )
    text = "".join(f"{line}\n" for line in _lines(actual))
    return re.fullmatch(pattern, text, re.DOTALL) is not None


def _lines(text: str) -> list[str]:
    return [" ".join(line.split()) for line in text.splitlines() if line.strip()]


def _check_imports(block: Block, code: str) -> None:
    """Check that fcn_plugin is imported first; a reader cannot import mmseg before it."""
    imports = re.findall(r"^\s*(?:import|from) (\w+)", code, re.MULTILINE)
    first = next((name for name in imports if name in ("fcn_plugin", "mmseg", "mmcv")), None)
    assert first in (None, "fcn_plugin"), f"{block}: imports {first} before fcn_plugin"


def clone(folder: Path) -> Path:
    """``folder`` with copies of the repository's configs and scripts, where pages may write."""
    for name in ("configs", "tools", "docs/figures"):
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(REPOSITORY / name, folder / name, ignore=ignored)
    return folder
