"""A bar below the log on a terminal, nothing elsewhere; the terminal is left as it was."""

import io
import logging
import os
import pty
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest
from engine.runs import Noise, log_of, runner
from rich.text import Text
from terminals import BAR, COLOUR, COLUMNS, Terminal, on_terminal
from tools.running import ENVIRONMENT, PATIENCE, config, script

from fcn_plugin.engine import ProgressHook
from fcn_plugin.prepare.shapes import write_shapes
from fcn_plugin.system.status_line import StatusLine


def run(folder: Path, **settings):
    """Eight iterations, a validation after the third, sixth and last."""
    defaults = dict(custom_hooks=[dict(type="ProgressHook")], log_level="INFO")
    logger = dict(type="LoggerHook", interval=1, log_metric_by_epoch=False)
    log = dict(log_processor=dict(by_epoch=False), hooks=dict(logger=logger))
    return runner(folder, **defaults | log | settings)


@pytest.fixture
def always(monkeypatch) -> None:
    monkeypatch.setattr("fcn_plugin.engine.progress.DRAW_PAUSE", -1)


def test_the_log_stands_above_the_bar(always, tmp_path):
    with on_terminal() as terminal:
        trained = run(tmp_path)
        trained.train()
        print("END", file=sys.stderr)
    lines, bars = terminal.check()
    every = {f"Iteration {number} of 8" for number in range(9)}
    assert bars == every | {f"Validation {number} of 5" for number in range(1, 6)}
    assert lines[-2] == "END" and b"mean IU" in terminal.output
    # The file has the same lines, but for the day's year and the colours.
    logged = re.findall(r"Iter\(.*", log_of(trained))
    assert len(logged) > 8 and re.findall(r"Iter\(.*", "\n".join(lines)) == logged


def test_what_others_print_stands_above_it_too(always, tmp_path):
    class Talking(Noise):
        def __getitem__(self, index: int) -> dict:
            print("a word")
            print("and", "another", file=sys.stderr)
            return super().__getitem__(index)

    with on_terminal(NO_COLOR="1") as terminal:
        # A worker of a data loader has a copy of the line.
        run(tmp_path, dataset=Talking(), loader=dict(num_workers=1)).train()
    lines, _ = terminal.check()
    assert {"a word", "and another"} <= set(lines)
    assert not re.search(rb"\x1b\[(?!2K)[^\n]*" + BAR.encode(), terminal.output)


def test_a_training_that_fails_leaves_no_bar(always, tmp_path):
    class Failing(Noise):
        def __getitem__(self, index: int) -> dict:
            if len(self.reads) > 4:
                raise KeyboardInterrupt
            return super().__getitem__(index)

    with on_terminal() as terminal:
        failed = run(tmp_path, dataset=Failing())
        with pytest.raises(KeyboardInterrupt):
            failed.train()
        print("interrupted", file=sys.stderr)
        failed.logger.info("afterwards")
        hook = next(hook for hook in failed.hooks if isinstance(hook, ProgressHook))
        hook.line.end()  # as at the process's exit
    lines, bars = terminal.check()
    assert lines[-3] == "interrupted" and "afterwards" in lines[-2] and len(bars) > 1


@pytest.mark.parametrize("kind", [{}, dict(TERM="dumb"), dict(TTY_COMPATIBLE="0")])
def test_elsewhere_nothing_changes(kind, always, tmp_path, monkeypatch):
    def output(hooks: list) -> str:
        if kind:
            with on_terminal(**kind) as terminal:
                run(tmp_path / str(len(hooks)), custom_hooks=hooks).train()
            return terminal.output.decode().replace("\r", "")
        with monkeypatch.context() as patch:
            patch.setenv("FORCE_COLOR", "1")  # as in some CI, whose log is no terminal
            patch.setattr(sys, "stdout", io.StringIO())
            run(tmp_path / str(len(hooks)), custom_hooks=hooks).train()
            return sys.stdout.getvalue()

    def words(text: str) -> list[str]:
        return re.findall(r"Iter\((?:train|val)\) *\[.*?\]", text)

    plain, ours = output([]), output([dict(type="ProgressHook")])
    assert "\x1b[2K" not in ours and BAR not in ours and words(ours) == words(plain) != []


def test_a_line_is_cut_to_the_terminal(tmp_path):
    with on_terminal() as terminal:
        line = StatusLine(logging.Logger("none"))
        line.draw([Text("a" * 40), Text(BAR), Text("b" * 40)])
        line.end()
        line.end()
    assert ("a" * 40 + BAR + "b" * 28).encode() in terminal.output
    terminal.check()


def test_a_closed_terminal_is_no_error():
    ours, theirs = pty.openpty()
    with os.fdopen(theirs, "w") as stream, pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "stdout", stream)
        line = StatusLine(logging.Logger("none"))
        line.draw([Text("a")])
        os.close(ours)
        for _ in range(3):
            line.draw([Text("b")])
        line.end()


@pytest.mark.slow
@pytest.mark.parametrize("interrupted", [False, True])
def test_as_a_user_trains(interrupted, tmp_path):
    write_shapes(tmp_path / "data/shapes", train=16, val=7, size=32)
    config(tmp_path, "train_dataloader.update(num_workers=1)")
    length = ["--cfg-options", "train_cfg.max_iters=9999"] if interrupted else []
    colours = dict(NO_COLOR="1") if interrupted else {}
    terminal = Terminal()
    command = [sys.executable, script("train.py"), "tiny.py", "--work-dir", "run", *length]
    os.set_blocking(terminal.theirs, True)
    process = subprocess.Popen(
        command,
        cwd=tmp_path,
        env=os.environ | ENVIRONMENT | dict(TERM="xterm", COLUMNS=str(COLUMNS)) | colours,
        stdin=terminal.theirs,
        stdout=terminal.theirs,
        stderr=terminal.theirs,
        start_new_session=True,
    )
    end = time.monotonic() + PATIENCE
    while interrupted and b"Iteration 5 of" not in terminal.output and time.monotonic() < end:
        time.sleep(0.05)
    if interrupted:
        process.send_signal(2)
    status = process.wait(PATIENCE)
    terminal.close()
    lines, bars = terminal.check()
    assert "Iteration 0 of 4" in bars or interrupted
    # Only in a process of its own: the package that colours mmengine's log remembers its answer.
    assert bool(COLOUR.search(terminal.output)) != interrupted and b"INFO" in terminal.output
    assert (status, lines[-2]) == (130, "interrupted") if interrupted else status == 0
    assert interrupted or "Next: fcn-plugin report run" in lines[-2]
