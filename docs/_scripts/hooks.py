"""What `make docs` adds to the pages that are written: references made of conf/ and src/, and formulas as MathML."""

import html
import re
import sys
from pathlib import Path
from typing import Any

from latex2mathml.converter import convert
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page
from mkdocs.utils import get_relative_url

sys.path.insert(0, str(Path(__file__).parent))

import api
import configuration

SHIM = re.compile(r"https://[^\s\"']+/iframe-worker/shim")  # by which the theme lets the search work from files
ASKED = re.compile(
    r"""<(?:script|img|iframe|source|link\b(?![^>]*rel="?(?:canonical|license)))[^>]*(?:src|href)="?https?:"""
)
FORMULA = re.compile(r'<(span|div) class="arithmatex">(\\\(|\\\[)(.*?)(?:\\\)|\\\])</\1>', re.DOTALL)


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the generated pages, and fill the `folder/*` of the navigation."""
    root = Path(config.config_file_path).parent
    for path, text in {**configuration.pages(root), **api.pages(root)}.items():
        files.append(File.generated(config, path, content=text))
    every = [file.src_uri for file in files.documentation_pages()]
    config.nav = [_filled(entry, every) for entry in config.nav or []]
    return files


def on_page_content(content: str, **_: Any) -> str:
    """Make MathML of the formulas, which browsers draw without a script."""
    return FORMULA.sub(_mathml, content)


def on_post_page(output: str, page: Page, **_: Any) -> str:
    """Let the script by which the search works from files be our own: the theme's is on the internet."""
    return SHIM.sub(get_relative_url("_assets/worker.js", page.url), output)


def on_post_template(output_content: str, **_: Any) -> str:
    """The same for the page that is shown where there is none, from a server only."""
    return SHIM.sub("/_assets/worker.js", output_content)


def on_post_build(config: MkDocsConfig) -> None:
    """See that the pages ask nothing of the internet, whatever a newer theme does.

    Raises:
        PluginError: one does, or none has the script of the search, so that the search would not work from files.
    """
    pages = {path: path.read_text(encoding="utf-8") for path in Path(config.site_dir).rglob("*.html")}
    if asking := [f"{path}: {found[0]}" for path, text in pages.items() if (found := ASKED.search(text))]:
        raise PluginError("These pages load something from the internet:\n" + "\n".join(asking))
    if not any("_assets/worker.js" in text for text in pages.values()):
        raise PluginError("No page has the script by which the search works from files: see SHIM in hooks.py.")


def _filled(entry: Any, every: list[str]) -> Any:
    ((title, pages),) = entry.items()
    if isinstance(pages, str) and pages.endswith("/*"):
        return {title: [page for page in every if page.startswith(pages[:-1])]}
    return entry


def _mathml(match: re.Match[str]) -> str:
    tag, opened, text = match.groups()
    formula, number = html.unescape(text).strip(), ""
    if (found := re.search(r"\\tag\{(.+?)\}", formula)) is not None:
        formula, number = formula.replace(found[0], ""), f'<span class="number">({found[1]})</span>'
    drawn = convert(formula, display="block" if opened == r"\[" else "inline")
    # A prime is raised already.
    drawn = re.sub(r"<msup>(<mi>.</mi>)<mi>&#x02032;</mi></msup>", r'\1<mo lspace="0" rspace="0">&#x02032;</mo>', drawn)
    # As TeX spaces them: bars close to what they enclose, a name apart from its argument.
    drawn = re.sub(
        r"<mo[^>]*>(&#x0007C;|&#x02016;|&#x02225;|\||‖|∥)</mo>",
        r'<mo lspace="0" rspace="0" stretchy="false">\1</mo>',
        drawn,
    )
    drawn = re.sub(r"<m([io])>(log|tanh|tr|Var|Cov|KL|softplus)</m\1>(?!<mo[^>]*>(?:\(|&#x00028;))", _apart, drawn)
    return f'<{tag} class="arithmatex">{drawn}{number}</{tag}>'


def _apart(match: re.Match[str]) -> str:
    return f'<mspace width="0.17em"/>{match[0]}<mspace width="0.17em"/>'
