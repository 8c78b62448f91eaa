"""What stands in for a process in tests of commands: it must differ in nothing but its speed."""

import subprocess
import time

import pytest
from tests.commands import CAN_FORK

pytestmark = [
    pytest.mark.commands,
    pytest.mark.skipif(not CAN_FORK, reason="all commands are processes of their own"),
]

ENDS = {
    "by a status": ("sys.exit(3)", 3),
    "by an error": ("raise ValueError('so it is')", 1),
    "by a signal": ("sys.stdout.flush(); os.kill(os.getpid(), 9)", -9),
    "after a thread": ("threading.Thread(target=lambda: (time.sleep(0.1), print('late'))).start()", 0),
    "after a process": ("print(multiprocessing.get_context('fork').Pool(1).map(abs, [-2]))", 0),
}
MODULE = """
import atexit, multiprocessing, os, sys, threading, time
import neighbour
atexit.register(print, "the end")
print(__name__, __spec__.name, sys.modules["__main__"].__spec__.name, sys.argv, os.getcwd(), sys.path[0])
print([os.environ[name] for name in ("COLUMNS", "OMP_NUM_THREADS", "PATH")], os.isatty(1), threading.active_count())
print("said", file=sys.stderr)
"""


@pytest.mark.parametrize("end", ENDS)
def test_it_ends_as_a_process_does(run_command, tmp_path, end):
    code, status = ENDS[end]
    (tmp_path / "neighbour.py").touch()
    (tmp_path / "asked.py").write_text(MODULE + code)
    real, forked = (run_command("asked", "a=1", cwd=tmp_path, own_process=own) for own in (True, False))
    assert forked.args == real.args
    assert forked.returncode == real.returncode == status
    assert forked.stdout == real.stdout
    assert "said" in forked.stderr
    assert forked.stderr.splitlines()[-1] == real.stderr.splitlines()[-1]


def test_what_takes_too_long_is_killed_with_its_children(run_command, tmp_path):
    (tmp_path / "asked.py").write_text(
        "import subprocess, time\n"
        "child = subprocess.Popen(['sleep', '60'])\n"
        "print(child.pid, flush=True)\n"
        "time.sleep(60)"
    )
    with pytest.raises(subprocess.TimeoutExpired) as late:
        run_command("asked", cwd=tmp_path, timeout=1)
    child = int(late.value.stdout)
    deadline = time.monotonic() + 10
    while runs(child) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not runs(child)
    (tmp_path / "asked.py").write_text("print('here')")
    assert run_command("asked", cwd=tmp_path).stdout == "here\n", "the next one is not disturbed"


def runs(pid: int) -> bool:
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8") as file:
            return file.read().rsplit(")", 1)[1].split()[0] != "Z"  # a zombie, which nobody has asked for yet
    except FileNotFoundError:
        return False
