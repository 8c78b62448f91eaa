"""What stands in a page to be run: its fenced blocks, with what a comment before each says of the check."""

import re
from dataclasses import dataclass, field
from pathlib import Path

# Fences inside of lists, tabs and notes are indented.
FENCE = re.compile(r"^(?P<indent> *)(?P<fence>`{3,}|~{3,}) *(?P<language>[\w+-]*)(?P<options>.*)$")
CHECK = re.compile(r"<!-- *check: *(.*?) *-->")
TITLE = re.compile(r"""\btitle=(["'])(.+?)\1""")
INDENTED = re.compile(
    r"^ {4,}((?:[A-Z_]+=\S+ )*(?:\S+ .*)?python -m iin_lightning\.\w+\b.*|torchrun .*-m iin_lightning\..*)$"
)
# Would look as if they were checked.
MISTAKEN = {"sh": "bash", "shell": "bash", "console": "bash", "zsh": "bash", "py": "python", "python3": "python"}


class PageError(Exception):
    """A page says something that the check does not know."""


@dataclass
class Block:
    """One fenced block, or one indented command.

    Attributes:
        page: the file, relative to the root of the project.
        line: of its first line, from 1.
        kind: bash, python, or file: what a block with ``title="mine.py"`` is written to.
        text: without the indentation that all its lines share.
        how: run, compose, no, until, or as.
        said: what follows that word: a reason, a pattern, a command; of run: arguments.
    """

    page: str
    line: int
    kind: str
    text: str
    how: str = "run"
    said: str = ""

    @property
    def where(self) -> str:
        """The place as editors understand it."""
        return f"{self.page}:{self.line}"

    @property
    def title(self) -> str:
        """The first line that is a command."""
        lines = [line.strip() for line in self.text.splitlines()]
        return next((line for line in lines if line and not line.startswith("#")), "")


@dataclass
class Page:
    """A page's blocks in order.

    Attributes:
        path: relative to the root of the project.
        blocks: in order.
        after: the page in whose folder it goes on.
    """

    path: str
    blocks: list[Block] = field(default_factory=list)
    after: str | None = None


def read(root: Path, path: Path) -> Page:
    """Read a page.

    Raises:
        PageError: a comment or a language that the check does not know, or a fence without end.
    """
    page = Page(path.relative_to(root).as_posix())
    said: str | None = None
    lines = enumerate(path.read_text().splitlines(), 1)
    for number, line in lines:
        if (check := CHECK.search(line)) is not None:
            if check[1].startswith("page="):
                page.after = check[1].removeprefix("page=")
            else:
                said = check[1]
        elif (fence := FENCE.match(line)) is not None:
            content, closed = [], False
            for _, inner in lines:
                if closed := inner.strip().startswith(fence["fence"]) and not inner.strip().strip(fence["fence"][0]):
                    break
                content.append(inner[len(fence["indent"]) :] if inner.startswith(fence["indent"]) else inner.lstrip())
            if not closed:
                raise PageError(f"{page.path}:{number}: this fence has no end.")
            block = _fenced(
                Block(page.path, number + 1, fence["language"], "\n".join(content) + "\n"), fence["options"]
            )
            if block is not None:
                page.blocks.append(_directed(block, said))
            elif said is not None:
                raise PageError(f"{page.path}:{number}: `check: {said}` stands before a block that is not run.")
            said = None
        elif (command := INDENTED.match(line)) is not None:
            page.blocks.append(Block(page.path, number, "bash", command[1] + "\n", "compose"))
        elif line.strip() and said is not None:
            raise PageError(f"{page.path}:{number}: `check: {said}` must stand right before a block.")
    return page


def _fenced(block: Block, options: str) -> Block | None:
    """The block with its kind; None for output, configuration and all else that only is looked at."""
    if (title := TITLE.search(options)) is not None:
        block.kind, block.said = "file", title[2]
        return block
    if block.kind in MISTAKEN:
        raise PageError(f"{block.where}: write ```{MISTAKEN[block.kind]}, not ```{block.kind}; output is ```text.")
    return block if block.kind in ("bash", "python") else None


def _directed(block: Block, said: str | None) -> Block:
    """The block with what the comment before it says."""
    if said is None:
        return block
    word, _, rest = said.partition(" ")
    rest = rest.strip()
    if block.kind == "file":
        raise PageError(f"{block.where}: a block with a title is written to a file; nothing is to be checked of it.")
    if word.rstrip(",:") == "no":
        if not rest:
            raise PageError(f"{block.where}: say why it is not run: `check: no, <reason>`.")
        block.how, block.said = "no", rest
    elif word in ("compose", "until", "as"):
        if bool(rest) == (word == "compose"):
            raise PageError(f"{block.where}: `check: {said}`: compose stands alone, until and as need something.")
        block.how, block.said = word, rest
    elif all("=" in argument for argument in said.split()):
        block.said = said
    else:
        raise PageError(
            f"{block.where}: `check: {said}` is none of: key=value ..., compose, until <text>, as <command>, "
            "no, <reason>."
        )
    return block
