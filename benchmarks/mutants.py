"""Mutation testing of the core modules: do their tests notice small mistakes?

cosmic-ray's operators make the mutants, and one more operator alters strings without blanks.
Docstrings, annotations, assertions, raise statements and strings with blanks (messages) are not
mutated. A mutant's rank in the sample is a hash of the seed and of its label, definition, operator
and occurrence, so that the same mutants are sampled in two trees.

Each mutant is tested on a copy of the tree, in a fork of this process, which has imported
everything but the package. Results of other modules in the files of --out are kept. It needs
cosmic-ray: pip install cosmic-ray==8.7.0

python benchmarks/mutants.py --out mutants
python benchmarks/mutants.py --modules geometry scores --sample 40 --jobs 2
"""

import argparse
import ast
import contextlib
import gc
import hashlib
import importlib
import json
import multiprocessing
import os
import re
import resource
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

sys.path.append(str(Path(__file__).parents[1] / "tools"))
os.environ["OMP_NUM_THREADS"] = "1"

import pytest
from cosmic_ray.ast import ast_nodes, get_ast
from cosmic_ray.mutating import mutate_code
from cosmic_ray.operators.operator import Operator
from cosmic_ray.operators.provider import OperatorProvider
from parsing import ToolParser

# Label -> (source files below fcn_plugin, their tests below tests).
FUSION = "models/test_skip_fusion property/test_any_fusion"
ARCHIVES = "evaluation/leaderboards evaluation/submission_archive"
SUBMISSION = "evaluation/test_submission evaluation/test_submission_archive"
MODULES = {
    "scores": ("evaluation/scores", "evaluation/test_scores property/test_any_metric"),
    "geometry": ("geometry", "test_geometry property/test_any_geometry"),
    "upsampling": (
        "models/upsample models/coarse",
        f"models/test_loss models/test_segmentor {FUSION}",
    ),
    "loss": ("models/loss", "models/test_loss"),
    "names": ("weights/names weights/networks", "weights/test_pretrained conversion/test_convert"),
    "caffemodel": ("weights/caffemodel", "weights/test_caffemodel property/test_any_caffemodel"),
    "order": ("engine/order", "engine/test_order"),
    "submission": (
        f"evaluation/submission {ARCHIVES}",
        f"{SUBMISSION} property/test_any_submission",
    ),
    "fusion": ("models/skip_fusion models/head_checks", f"models/test_parity {FUSION}"),
}
IMPORTED_BEFORE = (
    "numpy scipy cv2 PIL.Image hypothesis safetensors google.protobuf.message_factory "
    "rich.progress torch._dynamo mmseg.apis mmseg.datasets mmseg.models"
)
# Only operators of the same group replace each other, as they take the same operands.
REPLACED_BY_EACH_OTHER = (
    {"Add", "Sub", "Mul", "Div", "FloorDiv", "Mod"},
    {"RShift", "LShift", "BitOr", "BitAnd", "BitXor", "Sub"},
    {"Eq", "NotEq", "Lt", "LtE", "Gt", "GtE"},
    {"Is", "IsNot"},
    {"USub", "UAdd", "Not", "Delete"},
)
MEMORY = 16 * 2**30  # most bytes of address space of a test run
FORK = multiprocessing.get_context("fork")
Mutant = dict[str, Any]


class ReplaceString(Operator):
    """Adds a letter to a string that is not an f-string."""

    def mutation_positions(self, node):
        if node.type == "string":
            yield node.start_pos, node.end_pos

    def mutate(self, node, index):
        node.value = f"{node.value[:-1]}x{node.value[-1]}"
        return node

    @classmethod
    def examples(cls):
        return ()


def operators() -> dict[str, Operator]:
    chosen: dict[str, Operator] = {"String": ReplaceString()}
    for name in (provider := OperatorProvider()):
        change = set(name.split("_")[1:])
        if not provider[name].arguments() and any(change <= g for g in REPLACED_BY_EACH_OTHER):
            chosen[name] = provider[name]()
    return chosen


def is_kept(node: ast.AST) -> bool:
    """Whether a node and everything inside it stay unmutated."""
    match node:
        case ast.Constant(value=str(text)):
            return " " in text
        case ast.JoinedStr(values=parts):
            return any(map(is_kept, parts))
        case ast.Assert() | ast.Raise() | ast.Expr(value=ast.Constant()):
            return True
        case ast.Assign(targets=[ast.Name(id="__all__"), *_]):
            return True
        case ast.If(test=test):
            return ast.unparse(test).endswith("TYPE_CHECKING")
    return False


