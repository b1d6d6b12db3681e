"""Imports of the package point one way."""

import ast
from pathlib import Path

import mqshm

ORDER = [
    {"errors", "words"}, {"topics"}, {"config", "headers", "observe", "health"}, {"_native", "diagnosis", "settings"},
    {"_common"}, {"_lease"}, {"_plain", "_fast"},
    {"message", "segment"},
    {"stats", "aio", "transaction", "loan"}, {"publisher", "upkeep", "subscription", "starting", "vitals"},
    {"deadletters"}, {"broker"}, {"__init__"}, {"supervisor"}, {"demo"}, {"cli"}, {"__main__"},
]  # fmt: skip
LEVEL = {name: level for level, names in enumerate(ORDER) for name in names}


def _room(path: Path, root: Path) -> str:
    return path.relative_to(root).parts[0].removesuffix(".py")


def _imported(tree: ast.Module) -> set[str]:
    """Names of the package's own modules that are imported when this one is."""
    found = set()
    for node in tree.body:
        if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] == "mqshm":
            if node.module == "mqshm":
                found |= {alias.name if alias.name in {*LEVEL, "_front"} else "__init__" for alias in node.names}
            else:
                found.add(node.module.split(".")[1])
    return found - {"_core", "_front"}


def test_a_module_imports_only_from_below():
    root = Path(mqshm.__file__).parent
    for path in root.rglob("*.py"):
        room = _room(path, root)
        for below in _imported(ast.parse(path.read_text())):
            assert below == room or LEVEL[below] < LEVEL[room], f"{path} imports {below}"


def test_only_one_module_imports_the_core():
    root = Path(mqshm.__file__).parent
    importers = {path.name for path in root.rglob("*.py") if "mqshm._core import" in path.read_text()}
    assert importers == {"_native.py"}
