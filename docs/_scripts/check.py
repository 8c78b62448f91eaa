"""Does what the documentation says: every block of commands and of Python in README.md, docs/ and examples/, in order.

    python docs/_scripts/check.py                      all pages
    python docs/_scripts/check.py README tutorial      pages by name
    python docs/_scripts/check.py --list               what would be done

Each page has a temporary folder; trained networks (models/) and latents (cache/) are shared by all pages. The project's
Python comes first in PATH. In a page:

- ```bash is run by `bash -e`, a block at a time; ```python is run, all blocks of a page in one namespace;
- a block with title="mine.py" is written to that file in the page's folder;
- other languages (```text for output, ```yaml) and blocks without language are only looked at;
- a notebook of examples/ is run from top to bottom;
- indented commands (`    python -m iin_lightning.train ...`), where <words> stand for what only the reader knows, are
  composed, not run: their groups and keys exist.

A comment right before a block says otherwise:

    <!-- check: trainer=smoke model.steps=2 -->   appended to each command of ours in the block
    <!-- check: compose -->                       only composed: needs a GPU, a cluster, an account, data
    <!-- check: until Running on -->              stopped by Ctrl-C once it has printed this
    <!-- check: as <command> -->                  this is run in its place
    <!-- check: no, <reason> -->                  not run
    <!-- check: page=tutorial -->                 (anywhere) the page goes on in that page's folder

Exits with 1 if anything failed.
"""

import argparse
import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from blocks import Block, Page, PageError, read
from shell import logical_lines, ours, with_arguments

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
ENVIRONMENT = {
    **os.environ,
    "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
    "WANDB_MODE": "offline",
    "MPLBACKEND": "agg",
    "COLUMNS": "120",
}
PATIENCE = 900.0  # seconds a block
STATES = {"run": "ok", "until": "ok", "as": "ok", "compose": "composed", "no": "not run"}


class Failed(Exception):
    """A block did not do what it should; the text is what it printed."""


class Asked:
    """A process that answers a line of JSON with a line of JSON, started when it is first asked."""

    def __init__(self, script: str, folder: Path) -> None:
        self.script, self.folder = script, folder
        self.process: subprocess.Popen[str] | None = None
        self.printed = tempfile.TemporaryFile("w+", encoding="utf-8")  # noqa: SIM115  closed by close

    def ask(self, question: object) -> None:
        """Raise Failed with the answer, and what was printed, if there is one."""
        if self.process is None:
            self.process = subprocess.Popen(
                [sys.executable, str(HERE / self.script)],
                cwd=self.folder,
                env=ENVIRONMENT,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self.printed,
                text=True,
            )
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        start = self.printed.seek(0, os.SEEK_END)
        with contextlib.suppress(BrokenPipeError):  # it has ended
            self.process.stdin.write(json.dumps(question) + "\n")
            self.process.stdin.flush()
        answer = self.process.stdout.readline()
        error = json.loads(answer) if answer else f"The process ended with {self.process.wait()}."
        if error is not None:
            self.printed.seek(start)
            raise Failed(f"{self.printed.read()}{error}")

    def close(self) -> None:
        """End the process."""
        if self.process is not None:
            with contextlib.suppress(BrokenPipeError):
                self.process.communicate()
        self.printed.close()


class Run:
    """One page's folder and processes."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.composer = Asked("compose.py", folder)
        self.namespace = Asked("python_blocks.py", folder)

    def close(self) -> None:
        """End the processes."""
        self.composer.close()
        self.namespace.close()

    def do(self, block: Block) -> None:
        """Do what a block says.

        Raises:
            Failed: it did not work.
        """
        if block.kind == "file":
            path = self.folder / block.said
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(block.text)
        elif block.how == "no":
            return
        elif block.kind == "notebook":
            self._notebook(ROOT / block.page)
        elif block.how == "compose":
            self._compose(block)
        elif block.kind == "python":
            self.namespace.ask({"name": block.where, "text": block.text})
        else:
            self._shell(block)

    def _compose(self, block: Block) -> None:
        if block.kind == "python":
            with _as_failure(SyntaxError):
                compile(block.text, block.where, "exec")
            return
        for line in logical_lines(block.text):
            if (found := ours(line)) is not None:
                self.composer.ask(found)

    def _notebook(self, path: Path) -> None:
        import nbclient  # noqa: PLC0415  comes with the extra `docs`, which pages do not need
        import nbformat  # noqa: PLC0415

        resources = {"metadata": {"path": str(self.folder)}}
        client = nbclient.NotebookClient(nbformat.read(path, as_version=4), timeout=int(PATIENCE), resources=resources)
        with _as_failure(nbclient.exceptions.CellExecutionError):
            client.execute(env=ENVIRONMENT)

    def _shell(self, block: Block) -> None:
        lines = logical_lines(block.said if block.how == "as" else block.text)
        script = "\n".join(with_arguments(line, block.said if block.how == "run" else "") for line in lines)
        with tempfile.TemporaryFile("w+", encoding="utf-8") as printed:
            process = subprocess.Popen(
                ["bash", "-eo", "pipefail", "-c", script],
                cwd=self.folder,
                env=ENVIRONMENT,
                stdin=subprocess.DEVNULL,
                stdout=printed,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # to be ended as a whole
            )
            stopped = ""
            try:
                if block.how == "until":
                    stopped = _stop_at(block.said, process, printed)
                code = process.wait(PATIENCE)
            except subprocess.TimeoutExpired:
                stopped, code = f"It took longer than {PATIENCE:.0f} s.", -1
            finally:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
                process.wait()
            allowed = (0, 130, -signal.SIGINT) if block.how == "until" and not stopped else (0,)
            if stopped or code not in allowed:
                printed.seek(0)
                raise Failed(f"{printed.read()}\n{stopped or f'Exit code {code}.'}")


def _stop_at(text: str, process: subprocess.Popen[Any], printed: Any) -> str:
    """Press Ctrl-C once a text is printed; what went wrong, if anything."""
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        if text in os.pread(printed.fileno(), 1 << 24, 0).decode(errors="replace"):
            os.killpg(process.pid, signal.SIGINT)
            return ""
        if process.poll() is not None:
            return f"It ended without having printed: {text}"
        time.sleep(0.2)
    return f"It did not print: {text}"


@contextlib.contextmanager
def _as_failure(kind: type[Exception]) -> Iterator[None]:
    try:
        yield
    except kind as error:
        raise Failed(str(error)) from error


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


def check(todo: list[Page], top: Path) -> list[tuple[Block, str, float, str]]:
    """Do all blocks of the pages below a folder: each with its state, seconds, and what it printed if it failed."""
    results = []
    folders: dict[str, Path] = {}
    for page in todo:
        name = name_of(ROOT / page.path)
        folder = folders[name] = folders[page.after] if page.after else top / name.replace("/", "_")
        if not page.after:
            folder.mkdir()
            for shared in ("models", "cache"):
                (top / shared).mkdir(exist_ok=True)
                (folder / shared).symlink_to(top / shared)
        run = Run(folder)
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
            results.append((block, state, seconds, text))
            title = block.said if block.kind == "file" else block.title
            print(f"{state:8}  {seconds:6.1f} s  {block.where}  {title}"[:160], flush=True)
            if text:
                print("    " + "\n    ".join(text.strip().splitlines()[-40:]), flush=True)
        run.close()
    return results


def summary(results: list[tuple[Block, str, float, str]]) -> str:
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
    reasons = [f"{block.where} not run: {block.said}" for block, state, *_ in results if state == "not run"]
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
