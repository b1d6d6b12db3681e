"""The reference has every public name, parameter and default, and no other."""

import argparse
import re

import pytest

import mqshm
from mqshm import cli
from tests.docs import surface
from tests.docs.test_snippets import ROOT

TEXT = (ROOT / "docs" / "reference.md").read_text()
SECTIONS = {part.partition("\n")[0]: part for part in re.split(r"^## ", TEXT, flags=re.M)[1:]}
KINDS = dict(surface.public())
CLASSES = [name for name, kind in KINDS.items() if kind == "class"]


def _signatures(section: str) -> set[str]:
    return set(re.findall(r"^### `(.*)`$", SECTIONS[section], re.M))


def _rows(section: str) -> dict[str, str]:
    """What stands first in the rows of the section's tables, and second."""
    rows = {}
    for first, second in re.findall(r"^\| (`.*?) \| ?(.*?) ?\|", SECTIONS[section], re.M):
        rows |= dict.fromkeys(re.findall(r"`(.*?)`", first), second)
    return rows


def test_the_functions_are_there_with_their_parameters():
    assert _signatures("Functions") == {surface.signature(n) for n, kind in KINDS.items() if kind == "function"}


@pytest.mark.parametrize("name", CLASSES)
def test_a_class_is_there_with_its_methods_and_attributes(name):
    members = surface.members(name)
    methods = {text for text in members.values() if text.removeprefix("await ").startswith(f"{name}.")}
    assert _signatures(name) == methods
    fields = {member: default for member, default in members.items() if default not in methods}
    rows = _rows(name)
    assert rows.keys() == fields.keys()
    for field, default in fields.items():
        if default:
            assert rows[field] == f"`{default}`", field


def test_the_errors_are_there_with_what_they_also_are():
    assert _rows("Errors").keys() == {name for name, kind in KINDS.items() if kind == "error"}
    for name, also in _rows("Errors").items():
        bases = [base for base in getattr(mqshm, name).__bases__ if base not in (mqshm.MQError, mqshm.NoRoom)]
        said = [word.rpartition(".")[2] for word in re.findall(r"`(.*?)`", also)]
        assert said == [base.__name__ for base in bases], name


def test_there_is_no_section_for_what_is_not_public():
    assert SECTIONS.keys() == {*CLASSES, "Functions", "Errors", "Command line"}


def test_every_verb_is_there_with_its_options():
    said = {row.split()[0]: row for row in _rows("Command line")}
    verbs = {}
    for name, parser in _parsers().items():
        verbs[name] = {action.option_strings[-1] if "--" in action.option_strings[0] else action.option_strings[0]
                       for action in parser._actions if action.option_strings}  # fmt: skip
        assert set(re.findall(r"(?<![\w-])--?[a-z-]+", said.get(name, ""))) == verbs[name] - {"-h"}, name
    assert said.keys() == verbs.keys()


def _parsers() -> dict[str, argparse.ArgumentParser]:
    (verbs,) = (action for action in cli.parser()._actions if isinstance(action, argparse._SubParsersAction))
    return dict(verbs.choices)


@pytest.mark.parametrize("page", ["README.md", "docs/quickstart.md", "docs/guide.md"])
def test_the_commands_in_the_pages_are_ones_that_there_are(page):
    parsers = _parsers()
    shell = re.findall(r"^```sh\n(.*?)^```|`(mqshm [^`\n]*)`", (ROOT / page).read_text(), re.M | re.S)
    lines = re.findall(r"\bmqshm ([a-z]+)([^\n|;&]*)", "\n".join(map("".join, shell)))
    assert lines
    for verb, rest in lines:
        assert verb in parsers, f"{page}: mqshm {verb}"
        options = {option for action in parsers[verb]._actions for option in action.option_strings}
        assert set(re.findall(r"(?<!\S)--?[a-z-]+", rest)) <= options, f"{page}: mqshm {verb} {rest}"
