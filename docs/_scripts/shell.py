"""Commands in a page's lines: where they end, and what they become when they are checked."""

import re
import shlex

# A command up to what ends it: a comment, a pipe, another command, a redirection.
COMMAND = re.compile(r"""((?:[^'"#|;&<>\\]|\\.|(?<=\S)\#|'[^']*'|"(?:\\.|[^"\\])*"|<\w[\w' -]*>)*)(.*)""", re.DOTALL)
OURS = re.compile(r"(?:^|\s)-m iin_lightning\.(\w+)")
PLACEHOLDER = re.compile(r"<(?:the )?(\w+)[\w' -]*>")


def logical_lines(text: str) -> list[str]:
    r"""Lines, those that end in a backslash joined with the next.

    Example:
        >>> logical_lines("a \\\n  b\nc")
        ['a    b', 'c']
    """
    return text.replace("\\\n", " ").splitlines()


def with_arguments(line: str, arguments: str) -> str:
    """The line with arguments for our command, if it has one.

    Example:
        >>> with_arguments("X=1 python -m iin_lightning.train data='a b' | tail  # see", "trainer=smoke")
        "X=1 python -m iin_lightning.train data='a b' trainer=smoke | tail  # see"
        >>> with_arguments("ls", "trainer=smoke")
        'ls'
    """
    match = COMMAND.match(line)
    if not arguments or match is None or not OURS.search(match[1]):
        return line
    return f"{match[1].rstrip()} {arguments} {match[2]}".rstrip()


def ours(line: str) -> tuple[str, list[str]] | None:
    """The module and the arguments of our command in a line, placeholders filled with their own words.

    Example:
        >>> ours("python -m iin_lightning.train -m seed=0,1 paths.data=<your folder>  # a sweep")
        ('iin_lightning.train', ['-m', 'seed=0,1', 'paths.data=your'])
        >>> ours("ls") is None
        True
    """
    match = COMMAND.match(line)
    if match is None or (found := OURS.search(match[1])) is None:
        return None
    return f"iin_lightning.{found[1]}", shlex.split(PLACEHOLDER.sub(r"\1", match[1][found.end() :]))
