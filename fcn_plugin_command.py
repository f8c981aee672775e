"""The command ``fcn-plugin TOOL ...``, which runs the tools of the clone or the installed wheel.

A module of its own, with the standard library alone: importing ``fcn_plugin`` loads torch and
mmseg, which takes seconds, and most tools' ``--help`` needs neither.
"""

import os
import runpy
import sys
from importlib.util import find_spec, module_from_spec, spec_from_file_location
from itertools import takewhile
from pathlib import Path
from typing import NoReturn

# What a user wants to do -> tools, in the order in which a user meets them.
AIMS = {
    "prepare": ("configs.py", "prepare_data.py"),
    "train": ("train.py", "train_stages.py", "dist_train.sh", "slurm_train.sh"),
    "evaluate": ("test.py", "dist_test.sh", "report.py", "score.py", "calibrate.py"),
    "predict": ("predict.py",),
    "export": ("export_onnx.py",),
    "convert": ("convert_weights.py",),
    "publish": ("publish.py",),
    "check": ("doctor.py", "mmseg_tool.py"),
}
TOOLS = tuple(tool for tools in AIMS.values() for tool in tools)
EXAMPLES = """\
examples, of drawn shapes, in four minutes without a GPU:
  fcn-plugin prepare_data shapes
  fcn-plugin train fcn8s_vgg16_shapes
  fcn-plugin report work_dirs/fcn8s_vgg16_shapes

Next: fcn-plugin configs lists what there is to train, fcn-plugin TOOL --help
the options of a tool."""


def main() -> None:
    """Run the tool that the command line names; --help, --version or nothing: say what there is."""
    name, *words = sys.argv[1:] or ["--help"]
    files = {stem(tool): tools() / tool for tool in TOOLS}
    if name in ("-h", "--help"):
        show(overview(files))
    elif name == "--version":
        print(f"fcn_plugin {runpy.run_path(str(package() / 'version.py'))['__version__']}")
    elif name not in files:
        refuse(name)
    elif files[name].suffix == ".sh":
        run_script(files[name], words)
    else:
        run_python(files[name], words)


def package() -> Path:
    """The folder of fcn_plugin, found without importing it."""
    spec = find_spec("fcn_plugin")
    if spec is None or spec.origin is None:
        sys.exit("error: fcn_plugin is not installed for this Python; pip install it there")
    return Path(spec.origin).resolve().parent


def tools() -> Path:
    """The folder of the tools: in the package, or beside it in a clone that is not installed."""
    shipped = package() / ".mim" / "tools"
    return (shipped if shipped.is_dir() else package().with_name("tools")).resolve()


def overview(files: dict[str, Path]) -> str:
    """All tools by what they are for, and how to begin."""
    lines = ["usage: fcn-plugin TOOL [options]", ""]
    for aim, names in AIMS.items():
        lines.append(f"{aim}:")
        for name in map(stem, names):
            lines.append(f"  {name:<16} {headline(files[name])}")
    return "\n".join([*lines, "", EXAMPLES])


def stem(tool: str) -> str:
    return Path(tool).stem


def show(text: str) -> None:
    """Print a help as the tools print theirs."""
    with_headings = runpy.run_path(str(tools() / "parsing.py"))["with_headings"]
    print(with_headings(text, sys.stdout))


def headline(file: Path) -> str:
    """The first line of what a tool's file says of itself."""
    text = file.read_text(encoding="utf-8")
    words = text.split('"""')[1] if file.suffix == ".py" else comment(text)
    return words.splitlines()[0].rstrip(".:")


def comment(script: str) -> str:
    """The comment at the head of a shell script, below the line that names the shell."""
    lines = takewhile(lambda line: line.startswith("#"), script.splitlines()[1:])
    return "\n".join(line[2:] for line in lines)


def refuse(name: str) -> NoReturn:
    from difflib import get_close_matches

    close = get_close_matches(name, map(stem, TOOLS), n=1)
    hint = f"did you mean {close[0]!r}?" if close else "fcn-plugin --help lists them"
    print(f"error: {name!r} is no tool of fcn-plugin; {hint}", file=sys.stderr)
    sys.exit(2)


def run_python(file: Path, words: list[str]) -> None:
    """Be the tool: its module is ``__main__``, and the modules beside it can be imported."""
    sys.argv = [f"fcn-plugin {file.stem}", *words]  # argparse shows the first word
    sys.path.insert(0, str(file.parent))
    spec = spec_from_file_location("__main__", file)
    assert spec is not None and spec.loader is not None
    module = sys.modules["__main__"] = module_from_spec(spec)
    spec.loader.exec_module(module)


def run_script(file: Path, words: list[str]) -> NoReturn:
    """Be the script, which starts this Python; --help is answered here."""
    if {"-h", "--help"} & {*words}:
        show(comment(file.read_text(encoding="utf-8")))
        sys.exit()
    os.environ["PYTHON"] = sys.executable
    try:
        os.execvp("bash", ["bash", str(file), *words])
    except FileNotFoundError:
        sys.exit(f"error: {file.stem} is a script for bash, which is not installed")


if __name__ == "__main__":
    main()
