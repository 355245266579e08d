"""Does a test fail where the numeric core computes something else? The core is changed, one place at a time.

python benchmarks/faults/mutants.py [AREA or FILE ...] [--each 60] [--seed 0]

Needs the extra "mutation" and a system that forks. Each mutant is one change of an expression within a function:
another operator, a number larger by one, an argument left out or None, a condition turned. The changes are those of
mutmut; what only says something (strings, errors, warnings, what progress bars say, `__repr__`) is not changed. Of
each area or file, a random sample is tested with its own tests, in memory: no file is written. Prints each survivor
and, per area and file, how many were killed; a mutant whose tests take five times as long as usual is killed too.
"""

from __future__ import annotations

import argparse
import importlib
import inspect
import os
import random
import resource
import sys
import tempfile
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import FunctionType, ModuleType

import libcst
import pytest
from libcst.metadata import MetadataWrapper, PositionProvider
from mutmut.mutation.mutators import mutation_operators, operator_string

ROOT = Path(__file__).parents[2]
SOURCES = ROOT / "src" / "slim"

# Of each area, its files and the tests that are to notice a change of them.
AREAS: dict[str, dict[str, str]] = {
    "attention": {"network/gradcam.py": "network/test_maps.py network/test_gradcam.py"},
    "object maps": {
        "localization.py": "test_localization_definitions.py test_localization.py",
        "matting.py": "test_matting.py",
        "network/places.py": "network/test_place_definitions.py network/test_places.py",
        "stages/annotate/page/outlines.py": "stages/annotate/page/test_outlines.py",
        "stages/annotate/settling.py": "stages/annotate/test_settling.py stages/annotate/page/test_outlines.py",
        "stages/locate/locate.py": "stages/test_locate.py",
    },
    "recomposition": {
        "data/recompose.py": "data/test_recompose_definitions.py data/test_recompose.py",
        "stages/retrain/recomposed.py": "stages/retrain/test_recomposed.py stages/retrain/test_reliance.py",
        "stages/retrain/reliance.py": "stages/retrain/test_reliance.py",
    },
    "propagation": {
        "stages/propagate/auc_interval.py": "stages/propagate/test_auc_interval.py",
        "stages/propagate/gauss.py": "stages/propagate/test_gauss.py",
        "stages/propagate/incremental.py": "stages/propagate/test_incremental.py",
        "stages/propagate/label_spreading.py": "stages/propagate/test_label_spreading.py",
        "stages/propagate/left_out_auc.py": "stages/propagate/test_left_out_auc.py",
        "stages/propagate/propagate.py": "stages/propagate/test_scores.py stages/propagate/test_propagate.py",
        "stages/propagate/regression.py": "stages/propagate/test_regression.py",
        "stages/propagate/scores.py": "stages/propagate/test_scores.py",
    },
    "curation": {
        "clustering.py": "stages/curate/test_subset.py stages/curate/test_factors.py",
        "stages/curate/allocation.py": "stages/curate/test_subset.py",
        "stages/curate/curate.py": "stages/curate/test_subset.py stages/curate/test_curate.py",
        "stages/curate/factors.py": "stages/curate/test_factors.py",
        "stages/curate/subset.py": "stages/curate/test_curate.py stages/curate/test_subset.py",
    },
    "evaluation": {
        "metrics.py": "test_metrics.py",
        "stages/evaluate/backgrounds.py": "stages/evaluate/test_backgrounds.py",
        "stages/evaluate/evaluate.py": "stages/evaluate/test_evaluate.py",
        "stages/evaluate/evaluation.py": "stages/evaluate/test_evaluate.py stages/evaluate/test_measuring.py",
        "stages/evaluate/measuring.py": "stages/evaluate/test_measuring.py",
    },
    "last layer": {
        "stages/retrain/l1_path.py": "stages/retrain/test_l1_path.py",
        "stages/retrain/last_layer.py": "stages/retrain/test_last_layer.py",
    },
}

FILES = {file: tests for files in AREAS.values() for file, tests in files.items()}

_TEXT = ("announce", "announce_time", "track", "warnings.warn")  # functions that only say something


@dataclass(frozen=True, eq=False)
class Mutant:
    """One change of a file: a node of its module, and what takes the node's place."""

    file: str
    module: libcst.Module
    node: libcst.CSTNode
    changed: libcst.CSTNode
    line: int

    def source(self) -> str:
        """The changed file."""
        return self.module.deep_replace(self.node, self.changed).code

    def __str__(self) -> str:
        before, after = (self.module.code_for_node(node) for node in (self.node, self.changed))
        return f"{self.file}:{self.line}\n    - {before}\n    + {after}"


class Collector(libcst.CSTVisitor):
    """Collects pairs of nodes, as they are and changed, of the functions of a module."""

    METADATA_DEPENDENCIES = (PositionProvider,)

    def __init__(self) -> None:
        super().__init__()
        self.functions = 0
        self.changes: list[tuple[libcst.CSTNode, libcst.CSTNode]] = []

    def on_visit(self, node: libcst.CSTNode) -> bool:
        if isinstance(node, libcst.Annotation | libcst.Decorator | libcst.Raise) or _is_text(node):
            return False
        self.functions += isinstance(node, libcst.FunctionDef)
        if self.functions:
            for kind, operator in mutation_operators:
                if isinstance(node, kind) and operator is not operator_string:
                    self.changes += [(node, changed) for changed in operator(node)]
        return True

    def on_leave(self, original_node: libcst.CSTNode) -> None:
        self.functions -= isinstance(original_node, libcst.FunctionDef) and not _is_text(original_node)


