"""Brings into the site what its pages link to outside docs/: model cards as pages, other files as text.

A hook of mkdocs. Pages link as they do in the repository, `../edgekit/split/rans.c`, so that links work there too.
"""

from __future__ import annotations

import posixpath
import re
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).parents[1]
LINK = re.compile(r"(?<=\]\()(?!\w+:|#)([^)#\s]+)")


def on_files(files: Files, config: MkDocsConfig) -> Files:
    for card in sorted((ROOT / "models").glob("*.md")):
        if not card.name.endswith(".notes.md"):
            path = str(card)
            files.append(File.generated(config, f"cards/{card.name}", abs_src_path=path))
    linked = {
        in_repository(file.src_uri, target)
        for file in files.documentation_pages()
        for target in LINK.findall(file.content_string)
    }
    for target in sorted(linked):
        if not is_of_site(target) and (ROOT / target).is_file():  # else mkdocs misses the link
            path = str(ROOT / target)
            files.append(File.generated(config, of_site(target), abs_src_path=path))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    here = posixpath.dirname(page.file.src_uri)

    def moved(link: re.Match[str]) -> str:
        target = in_repository(page.file.src_uri, link[1])
        return posixpath.relpath(of_site(target), here or ".")

    return LINK.sub(moved, markdown)


def in_repository(page: str, target: str) -> str:
    """Path from the repository's root of what a page of the site links to."""
    home = page.replace("cards/", "models/", 1) if page.startswith("cards/") else f"docs/{page}"
    return posixpath.normpath(posixpath.join(posixpath.dirname(home), target))


def is_of_site(path: str) -> bool:
    return path.startswith("docs/") or bool(re.fullmatch(r"models/[^/]+\.md", path))


def of_site(path: str) -> str:
    if path.startswith("docs/"):
        return path.removeprefix("docs/")
    if is_of_site(path):
        return path.replace("models/", "cards/", 1)
    return f"repository/{path}.txt"  # which browsers show, whatever it holds