def definitions(body: Iterable[ast.stmt], outer: str = "") -> Iterator[tuple[int, int, str]]:
    """(first line, last line, name) of each definition, outer ones first."""
    for node in body:
        name = getattr(node, "name", None)
        if isinstance(node, ast.Assign | ast.AnnAssign) and not outer:
            name = ast.unparse(node.targets[0] if isinstance(node, ast.Assign) else node.target)
        if name is not None:
            lines = [node, *getattr(node, "decorator_list", ())]
            yield min(line.lineno for line in lines), node.end_lineno or 0, outer + name
            yield from definitions(getattr(node, "body", ()), f"{outer}{name}.")


def all_mutants(tree: Path, label: str) -> Iterator[Mutant]:
    count = Counter[tuple[str, str]]()
    for file in MODULES[label][0].split():
        source = (tree / "fcn_plugin" / f"{file}.py").read_text()
        parsed, nodes = ast.parse(source), list(ast_nodes(get_ast(source)))
        kept = []
        for node in ast.walk(parsed):
            parts = [node] if is_kept(node) else []
            parts += filter(None, (getattr(node, k, None) for k in ("annotation", "returns")))
            for part in parts:
                end = part.end_lineno, part.end_col_offset
                kept.append(((part.lineno, part.col_offset), end))
        named = list(definitions(parsed.body))
        for operator, change in operators().items():
            places = [place for node in nodes for place in change.mutation_positions(node)]
            for nth, (start, end) in enumerate(places):
                names = [name for first, last, name in named if first <= start[0] <= last]
                name = names[-1] if names else "module"
                mutant = dict(module=label, file=f"{file}.py", function=name, operator=operator)
                if not any(first <= start and end <= last for first, last in kept):
                    yield mutant | dict(occurrence=count[name, operator], place=start, nth=nth)
                count[name, operator] += 1


def sampled(tree: Path, label: str, seed: int) -> Iterator[Mutant]:
    """The mutants of a module with their code, in sampling order, at most one at each place."""

    def rank(mutant: Mutant) -> str:
        text = "{function} {operator} {occurrence}".format_map(mutant)
        return hashlib.sha256(f"{seed} {label} {text}".encode()).hexdigest()

    used = set()
    for mutant in sorted(all_mutants(tree, label), key=rank):
        place, nth = (mutant["file"], mutant.pop("place")), mutant.pop("nth")
        source = (tree / "fcn_plugin" / mutant["file"]).read_text()
        code = mutate_code(source, operators()[mutant["operator"]], nth)
        with contextlib.suppress(SyntaxError):
            if place in used or ast.dump(ast.parse(code)) == ast.dump(ast.parse(source)):
                continue
            used.add(place)
            line = place[1][0]
            lines, changed = source.splitlines(), code.splitlines()
            after = changed[line - 1].strip() if len(changed) == len(lines) else "(removed)"
            yield mutant | dict(line=line, before=lines[line - 1].strip(), after=after, code=code)


def import_all_but_the_package(tree: Path) -> None:
    """Import what the tests need; a failed import is left to each test run."""
    path = tree / "fcn_plugin" / "compat.py"
    with contextlib.suppress(OSError, ImportError):  # its end needs the package
        exec(compile(path.read_text(), path, "exec"), compat := {"__name__": "compat"})
        compat["prepare"]()
    for name in IMPORTED_BEFORE.split():
        with contextlib.suppress(ImportError):
            importlib.import_module(name)
    gc.freeze()


def run_tests(copy: Path, label: str) -> None:
    """Run the module's tests in a copy of the tree; ends the process."""
    os.setsid()
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    output = os.open(f"{copy}.txt", os.O_CREAT | os.O_WRONLY | os.O_TRUNC)
    os.dup2(output, 1)
    os.dup2(output, 2)
    os.chdir(copy)
    os.environ["PYTHONPATH"] = f"{copy}:{copy}/tests"
    sys.path[:1] = [str(copy), f"{copy}/tests"]
    importlib.invalidate_caches()
    spec = importlib.util.find_spec("fcn_plugin")
    assert spec and spec.origin and Path(spec.origin).is_relative_to(copy)
    tests = [f"tests/{name}.py" for name in MODULES[label][1].split()]
    options = ["-x", "-q", "-p", "no:cacheprovider", f"--basetemp={copy}.tmp"]
    status = int(pytest.main([*options, *tests]))
    sys.stdout.flush()
    os._exit(status)


