"""No text from a file reaches the terminal as more than text."""

import logging
import pickle
import warnings

import pytest
from tools.running import as_module

from fcn_plugin.engine.runner import BriefRunner
from fcn_plugin.errors import DamagedFile, UserError, printable, quoted, without_secrets

HOSTILE = "a\x1b]0;x\x07b\x1b[31mc\nd\re\u202ef\x9bg\u2028h\ud800"
KEY = "X-Amz-Credential=a%2Fb&X-Amz-Signature=1f;2e:3d,4c"
SHOWN = r"a\x1b]0;x\x07b\x1b[31mc\nd\re\u202ef\x9bg\u2028h\ud800"


def test_what_a_terminal_obeys_is_escaped_and_names_in_any_language_stay():
    assert printable(HOSTILE) == SHOWN
    assert printable("a\nb\x1b", keep="\n") == "a\nb\\x1b"
    for name in ("Straße", "地面", "می\u200cشود", "no\u00a0break", SHOWN):
        assert printable(name) == name


def test_errors_are_one_line():
    for kind in (UserError, DamagedFile):
        error = kind(f"{HOSTILE}: damaged\n")
        assert str(error) == f"{SHOWN}: damaged"
        assert str(pickle.loads(pickle.dumps(error))) == str(error)
    assert quoted(HOSTILE) == SHOWN.partition(r"\n")[0]


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        (f"https://h.example/a.pth?{KEY}", "https://h.example/a.pth"),
        (f"https://h.example:8/a.pth?{KEY}: what", "https://h.example:8/a.pth: what"),
        (f"a (from http://me:{KEY}@h/a?x={KEY}; delete", "a (from http://h/a; delete"),
        (
            f"dict(b='https://h/a?{KEY}', c=\"hf://a/b?{KEY}\")",
            "dict(b='https://h/a', c=\"hf://a/b\")",
        ),
        (f"https://h/a?{KEY}, https://h/b?{KEY}.", "https://h/a, https://h/b."),
        (f"http://h/a?{KEY}\nhttp://h/b", "http://h/a\nhttp://h/b"),
        ("is a.png? https://h/a#b, me@h, a?b=c", "is a.png? https://h/a#b, me@h, a?b=c"),
    ],
)
def test_addresses_lose_what_may_be_secret(text, shown):
    assert without_secrets(text) == shown
    assert KEY not in str(UserError(text))


def test_an_error_of_a_worker_is_its_own_last_line():
    told = "Caught DamagedFile in DataLoader worker process 0.\nOriginal Traceback:\n  File x\n"
    assert str(DamagedFile(f"{told}fcn_plugin.errors.DamagedFile: a.png: cut\n")) == "a.png: cut"


def test_tools_print_and_warn_so(capsys, monkeypatch):
    monkeypatch.setattr(warnings, "formatwarning", warnings.formatwarning)
    with as_module("common") as common:
        common.show(f"one {HOSTILE.splitlines()[0]}\ntwo")
        common.show_warnings()
        assert "\x1b" not in warnings.formatwarning(HOSTILE, UserWarning, "x.py", 1)

        def fails() -> None:
            raise KeyError(HOSTILE) from Exception(HOSTILE)

        with pytest.raises(SystemExit):
            common.run(fails)
    said = capsys.readouterr()
    assert said.out == "one a\\x1b]0;x\\x07b\\x1b[31mc\ntwo\n"
    assert not set(said.err) & set("\x1b\x07\r\u202e\x9b\u2028") and "Traceback" in said.err


def test_the_log_of_a_run_outlives_a_wrong_call_of_somebody_else(tmp_path, capfd):
    runner = BriefRunner.__new__(BriefRunner)
    runner._log_dir, runner._timestamp = str(tmp_path), "0"
    runner._experiment_name = tmp_path.name  # mmengine has one logger of a name
    logger = runner.build_logger("INFO", str(tmp_path / "run.log"))
    logger.info("%s of %s", "one")
    logger.info("%(here)s", dict(there="x"))
    logger.warning("%s is\n  other", HOSTILE.replace("\n", ""))
    logger.info("Load checkpoint from %s", f"https://h/a.pth?{KEY}")
    logging.shutdown()
    for said in (capfd.readouterr().out, (tmp_path / "run.log").read_text()):
        assert "\\x1b]0;x\\x07" in said and "is\n  other" in said
        assert "from https://h/a.pth\n" in said
        assert not set(said) & set("\x07\r\u202e\x9b\u2028")
