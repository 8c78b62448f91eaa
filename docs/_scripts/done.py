"""What a page says, done: a block becomes a file, a process, or a configuration that is composed."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from blocks import Block
from shell import logical_lines, ours, with_arguments

HERE = Path(__file__).parent
ENVIRONMENT = {
    **os.environ,
    "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
    "WANDB_MODE": "offline",
    "MPLBACKEND": "agg",
    "COLUMNS": "120",
    "OMP_NUM_THREADS": "1",
}
PATIENCE = 900.0  # seconds a block


class Failed(Exception):
    """A block did not do what it should; the text is what it printed."""


class Composer:
    """A process that composes one command after the other, since importing Hydra takes longer; started when asked."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.process: subprocess.Popen[str] | None = None

    def ask(self, module: str, arguments: list[str]) -> None:
        """Raise Failed with what is wrong with a command."""
        if self.process is None:
            self.process = subprocess.Popen(
                [sys.executable, str(HERE / "compose.py")],
                cwd=self.folder,
                env=ENVIRONMENT,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
            )
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        with contextlib.suppress(BrokenPipeError):  # it has ended
            self.process.stdin.write(json.dumps([module, arguments]) + "\n")
            self.process.stdin.flush()
        answer = self.process.stdout.readline()
        error = json.loads(answer) if answer else f"The process that composes ended with {self.process.wait()}."
        if error is not None:
            raise Failed(error)

    def close(self) -> None:
        """End the process."""
        if self.process is not None:
            with contextlib.suppress(BrokenPipeError):
                self.process.communicate()


class Run:
    """One page's folder, and what composes there.

    Args:
        root: of the project.
        folder: where all is done.
    """

    def __init__(self, root: Path, folder: Path) -> None:
        self.root, self.folder = root, folder
        self.composer = Composer(folder)

    def do(self, block: Block) -> None:
        """Do what a block says.

        Raises:
            Failed: it did not work.
        """
        if block.kind == "file":
            path = self.folder / block.said
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(block.text, encoding="utf-8")
        elif block.how == "no":
            return
        elif block.kind == "notebook":
            self._notebook(self.root / block.page)
        elif block.how == "compose":
            self._compose(block)
        elif block.kind == "python":
            self._process(block, [sys.executable, "-c", block.text])
        else:
            lines = logical_lines(block.said if block.how == "as" else block.text)
            script = "\n".join(with_arguments(line, block.said if block.how == "run" else "") for line in lines)
            self._process(block, ["bash", "-eo", "pipefail", "-c", script])

    def _compose(self, block: Block) -> None:
        for line in logical_lines(block.text):
            if (found := ours(line)) is not None:
                self.composer.ask(*found)

    def _notebook(self, path: Path) -> None:
        import nbclient  # noqa: PLC0415  comes with the extra `docs`, which pages do not need
        import nbformat  # noqa: PLC0415

        resources = {"metadata": {"path": str(self.folder)}}
        client = nbclient.NotebookClient(nbformat.read(path, as_version=4), timeout=int(PATIENCE), resources=resources)
        with _as_failure(nbclient.exceptions.CellExecutionError):
            client.execute(env=ENVIRONMENT)

    def _process(self, block: Block, command: list[str]) -> None:
        with tempfile.TemporaryFile("w+", encoding="utf-8") as printed:
            process = subprocess.Popen(
                command,
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
