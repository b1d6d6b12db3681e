"""Every Python snippet of the documents runs, and prints what the page says that it prints."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
_BLOCK = re.compile(r"^```python\n(.*?)^```", re.M | re.S)
_SAID = re.compile(r"# -> (.*)$", re.M)


def _scripts():
    """One for each section that has a snippet; what stands before a page's first section is part of each of them."""
    for page in PAGES:
        before, *sections = re.split(r"^## ", page.read_text(), flags=re.M)
        prelude = "".join(_BLOCK.findall(before))
        if prelude and not any(map(_BLOCK.search, sections)):
            yield page.name, prelude
        for section in sections:
            if blocks := _BLOCK.findall(section):
                title = section.partition("\n")[0].lower().replace(" ", "-")
                yield f"{page.name}:{title}", prelude + "\n\n".join(blocks)


SCRIPTS = dict(_scripts())


@pytest.mark.parametrize("script", SCRIPTS.values(), ids=SCRIPTS)
def test_a_snippet_prints_what_it_says(script, name, tmp_path):
    assert '"shop"' in script, 'a snippet\'s broker is "shop", for which the test puts one of its own'
    file = tmp_path / "snippet.py"
    file.write_text(script.replace('"shop"', repr(name)))
    done = subprocess.run([sys.executable, "-W", "error", file], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")
    said = _SAID.findall(script)
    if said:
        assert done.stdout.replace(name, "shop").splitlines() == said


def test_there_are_snippets():
    assert len(SCRIPTS) > 15
