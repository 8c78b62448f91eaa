"""Does what the documentation says: every block of commands and of Python in README.md, docs/ and examples/, in order.

    python docs/_scripts/check.py                      all pages
    python docs/_scripts/check.py README tutorial      pages by name
    python docs/_scripts/check.py --list               what would be done

Each page has a temporary folder; trained networks (models/) and latents (cache/) are shared by all pages. Two pages are
done at the same time, but pages of the same folder one after the other, and each process has one thread. The project's
Python comes first in PATH. In a page:

- ```bash is run by `bash -e`, and ```python by Python, each block by a process of its own;
- a block with title="mine.py" is written to that file in the page's folder;
- other languages (```text for output, ```yaml) are only looked at;
- a notebook of examples/ is run from top to bottom;
- commands that are indented or stand within a sentence, where <words> stand for what only the reader knows, are
  composed, not run: their groups and keys exist.

A comment right before a block says otherwise:

    <!-- check: trainer=smoke model.steps=2 -->   appended to each command of ours in the block
    <!-- check: compose, <reason> -->             only composed
    <!-- check: until Running on -->              stopped by Ctrl-C once it has printed this
    <!-- check: as <command> -->                  this is run in its place
    <!-- check: no, <reason> -->                  not run
    <!-- check: page=tutorial -->                 (anywhere) the page goes on in that page's folder

Exits with 1 if anything failed.
"""

import argparse
import re
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from blocks import Block, Page, PageError, read
from done import Failed, Run

ROOT = Path(__file__).parents[2]
JOBS = 2
STATES = {"run": "ok", "until": "ok", "as": "ok", "compose": "composed", "no": "not run"}


def pages(names: list[str]) -> list[Page]:
    """The pages of these names (all without any), each behind the page in whose folder it goes on.

    Raises:
        PageError: there is no such page, or one says what the check does not know.
    """
    paths = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md")), *sorted((ROOT / "experiments").rglob("*.md"))]
    every = {name_of(path): read(ROOT, path) for path in paths}
    for path in sorted((ROOT / "examples").glob("*.ipynb")):
        name = path.relative_to(ROOT).as_posix()
        every[name_of(path)] = Page(name, [Block(name, 1, "notebook", "all cells")])
    for name in [*names, *filter(None, (page.after for page in every.values()))]:
        if name not in every:
            raise PageError(f"There is no page {name}; there are {', '.join(every)}.")
    order: dict[str, Page] = {}

    def add(name: str) -> None:
        page = every[name]
        if page.after is not None and page.after not in order:
            add(page.after)
        order.setdefault(name, page)

    for name in names or every:
        add(name)
    return [page for page in order.values() if page.blocks]


def name_of(path: Path) -> str:
    """A page's name: what stands behind docs/, without the ending."""
    relative = path.relative_to(ROOT).with_suffix("")
    return relative.as_posix().removeprefix("docs/")


Result = tuple[Block, str, float, str]
"""A block with its state, seconds, and what it printed if it failed."""


def check(todo: list[Page], top: Path, jobs: int = JOBS) -> list[Result]:
    """Do all blocks of the pages below a folder, in chains of pages that share one."""
    chains: dict[str, list[Page]] = {}
    heads: dict[str, str] = {}
    for page in todo:  # each behind the page in whose folder it goes on
        name = name_of(ROOT / page.path)
        heads[name] = heads[page.after] if page.after else name
        chains.setdefault(heads[name], []).append(page)
    longest = sorted(chains.items(), key=lambda item: -sum(len(page.blocks) for page in item[1]))
    with ThreadPoolExecutor(jobs) as pool:
        done = [pool.submit(_chain, pages, top, name.replace("/", "_")) for name, pages in longest]
        return [result for results in done for result in results.result()]


def _chain(pages: list[Page], top: Path, name: str) -> list[Result]:
    folder = top / name
    folder.mkdir()
    for shared in ("models", "cache"):
        (top / shared).mkdir(exist_ok=True)
        (folder / shared).symlink_to(top / shared)
    return [result for page in pages for result in _page(page, folder)]


def _page(page: Page, folder: Path) -> Iterator[Result]:
    run = Run(ROOT, folder)
    broken = False
    for block in page.blocks:
        started, state, text = time.monotonic(), STATES[block.how], ""
        if block.kind == "file":
            state = "written"
        try:
            # What follows a failure most often fails because of it.
            if broken and block.how not in ("no", "compose"):
                state = "skipped"
            else:
                run.do(block)
        except Failed as error:
            state, text = "FAILED", str(error)
            broken = broken or block.how != "compose"
        seconds = time.monotonic() - started
        title = block.said if block.kind == "file" else block.title
        lines = [f"{state:8}  {seconds:6.1f} s  {block.where}  {title}"[:160]]
        lines += [f"    {line}" for line in text.strip().splitlines()[-40:]]
        print("\n".join(lines), flush=True)
        yield block, state, seconds, text
    run.composer.close()


def summary(results: list[Result]) -> str:
    """A table with a row a page, and the reasons of what was not run."""
    states = ("ok", "composed", "written", "not run", "skipped", "FAILED")
    rows: list[tuple[str, ...]] = [("page", "seconds", *states)]
    every = list(dict.fromkeys(block.page for block, *_ in results))
    for page in [*every, None]:
        mine = [(state, seconds) for block, state, seconds, _ in results if page in (None, block.page)]
        counts = (str(sum(state == which for state, _ in mine)) for which in states)
        rows.append((page or "all", f"{sum(seconds for _, seconds in mine):.0f}", *counts))
    widths = [max(map(len, column)) for column in zip(*rows)]
    lines = [
        "  ".join(cell.ljust(w) if not i else cell.rjust(w) for i, (cell, w) in enumerate(zip(row, widths)))
        for row in rows
    ]
    reasons = [
        f"{block.where} {state}: {block.said}"
        for block, state, *_ in results
        if block.how in ("no", "compose") and block.said
    ]
    return "\n".join(["", *lines, "", *reasons])


def main() -> int:
    """The command; its exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pages", nargs="*", help="such as README, tutorial, how_to/sweep; by default all")
    parser.add_argument("--list", action="store_true", help="say what would be done, and end")
    parser.add_argument("--keep", action="store_true", help="leave the folders, and say where they are")
    arguments = parser.parse_args()
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs ignore it, and all they start
    try:
        todo = pages([re.sub(r"^(docs/)?(.*?)(\.md)?$", r"\2", name) for name in arguments.pages])
    except PageError as error:
        print(error, file=sys.stderr)
        return 1
    if arguments.list:
        for block in (block for page in todo for block in page.blocks):
            written = block.kind == "file"
            what = block.said if written else f"{block.title}{f'  [{block.said}]' if block.said else ''}"
            print(f"{'write' if written else block.how:8}  {block.where}  {what}")
        return 0
    top = Path(tempfile.mkdtemp(prefix="docs-check-"))
    try:
        results = check(todo, top)
    finally:
        if not arguments.keep:
            shutil.rmtree(top, ignore_errors=True)
    print(summary(results))
    if arguments.keep:
        print(f"All of it is in {top}")
    return int(any(state == "FAILED" for _, state, *_ in results))


if __name__ == "__main__":
    sys.exit(main())
