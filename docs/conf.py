"""The documentation as a site, built by `make docs` with Sphinx.

The pages are the Markdown files of this folder, which can also be read where the code is. On the site:

* The pages in `ROOT_FILES` show a file of the project's root, such as the README, with its links changed to fit.
* A link to a file that is no page, such as a notebook, offers that file; a link to a folder, or to Markdown elsewhere,
  is only text.
* `<!-- other pages -->` in index.md becomes the pages that index.md does not name, such as those of new features.
* `<!-- public names -->` in api.md becomes the public names of `ganzoo`, with their docstrings.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
sys.path[:0] = [str(ROOT), str(ROOT / "plugins")]

import sphinx_click.ext  # noqa: E402

import ganzoo  # noqa: E402

project = "ganzoo"
author = "the ganzoo developers"
release = version = ganzoo.__version__
project_copyright = author

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx_click"]
exclude_patterns = ["_build"]
source_suffix = {".md": "markdown"}
myst_heading_anchors = 3
default_role = "code"  # docstrings write `name` as Markdown does
smartquotes = False  # it turns --epochs into an en dash and a word
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_class_signature = "separated"
python_use_unqualified_type_names = True
python_maximum_signature_line_length = 100
html_theme = "furo"
html_title = f"ganzoo {release}"
html_copy_source = False
html_show_sphinx = False
html_show_search_summary = False  # it fetches each page that was found, which browsers refuse for files
html_theme_options: dict[str, Any] = {"navigation_with_keys": True}

#: page of the site -> the file of the project's root that it shows
ROOT_FILES = {
    "index": "README.md",
    "project/changelog": "CHANGELOG.md",
    "project/contributing": "CONTRIBUTING.md",
    "project/security": "SECURITY.md",
}
#: the same, to resolve links
_PAGE_OF = {ROOT / file: HERE / f"{page}.md" for page, file in ROOT_FILES.items()}
#: a Markdown link or picture with a relative target: the text in brackets, the target, an anchor
_LINK = re.compile(r"(?<!`)(!?\[[^\]]*\])\((?![a-z]+:|#)([^)\s#]+)(#[^)\s]*)?\)")
_FENCE = re.compile(r"^( *)(`{3,}).*?^\1\2 *$", re.MULTILINE | re.DOTALL)
#: heading on api.md -> the modules below ganzoo whose public names it has
_API_SECTIONS = {
    "Train, look, compare": ("api.", "server."),
    "Recipes and choices": ("contract.recipe", "contract.choice"),
    "Kinds of parts": (
        "contract.components",
        "contract.round",
        "contract.launcher",
        "contract.foreign",
        "contract.suited",
    ),
    "Hooks of plugins and observers": ("contract.hooks", "contract.run_view"),
    "Images, files and folders": ("contract.images", "contract.paths", "storage."),
    "Errors": ("contract.errors", "api.interrupt"),
}


def relink(text: str, source: Path, page: Path) -> str:
    """The Markdown text of the file `source` with its relative links changed so that they work on the page `page`.

    Code blocks stay as they are. A link to a folder, or to Markdown that is no page, becomes its text.
    """

    def changed(link: re.Match[str]) -> str:
        target = (source.parent / link[2]).resolve()
        target = _PAGE_OF.get(target, target)
        if target.is_dir() or (target.suffix == ".md" and HERE not in target.parents):
            return link[1][1:-1]
        # [json.md](json.md) gets the title of that page as its text
        is_file = link[1] in (f"[{link[2]}]", f"[{Path(link[2]).name}]") and target.suffix == ".md"
        shown = "[]" if is_file else link[1]
        return f"{shown}({_relative(target, page.parent)}{link[3] or ''})"

    parts, end = [], 0
    for fence in _FENCE.finditer(text):
        parts += [_LINK.sub(changed, text[end : fence.start()]), fence[0]]
        end = fence.end()
    return "".join([*parts, _LINK.sub(changed, text[end:])])


def _relative(target: Path, folder: Path) -> str:
    """The path from the folder to the target, with forward slashes."""
    shared = next(parent for parent in [folder, *folder.parents] if target.is_relative_to(parent))
    up = len(folder.relative_to(shared).parts)
    return "/".join([*[".."] * up, *target.relative_to(shared).parts])


def public_names() -> str:
    """Sphinx's directives for every public name of ganzoo, in sections: a name in no section is an error."""
    sections: dict[str, list[str]] = {title: [] for title in _API_SECTIONS}
    for home, names in ganzoo._HOMES.items():
        # the longest module that matches: `api.interrupt` is no `api.`
        fits = [(len(part), title) for title, homes in _API_SECTIONS.items() for part in homes if home.startswith(part)]
        sections[max(fits)[1]] += names.split()
    text = []
    for title, names in sections.items():
        text += [f"## {title}", "", "```{eval-rst}"]
        for name in names:
            text += [*_directive(name), ""]
        text += ["```", ""]
    return "\n".join(text)


def _directive(name: str) -> list[str]:
    value = getattr(ganzoo, name)
    if isinstance(value, type):
        return [f".. autoclass:: ganzoo.{name}", "   :members:"]
    if callable(value):
        return [f".. autofunction:: ganzoo.{name}"]
    return [f".. autodata:: ganzoo.{name}", "   :no-value:"]


def _show_examples(app: Any, ctx: Any, lines: list[str]) -> None:
    """Called by sphinx-click with a command's description: its examples, lines with a bar, become a block of code."""
    changed: list[str] = []
    for line in lines:
        example = line.startswith("| ")
        if example and not (changed and changed[-1].startswith("   ")):
            changed += [".. code-block:: text", ""]
        changed.append(f"   {line[2:].strip()}" if example else line)
    lines[:] = changed


def _read_source(app: Any, page: str, content: list[str]) -> None:
    """Called by Sphinx for each page that it has read: content[0] is its text."""
    file = HERE / f"{page}.md"
    text = relink(content[0], file, file)
    if page in ROOT_FILES:
        shown = ROOT / ROOT_FILES[page]
        text = text.replace("<!-- the file -->", relink(shown.read_text(encoding="utf-8"), shown, file))
    if "<!-- other pages -->" in text:
        named = {page, *re.findall(r"^[\w-]+$", content[0], re.MULTILINE)}
        others = sorted({one.stem for one in HERE.glob("*.md")} - named)
        text = text.replace("<!-- other pages -->", "\n".join(others))
    content[0] = text.replace("<!-- public names -->", public_names())


def setup(app: Any) -> None:
    """Called by Sphinx at the start."""
    app.connect("source-read", _read_source)
    app.connect("sphinx-click-process-description", _show_examples)
    # each option has a variable, as cli.md says: a second list of all options would only be longer
    sphinx_click.ext._format_envvars = lambda ctx: iter(())
