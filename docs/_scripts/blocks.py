"""What stands in a page to be run: its fenced blocks, with what a comment before each says of the check."""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

# Fences inside of lists, tabs and notes are indented.
FENCE = re.compile(r"^(?P<indent> *)(?P<fence>`{3,}|~{3,}) *(?P<language>[\w+-]*)(?P<options>.*)$")
CHECK = re.compile(r"<!-- *check: *(.*?) *-->")
TITLE = re.compile(r"""\btitle=(["'])(.+?)\1""")
OURS = r"(?:[A-Z_]+=\S+ )*(?:\S+ .*)?-m iin_lightning\.\w+\b.*"
INDENTED = re.compile(rf"^ {{4,}}({OURS})$")
INLINE = re.compile(rf"`({OURS.replace('.*', '[^`]*')})`")
# Would look as if they were checked.
MISTAKEN = {"sh": "bash", "shell": "bash", "console": "bash", "zsh": "bash", "py": "python", "python3": "python"}


class PageError(Exception):
    """A page says something that the check does not know."""


@dataclass
class Block:
    """One fenced block, or one command that is indented or stands within a sentence.

    Attributes:
        page: the file, relative to the root of the project.
        line: of its first line, from 1.
        kind: bash, python, or file: what a block with ``title="mine.py"`` is written to.
        text: without the indentation that all its lines share.
        how: run, compose, no, until, or as.
        said: what follows that word: a reason, a text, a command; of run: arguments.
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
    lines = enumerate(path.read_text(encoding="utf-8").splitlines(), 1)
    for number, line in lines:
        if (check := CHECK.search(line)) is not None:
            if check[1].startswith("page="):
                page.after = check[1].removeprefix("page=")
            else:
                said = check[1]
        elif (fence := FENCE.match(line)) is not None:
            text = _content(lines, fence, f"{page.path}:{number}")
            block = _fenced(Block(page.path, number + 1, fence["language"], text), fence["options"])
            if block is not None:
                page.blocks.append(_directed(block, said))
            elif said is not None:
                raise PageError(f"{page.path}:{number}: `check: {said}` stands before a block that is not run.")
            said = None
        elif (command := INDENTED.match(line)) is not None:
            page.blocks.append(Block(page.path, number, "bash", command[1] + "\n", "compose"))
        elif line.strip() and said is not None:
            raise PageError(f"{page.path}:{number}: `check: {said}` must stand right before a block.")
        else:
            page.blocks += [Block(page.path, number, "bash", f"{found}\n", "compose") for found in INLINE.findall(line)]
    return page


def _content(lines: Iterator[tuple[int, str]], fence: re.Match[str], where: str) -> str:
    """What stands between a fence and its end, without the fence's own indentation."""
    content = []
    for _, line in lines:
        bare = line.strip()
        if bare.startswith(fence["fence"]) and not bare.strip(fence["fence"][0]):
            return "\n".join(content) + "\n"
        content.append(line[len(fence["indent"]) :] if line.startswith(fence["indent"]) else line.lstrip())
    raise PageError(f"{where}: this fence has no end.")


def _fenced(block: Block, options: str) -> Block | None:
    """The block with its kind; None for output, configuration and all else that only is looked at."""
    if (title := TITLE.search(options)) is not None:
        block.kind, block.said = "file", title[2]
        return block
    if not block.kind:
        raise PageError(f"{block.where}: say what stands here: ```bash for commands, ```text for output.")
    if block.kind in MISTAKEN:
        raise PageError(f"{block.where}: write ```{MISTAKEN[block.kind]}, not ```{block.kind}; output is ```text.")
    return block if block.kind in ("bash", "python") else None


def _directed(block: Block, said: str | None) -> Block:
    """The block with what the comment before it says."""
    if said is None:
        return block
    word, _, rest = said.partition(" ")
    word, rest = word.rstrip(",:"), rest.strip()
    if block.kind == "file":
        raise PageError(f"{block.where}: a block with a title is written to a file; nothing is to be checked of it.")
    if word in ("no", "compose"):
        if not rest:
            raise PageError(f"{block.where}: say why it is not run: `check: {word}, <reason>`.")
    elif word in ("until", "as"):
        if not rest:
            raise PageError(f"{block.where}: `check: {word}` needs a text, or a command.")
    elif all("=" in argument for argument in said.split()):
        word, rest = "run", said
    else:
        raise PageError(
            f"{block.where}: `check: {said}` is none of: key=value ..., compose, <reason>, until <text>, as <command>, "
            "no, <reason>."
        )
    block.how, block.said = word, rest
    return block
