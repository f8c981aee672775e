"""--help of every tool: it fits a screen, has options in groups, and examples that are right."""

import argparse
import os
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from terminals import COLOUR, on_terminal
from tools.running import BENCHMARKS, TOOLS, as_module

import fcn_plugin_command
from fcn_plugin.system.configs import config_file
from fcn_plugin.system.progress import progress_bar

HEIGHT = 40  # lines of a screen
SCRIPTS = sorted(TOOLS.glob("*.sh"))
# What a user starts; these are started by doctor.py and dist_train.sh.
INNER = ("trial.py", "threads.py")
FILES = [
    file
    for file in sorted((*TOOLS.glob("*.py"), *BENCHMARKS.glob("*.py")))
    if "__main__" in file.read_text() and file.name not in INNER
]


class Parsing(Exception):
    """A tool is about to parse its options."""


def parsers(module) -> Iterator[argparse.ArgumentParser]:
    """The parser that a tool makes, and those of its subcommands."""

    def parse(parser: argparse.ArgumentParser, *_: object) -> None:
        raise Parsing(parser)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(argparse.ArgumentParser, "parse_args", parse)
        with pytest.raises(Parsing) as stopped:
            module.parse_args()
    (parser,) = stopped.value.args
    yield parser
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            yield from action.choices.values()


def split(command: str) -> list[str]:
    """The words that a shell makes of a command."""
    done = subprocess.check_output(["bash", "-c", f"printf '%s\\0' {command}"], text=True)
    return done.split("\0")[:-1]


def check_words(module, words: list[str], patch: pytest.MonkeyPatch) -> None:
    """That a tool understands the words after its name, and that shipped configs are there."""
    patch.setattr(sys, "argv", [sys.argv[0], *words])
    args = vars(module.parse_args())
    for config in (args.get("config"), *args.get("configs", ())):
        if config and not str(config).endswith(".onnx"):
            assert config_file(config).is_file()


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_of_a_tool(file, monkeypatch, capsys):
    if file.stem == "mutants":
        pytest.importorskip("cosmic_ray")
    name = f"fcn-plugin {file.stem}" if file.parent == TOOLS else f"python benchmarks/{file.name}"
    monkeypatch.setattr(sys, "argv", [name.removeprefix("python ")])
    with as_module(file.stem) as module:
        for parser in parsers(module):
            check_screen(parser, monkeypatch)
            check_groups(parser)
            check_colours(parser, capsys)
            assert len(parser.examples) == 2
            for example in parser.examples:
                assert f"{example} ".startswith(f"{name} ")
                check_words(module, split(example)[2:], monkeypatch)


def check_screen(parser: argparse.ArgumentParser, patch: pytest.MonkeyPatch) -> None:
    for width in (80, 100):
        patch.setenv("COLUMNS", str(width))
        lines = parser.format_help().splitlines()
        assert max(map(len, lines)) <= width
    assert len(lines) <= HEIGHT
    assert lines[0].startswith("usage: ") and lines[-3:] == [
        "examples:",
        *(f"  {example}" for example in parser.examples),
    ]


def check_groups(parser: argparse.ArgumentParser) -> None:
    """Every option that is shown has its help, in a group with a name of its own."""
    named = 0
    for group in parser._action_groups:
        actions = [each for action in group._group_actions for each in (*parts(action),)]
        shown = [action for action in actions if action.help != argparse.SUPPRESS]
        assert all(action.help for action in shown)
        assert not shown or group.title not in ("positional arguments", "options")
        named += len(shown)
    assert named


def parts(action: argparse.Action) -> Iterator[argparse.Action]:
    """The subcommands of an action, or the action itself."""
    if isinstance(action, argparse._SubParsersAction):
        yield from action._get_subactions()
    else:
        yield action


def check_colours(parser: argparse.ArgumentParser, capsys) -> None:
    capsys.readouterr()
    parser.print_help()
    assert capsys.readouterr().out == parser.format_help()
    for environment, colours in (
        ({}, True),
        (dict(NO_COLOR=""), True),
        (dict(NO_COLOR="1"), False),
    ):
        with on_terminal(**environment) as terminal:
            parser.print_help()
        assert bool(COLOUR.search(terminal.output)) == colours
    assert b"\x1b" not in terminal.output


def test_a_progress_bar_has_colours_unless_they_are_unwanted():
    for environment, colours in (({}, True), (dict(NO_COLOR="1"), False)):
        with on_terminal(**environment) as terminal, progress_bar() as progress:
            progress("Counting", 1, 2)
        assert b"Counting" in terminal.output
        assert bool(COLOUR.search(terminal.output)) == colours


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.stem)
def test_of_a_script(script, tmp_path, monkeypatch):
    """Commands that only print what they are given stand in for Python and Slurm."""
    (tmp_path / "srun").write_text('#!/bin/sh\necho "$@"\n')
    (tmp_path / "srun").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    monkeypatch.setenv("PYTHON", "echo")
    lines = fcn_plugin_command.comment(script.read_text()).splitlines()
    assert len(lines) <= HEIGHT and max(map(len, lines)) <= 80
    assert lines[-3] == "examples:"
    for example in lines[-2:]:
        command, name, *words = split(example)
        assert (command, name) == ("fcn-plugin", script.stem)
        started = subprocess.check_output(["bash", script, *words], text=True)
        file, *words = shlex.split(started.partition(f"{TOOLS}/")[2])
        with as_module(Path(file).stem) as module:
            check_words(module, words, monkeypatch)


def test_of_the_command():
    files = {Path(tool).stem: TOOLS / tool for tool in fcn_plugin_command.TOOLS}
    lines = fcn_plugin_command.overview(files).splitlines()
    assert len(lines) <= HEIGHT and max(map(len, lines)) <= 80
    for environment, colours in (({}, True), (dict(NO_COLOR="1"), False)):
        with on_terminal(**environment) as terminal:
            fcn_plugin_command.show("\n".join(lines))
        assert bool(COLOUR.search(terminal.output)) == colours
