"""The site of docs/ builds without a warning, and none of its links is broken."""

from __future__ import annotations

import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote

import pytest
from documents import DOCUMENTS, ROOT, name_of

CARDS = [card for card in (ROOT / "models").glob("*.md") if not card.name.endswith(".notes.md")]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "-d", str(folder)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


class Links(HTMLParser):
    def __init__(self, page: Path) -> None:
        super().__init__()
        self.targets: list[str] = []
        self.anchors: set[str] = set()
        self.feed(page.read_text("utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        for name, value in attrs:
            if name in ("id", "name") and value:
                self.anchors.add(value)
            elif name in ("href", "src") and value and tag != "base":
                self.targets.append(value)


def test_every_link_of_the_site_leads_to_a_file_and_an_anchor_of_it(site: Path) -> None:
    pages = {page: Links(page) for page in site.rglob("*.html") if page.name != "404.html"}
    assert len(pages) > 20
    for page, links in pages.items():
        for target in links.targets:
            if re.match(r"\w+:|//", target):
                continue
            path, _, anchor = target.partition("#")
            found = (page.parent / unquote(path)).resolve() if path else page
            assert found.is_file() or (found / "index.html").is_file(), f"{page.name}: {target}"
            if anchor and found in pages and anchor != "__skip":
                assert unquote(anchor) in pages[found].anchors, f"{page.name}: {target}"


def test_the_reference_shows_every_public_name(site: Path) -> None:
    import edgekit

    page = (site / "reference" / "python.html").read_text("utf-8")
    for name in edgekit.__all__:
        assert f'id="edgekit.{name}"' in page, name


def test_no_page_fetches_anything_from_elsewhere(site: Path) -> None:
    for page in site.rglob("*.html"):
        fetched = re.findall(
            r'<(?:link|script|img)[^>]+(?:href|src)="(https?:[^"]+)"', page.read_text("utf-8")
        )
        assert [one for one in fetched if "canonical" not in one] == [], page.name


@pytest.mark.parametrize("document", [*DOCUMENTS, *CARDS], ids=name_of)
def test_every_link_of_a_page_works_in_the_repository(document: Path) -> None:
    text = re.sub(r"^```.*?^```", "", document.read_text("utf-8"), flags=re.DOTALL | re.MULTILINE)
    for target, anchor in re.findall(r"\]\((?!\w+:)([^)#\s]*)(?:#([^)\s]+))?\)", text):
        found = (document.parent / target).resolve() if target else document
        assert found.is_file() or (document.name == "README.md" and found.is_dir()), target
        if anchor and found.suffix == ".md":
            assert anchor in headings(found), f"{target}#{anchor}"


def test_every_paper_has_a_page_of_its_own_that_says_what_differs_and_was_not_checked() -> None:
    folder = ROOT / "docs" / "papers"
    index = (folder / "index.md").read_text("utf-8")
    rows = [line for line in index.splitlines() if line.startswith("| ")][1:]
    pages = [re.findall(r"\]\((\w[\w-]*\.md)\)", row) for row in rows]
    assert sorted(map(tuple, pages)) == sorted(
        (page.name,) for page in folder.glob("*.md") if page.name != "index.md"
    )
    for row, (page,) in zip(rows, pages, strict=True):
        text = (folder / page).read_text("utf-8")
        assert {"reproduced", "what-differs", "what-could-not-be-checked"} <= headings(
            folder / page
        )
        for number in re.findall(r"arXiv (\d+\.\d+)", row):
            assert number in text, f"{page}: {number}"


def headings(page: Path) -> set[str]:
    lines = re.findall(r"^#+ (.+)$", page.read_text("utf-8"), flags=re.MULTILINE)
    return {re.sub(r"[^\w -]", "", line).strip().lower().replace(" ", "-") for line in lines}