def judge(tree: Path, scratch: Path, limit: float, mutant: Mutant) -> Mutant:
    """A mutant with its status, test and seconds; without ``code``, those of the original tree."""
    copy = scratch / f"tree{os.getpid()}"
    if not copy.exists():
        shutil.copytree(tree, copy, ignore=shutil.ignore_patterns(".*", "*.egg-info"))
    file, code = mutant.get("file", "__init__.py"), mutant.pop("code", None)
    if code is not None:
        (copy / "fcn_plugin" / file).write_text(code)
    begun = time.monotonic()
    process = FORK.Process(target=run_tests, args=(copy, mutant["module"]))
    process.start()
    process.join(limit)
    status = "timeout" if process.is_alive() else "killed" if process.exitcode else "survived"
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid or 0, signal.SIGKILL)  # with its child processes
    process.join()
    shutil.copy2(tree / "fcn_plugin" / file, copy / "fcn_plugin" / file)
    output = Path(f"{copy}.txt").read_text(errors="replace")
    failed = re.search(r"^(?:FAILED|ERROR) (.+?)(?: - |$)", output, re.MULTILINE)
    test = failed[1] if failed else "before any test" if status == "killed" else ""
    return mutant | dict(status=status, test=test, seconds=round(time.monotonic() - begun, 1))


def measure(tree: Path, label: str, sample: int, seed: int, jobs: int) -> list[Mutant]:
    judged = []
    with tempfile.TemporaryDirectory() as folder, ProcessPoolExecutor(jobs, FORK) as pool:
        run = partial(judge, tree, Path(folder))
        control = pool.submit(run, 600, dict(module=label)).result()
        if control["status"] != "survived":
            raise SystemExit(f"{label}: {control['test']} fails without any mutation")
        print(f"{label}: all tests pass, {control['seconds']} s", flush=True)
        limit = max(30, 4 * control["seconds"])
        for mutant in pool.map(partial(run, limit), islice(sampled(tree, label, seed), sample)):
            line = "{module} {function} {operator} {occurrence}: {status} {test}, {seconds} s"
            print(line.format_map(mutant), flush=True)
            judged.append(mutant)
    return judged


def table(judged: list[Mutant]) -> str:
    """Counts of each module, and the surviving mutants, in Markdown."""
    survivors = [mutant for mutant in judged if mutant["status"] == "survived"]
    total = Counter(name for mutant in judged for name in (mutant["module"], "all"))
    alive = Counter(name for mutant in survivors for name in (mutant["module"], "all"))
    lines = ["| Module | Sampled | Killed | Survived | Share killed |", "|---|--:|--:|--:|--:|"]
    for name in sorted(total, key=[*MODULES, "all"].index):
        killed = total[name] - alive[name]
        share = f"{killed / total[name]:.0%}"
        lines.append(f"| {name} | {total[name]} | {killed} | {alive[name]} | {share} |")
    lines += ["", "Surviving mutants:", ""]
    line = "- {file}:{line}, {function}, {operator} {occurrence}: `{before}` -> `{after}`"
    return "\n".join([*lines, *map(line.format_map, survivors), ""])


def parse_args() -> argparse.Namespace:
    parser = ToolParser(__doc__)
    add = parser.group("mutants").add_argument
    names = f"of {', '.join(MODULES)}; default all"
    every = list(MODULES)
    add("--modules", nargs="+", choices=MODULES, default=every, metavar="NAME", help=names)
    sample = "mutants of each module; default 25"
    add("--sample", type=int, default=25, metavar="N", help=sample)
    add("--seed", type=int, default=0, metavar="N", help="of the sample; default 0")
    tree = "another clone to test; default this one"
    add("--tree", type=Path, default=Path(__file__).parents[1], metavar="DIR", help=tree)
    add = parser.group("what is written").add_argument
    out = "FILE.md and FILE.json; default mutants"
    add("--out", type=Path, default=Path("mutants"), metavar="FILE", help=out)
    add = parser.group("machine").add_argument
    add("--jobs", type=int, default=1, metavar="N", help="mutants at a time; default 1")
    return parser.parse_args()


def main() -> None:
    args = parse_args()
    tree, stored = args.tree.resolve(), args.out.with_suffix(".json")
    import_all_but_the_package(tree)
    judged = json.loads(stored.read_text()) if stored.exists() else []
    for label in args.modules:
        measured = measure(tree, label, args.sample, args.seed, args.jobs)
        judged = [mutant for mutant in judged if mutant["module"] != label] + measured
        judged.sort(key=lambda mutant: list(MODULES).index(mutant["module"]))
        stored.write_text(json.dumps(judged, indent=1))
        args.out.with_suffix(".md").write_text(table(judged))
    print(table(judged))


if __name__ == "__main__":
    main()
