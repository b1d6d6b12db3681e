"""Links in the documents lead to what is there."""

import re

import pytest

from tests.docs.test_snippets import PAGES, ROOT

_LINK = re.compile(r"\]\(([^)\s]+)\)")
_FENCE = re.compile(r"^```.*?^```", re.M | re.S)


def _anchors(text):
    heads = re.findall(r"^#+ (.*)$", _FENCE.sub("", text), re.M)
    return {re.sub(r"[^\w\- ]", "", head.lower()).strip().replace(" ", "-") for head in heads}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page):
    for link in _LINK.findall(_FENCE.sub("", page.read_text())):
        if re.match(r"[a-z]+:", link):
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), f"{page.name}: {link}"
        if anchor:
            assert anchor in _anchors(target.read_text()), f"{page.name}: {link}"


def test_every_page_is_in_the_index():
    index = (ROOT / "docs" / "README.md").read_text()
    for page in (ROOT / "docs").glob("*.md"):
        assert page.name == "README.md" or f"({page.name})" in index, page.name


def test_every_dependency_is_explained_with_its_range():
    page = (ROOT / "docs" / "dependencies.md").read_text()
    project = (ROOT / "pyproject.toml").read_text()
    needed = re.findall(r'"([a-z-]+)>=([0-9.]+)', project)
    assert len(needed) > 6
    for name, least in needed:
        row = next((line for line in page.splitlines() if line.startswith("|") and name in line.split("|")[1]), "")
        assert re.search(rf"\b{re.escape(least)}\b", row), f"{name} {least}"


def test_the_readme_leads_to_the_index():
    assert "docs/README.md" in _LINK.findall((ROOT / "README.md").read_text())
