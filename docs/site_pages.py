"""What the site has beside the files of docs/ (hooks of mkdocs).

It is pages from the project's root, and links that fit.
"""

from __future__ import annotations

import posixpath
import re
from pathlib import Path
from typing import Any

from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File

ROOT = Path(__file__).parent.parent
FROM_ROOT = {
    "README.md": "index.md",
    "CONTRIBUTING.md": "contributing.md",
    "CHANGELOG.md": "changelog.md",
    "SECURITY.md": "security.md",
}
"""Files of the project's root to pages of the site."""

_LINK = re.compile(r"(?<=\]\()([^)\s#]+)(#[^)\s]*)?(?=\))")
_FOREIGN = re.compile(r"<(?:script|img|iframe|link)\b[^>]*\b(?:src|href)=[\"']?(?:https?:)?//[^>]*>")
_CANONICAL = ("canonical", "alternate")


def on_files(files: Any, config: Any) -> Any:
    """Add the pages from the root."""
    for name, page in FROM_ROOT.items():
        files.append(File.generated(config, page, content=(ROOT / name).read_text(encoding="utf-8")))
    return files


def on_page_markdown(markdown: str, page: Any, config: Any, files: Any) -> str:
    """Turn links between the repository's files into links between pages, or into links to the repository."""
    repository = config.extra["repository"]
    folder = "" if page.file.src_uri in FROM_ROOT.values() else "docs"

    def fitting(found: re.Match[str]) -> str:
        link, anchor = found[1], found[2] or ""
        if ":" in link:
            return found[0]
        path = posixpath.normpath(posixpath.join(folder, link))
        if path in FROM_ROOT:
            return FROM_ROOT[path] + anchor
        if path.startswith("docs/"):
            return path.removeprefix("docs/") + anchor
        if not (ROOT / path).exists():
            raise PluginError(f"{page.file.src_uri} links to {link}, which is not there")
        return f"{repository}/blob/main/{path}{anchor}"

    return _LINK.sub(fitting, markdown)


def on_post_page(output: str, page: Any, config: Any) -> str:
    """Refuse what a browser would load from another host: the site works offline."""
    for found in _FOREIGN.findall(output):
        if not any(word in found for word in _CANONICAL):
            raise PluginError(f"{page.file.src_uri} loads something from elsewhere: {found[:200]}")
    return output
