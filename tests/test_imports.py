"""Which module may import which; and nothing runs on import."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
FOLDERS = ("utils", "*_version", "benchmarks")
MODULES = sorted(
    [ROOT / "main.py", *(file for folder in FOLDERS for file in ROOT.glob(f"{folder}/*.py"))],
    key=str,
)
VERSIONS = ("pytorch_version", "huggingface_version")
# Only these may know both implementations, and only these of utils may know one.
KNOW_BOTH = {"main", "utils.report", "utils.comparison"}
KNOW_ONE = {"utils.selfcheck"}
HEAVY = ("torch", "transformers", "numpy", "matplotlib", "pandas", "datasets", "tokenizers")


def name_of(path):
    return ".".join(path.relative_to(ROOT).with_suffix("").parts)


def imports_of(path, top_level_only=False):
    tree = ast.parse(path.read_text("utf-8"))
    nodes = tree.body if top_level_only else ast.walk(tree)
    for node in nodes:
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_imports_follow_the_map(path):
    name, imported = name_of(path), set(imports_of(path))
    package = name.split(".")[0]
    known = {version for version in VERSIONS if any(i.startswith(version) for i in imported)}
    if package == "benchmarks":  # may know all that there is, and nobody knows it
        return
    assert not [i for i in imported if i.startswith("benchmarks")]
    if name not in KNOW_BOTH:
        allowed = {package} if package in VERSIONS else set(VERSIONS) if name in KNOW_ONE else set()
        assert known <= allowed
        assert len(known) <= 1
    if name in ("pytorch_version.attention", "pytorch_version.layers"):
        assert not [i for i in imported if i.startswith("utils")]
    if name == "utils.config":
        assert not [i for i in imported if i.split(".")[0] in (*HEAVY, "utils")]
    if name == "utils.analysis":
        assert not [i for i in imported if i.startswith("matplotlib")]
    if name == "utils.visualization":
        assert not [i for i in imported if i.startswith("torch")]


ORDER = ["attention", "layers", "model", "generate", "state", "step", "saved", "train"]


@pytest.mark.parametrize("module", ORDER)
def test_the_scratch_model_builds_upwards(module):
    path = ROOT / "pytorch_version" / f"{module}.py"
    own = {i.split(".")[1] for i in imports_of(path) if i.startswith("pytorch_version.")}
    assert own <= set(ORDER[: ORDER.index(module)])


def test_main_imports_versions_lazily():
    at_top = {i.split(".")[0] for i in imports_of(ROOT / "main.py", top_level_only=True)}
    assert not at_top & {*VERSIONS, *HEAVY}


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_nothing_runs_on_import(path):
    for node in ast.parse(path.read_text("utf-8")).body:
        called = isinstance(node, ast.Expr) and isinstance(node.value, ast.Call)
        assert not called, f"line {node.lineno} does something when imported"
        assert not isinstance(node, ast.For | ast.While | ast.With)
