"""``python -m <module>`` as a user runs it, without importing torch and Lightning anew for each: see zygote.py."""

import contextlib
import json
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory

# Elsewhere a fork of a process that has loaded the system's libraries may crash.
CAN_FORK = sys.platform == "linux"


class Commands:
    """Runs modules in one environment, and gives back what ``subprocess.run`` does.

    They are forks of one process, which is started when it is first needed and ends with this one, however that ends.
    """

    def __init__(self, environment: Mapping[str, str]) -> None:
        self.environment = environment
        self._zygote: subprocess.Popen[str] | None = None

    def run(
        self,
        module: str,
        *arguments: str,
        cwd: Path,
        timeout: float | None = None,
        own_process: bool = False,
        send: tuple[int, float] | None = None,
        powerless: bool = False,
        full: str | None = None,
    ) -> subprocess.CompletedProcess[str]:
        """Run a module.

        Args:
            module: what ``python -m`` takes.
            arguments: of the command.
            cwd: the folder.
            timeout: seconds, after which the command and its children are killed.
            own_process: a real one, for what only that can do: start itself again, for example.
            powerless: without root's right to write what may only be read; not a real process.
            full: name of a file for which the disk has no room; not a real process.
            send: a signal and the seconds after which the command gets it, if it is not over; not to a real process.

        Raises:
            subprocess.TimeoutExpired: it took longer.
        """
        command = [sys.executable, "-m", module, *arguments]
        if own_process or not CAN_FORK:
            options = {"cwd": cwd, "env": self.environment, "timeout": timeout}
            return subprocess.run(command, capture_output=True, text=True, check=False, **options)
        with TemporaryDirectory() as folder:
            files = {name: Path(folder, name) for name in ("stdout", "stderr")}
            for file in files.values():
                file.touch()
            paths = {"cwd": str(cwd), **{name: str(file) for name, file in files.items()}}
            status = self._ask(
                {"argv": command[2:], "timeout": timeout, "send": send, "powerless": powerless, "full": full, **paths}
            )
            out, err = (file.read_text() for file in files.values())
        if status is None:
            raise subprocess.TimeoutExpired(command, timeout or 0, out, err)
        return subprocess.CompletedProcess(command, status, out, err)

    def close(self) -> None:
        """End the process that is forked, and what it runs."""
        if self._zygote is not None:
            # Said, not only left: processes that a test has forked may still hold the other end of its input open.
            with contextlib.suppress(BrokenPipeError):
                self._zygote.communicate("\n")

    def _ask(self, request: dict) -> int | None:
        if self._zygote is None:
            self._zygote = subprocess.Popen(
                [sys.executable, str(Path(__file__).with_name("zygote.py"))],
                env=self.environment,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
                start_new_session=True,  # Ctrl-C is for pytest, which ends it
            )
        self._zygote.stdin.write(json.dumps(request) + "\n")
        self._zygote.stdin.flush()
        answer = self._zygote.stdout.readline()
        assert answer, f"zygote.py ended with {self._zygote.wait()}"
        return json.loads(answer)
