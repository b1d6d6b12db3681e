"""The public surface as the source declares it: names, parameters and defaults, also of what only type checkers see."""

from __future__ import annotations

import ast
import importlib
import inspect
from collections.abc import Iterator
from pathlib import Path

import mqshm

_FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)
_LENT = {"Broker": ("mqshm.publisher", "Publisher", ("publish", "publish_batch"))}
"""Methods that a class has from one that is not public."""


def public() -> Iterator[tuple[str, str]]:
    """Each public name with its kind: class, function or error."""
    for name in mqshm.__all__:
        found = getattr(mqshm, name)
        if inspect.isclass(found) and issubclass(found, Exception):
            yield name, "error"
        else:
            yield name, "class" if inspect.isclass(found) else "function"


def signature(name: str) -> str:
    """Of a function: `connect(name, *, create=True)`."""
    node = _find(getattr(mqshm, name).__module__, name)
    assert isinstance(node, _FUNCTIONS)
    return f"{name}({_parameters(node.args)})"


def members(name: str) -> dict[str, str]:
    """Of a class: each public member, with its signature where it is a method, its default where it is a field."""
    node = _find(getattr(mqshm, name).__module__, name)
    assert isinstance(node, ast.ClassDef)
    found: dict[str, str] = {}
    for member, text in _members(name, node):
        found[member] = text or found.get(member, "")  # a declared method stays one where another is put in its place
    if name in _LENT:
        module, lender, verbs = _LENT[name]
        lent = _find(module, lender)
        assert isinstance(lent, ast.ClassDef)
        found |= {verb: text for verb, text in _members(name, lent) if verb in verbs}
    return found


def _find(module: str, name: str) -> ast.stmt:
    file = importlib.import_module(module).__file__
    assert file is not None
    for node in ast.parse(Path(file).read_text()).body:
        if isinstance(node, (ast.ClassDef, *_FUNCTIONS)) and node.name == name:
            return node
    raise AssertionError(f"{module} does not define {name}")


def _members(owner: str, node: ast.ClassDef) -> Iterator[tuple[str, str]]:
    for each in _statements(node):
        if isinstance(each, _FUNCTIONS):
            if each.name == "__init__":
                yield from ((name, "") for name in _set_on_self(each))
            if each.name.startswith("_"):
                continue
            if any(ast.unparse(decorator) == "property" for decorator in each.decorator_list):
                yield each.name, ""
            else:
                start = "await " if isinstance(each, ast.AsyncFunctionDef) else ""
                yield each.name, f"{start}{owner}.{each.name}({_parameters(each.args)})"
        elif isinstance(each, ast.AnnAssign) and isinstance(each.target, ast.Name):
            if not each.target.id.startswith("_"):
                yield each.target.id, ast.unparse(each.value) if each.value else ""
        elif isinstance(each, ast.Assign):
            name = ast.unparse(each.targets[0])
            if not name.startswith("_"):
                yield name, ast.unparse(each.value)


def _statements(node: ast.ClassDef) -> Iterator[ast.stmt]:
    for each in node.body:
        if isinstance(each, ast.If):
            yield from each.body
        else:
            yield each


def _set_on_self(init: ast.FunctionDef | ast.AsyncFunctionDef) -> Iterator[str]:
    """Attributes; a method that is put in the place of a declared one is none."""
    for each in ast.walk(init):
        if isinstance(each, (ast.Assign, ast.AnnAssign)):
            for target in each.targets if isinstance(each, ast.Assign) else [each.target]:
                owner, _, name = ast.unparse(target).rpartition(".")
                if owner == "self" and not name.startswith("_"):
                    yield name


def _parameters(args: ast.arguments) -> str:
    """As the source has them, without annotations and without self."""
    for each in (*args.args, *args.kwonlyargs, args.vararg, args.kwarg):
        if each is not None:
            each.annotation = None
    args.args = [each for each in args.args if each.arg != "self"]
    return ast.unparse(args).replace("384", "0o600")