def _is_text(node: libcst.CSTNode) -> bool:
    """Whether a node only says something: a warning, a representation, what a progress bar says, an empty promise."""
    if isinstance(node, libcst.Arg):
        return node.keyword is not None and node.keyword.value == "strict"  # of zip: no more than an assertion
    if isinstance(node, libcst.FunctionDef):
        return node.name.value == "__repr__"
    return isinstance(node, libcst.Call) and libcst.Module([]).code_for_node(node.func) in _TEXT


def mutants(file: str) -> list[Mutant]:
    """All changes of a file."""
    wrapper, collector = MetadataWrapper(libcst.parse_module((SOURCES / file).read_text())), Collector()
    wrapper.visit(collector)
    lines = wrapper.resolve(PositionProvider)
    return [Mutant(file, wrapper.module, node, changed, lines[node].start.line) for node, changed in collector.changes]


def functions(space: dict[str, object], module: str) -> dict[str, FunctionType]:
    """The functions that a module defines, and the methods of its classes, by their qualified names."""
    own = [one for one in space.values() if getattr(one, "__module__", None) == module]
    members = [member for one in own if isinstance(one, type) for member in vars(one).values()]
    wrapped = [getattr(one, "fget", None) or getattr(one, "__func__", None) or one for one in (*own, *members)]
    plain = [inspect.unwrap(one) for one in wrapped if callable(one)]
    return {one.__qualname__: one for one in plain if isinstance(one, FunctionType)}


def change(file: str, source: str) -> None:
    """Let the functions of a module do what those of a changed source do, wherever they are imported already."""
    name = "slim." + file.removesuffix(".py").replace("/", ".")
    changed = sys.modules["changed"] = ModuleType("changed")
    exec(compile(source, SOURCES / file, "exec"), vars(changed))
    others = functions(vars(changed), "changed")
    for qualified, function in functions(vars(importlib.import_module(name)), name).items():
        if qualified in others:
            for part in ("__code__", "__defaults__", "__kwdefaults__"):
                setattr(function, part, getattr(others[qualified], part))


class Mutation:
    """A plugin of pytest that, in place of running the tests once, runs them once for each mutant of a file."""

    def __init__(self, file: str, sample: Sequence[Mutant]) -> None:
        self.file, self.sample, self.in_child = file, sample, False
        self.counts = Counter[str]()

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtestloop(self) -> bool | None:
        start = resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime
        if self.status((SOURCES / self.file).read_text(), 600) == "failed":
            self.sample = []
            self.counts["broken"] += 1
        limit = 10 + 5 * (resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime - start)
        for mutant in () if self.in_child else self.sample:
            result = self.status(mutant.source(), int(limit))
            if self.in_child:
                return None
            self.counts[result] += 1
            if result == "passed":
                print(f"survived: {mutant}", flush=True)
        return None if self.in_child else True

    def status(self, source: str, limit: int) -> str:
        """What becomes of the tests with this source in so many seconds of processor time; in the child, to run."""
        child = os.fork()
        if child:
            _, code = os.waitpid(child, 0)
            return "timeout" if os.WIFSIGNALED(code) else "failed" if code else "passed"
        self.in_child = True
        resource.setrlimit(resource.RLIMIT_CPU, (limit, limit))
        nothing = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nothing, 1)
        os.dup2(nothing, 2)
        change(self.file, source)
        return "to run"


def area_counts(files: dict[str, str], each: int, seed: int) -> dict[str, Counter[str]]:
    """Test a sample of an area's mutants; for each file, how many passed, failed, or took too long."""
    everyone = [mutant for file in files for mutant in mutants(file)]
    sample = random.Random(seed).sample(everyone, min(each, len(everyone)))
    counts = {}
    for file, tests in files.items():
        of_file = Mutation(file, [mutant for mutant in sample if mutant.file == file])
        paths = [str(SOURCES / file), *(str(ROOT / "tests" / test) for test in tests.split())]
        code = pytest.main(["-x", "-s", "-p", "no:cacheprovider", "-p", "no:terminal", *paths], plugins=[of_file])
        if of_file.in_child:
            os._exit(code)
        if of_file.counts["broken"]:
            sys.exit(f"The tests of {file} must pass before anything is changed.")
        counts[file] = of_file.counts + Counter(all=sum(mutant.file == file for mutant in everyone))
    return counts


def row(name: str, counts: Counter[str]) -> str:
    tested = counts["passed"] + counts["failed"] + counts["timeout"]
    killed = tested - counts["passed"]
    share = f"{killed / tested:.0%}" if tested else "-"
    return f"{name:<36}{counts['all']:>6}{tested:>8}{killed:>8}{counts['timeout']:>9}{share:>7}"


def main(words: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("areas", nargs="*", metavar="AREA", help=", ".join([*AREAS, *FILES]))
    parser.add_argument("--each", type=int, default=60)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(words)
    lines, total = [], Counter[str]()
    with tempfile.TemporaryDirectory() as examples:
        os.environ["HYPOTHESIS_STORAGE_DIRECTORY"] = examples
        for area in options.areas or AREAS:
            files = AREAS.get(area) or {area: FILES[area]}
            counts = area_counts(files, options.each, options.seed)
            together = sum(counts.values(), Counter[str]())
            lines += [row(area, together), *(row(f"  {file}", one) for file, one in counts.items())]
            total += together
    print(f"\nseed {options.seed}{'all':>31}  tested  killed  timeout  share")
    print(*lines, row("together", total), sep="\n")


if __name__ == "__main__":
    main()
