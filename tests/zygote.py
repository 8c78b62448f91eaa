"""A process that imports everything once and then becomes one command after the other: each in a fork of it.

It reads a request a line, ``{"argv": [module, ...], "cwd": ..., "stdout": ..., "stderr": ..., "timeout": ..., "send":
..., "powerless": ...}``, and answers with the exit status of ``python -m module ...`` in there, or null if that took
longer. At an empty line, or once nobody is left who could ask, it ends what runs, and itself.
"""

import atexit
import contextlib
import ctypes
import errno
import gc
import importlib
import json
import os
import pkgutil
import random
import runpy
import select
import signal
import struct
import sys
import time

# What commands import late, and what comes of it.
LATE = ("wandb", "matplotlib.backends.backend_agg", "matplotlib.backends.backend_pdf", "sklearn.gaussian_process")
POLL = 0.02  # seconds

status = 1  # of any error


def prepare() -> None:
    """Import what commands import, but not the commands: ``python -m`` finds them not yet imported."""
    import iin_lightning

    for module in pkgutil.walk_packages(iin_lightning.__path__, "iin_lightning."):
        if module.name.count(".") > 1:  # at the top are the commands, and what others import
            importlib.import_module(module.name)
    for name in LATE:
        importlib.import_module(name)
    # A process that collects what all share would copy it.
    gc.collect()
    gc.freeze()


def serve() -> list[str]:
    """Answer requests; returns in the forks only, as the process that was asked for, which goes on with its argv."""
    for line in sys.stdin:
        if not line.strip():
            break
        request = json.loads(line)
        child = os.fork()
        if child == 0:
            become(request)
            return request["argv"]
        answer = json.dumps(wait(child, request["timeout"], request["send"])) + "\n"
        with contextlib.suppress(BrokenPipeError):  # nobody is left
            os.write(1, answer.encode())
    sys.exit()


def become(request: dict) -> None:
    """Make of a fork what a new process would be."""
    os.setsid()  # a group of its own, which can be ended as a whole
    os.chdir(request["cwd"])
    for number, (path, flags) in enumerate(
        ((os.devnull, os.O_RDONLY), (request["stdout"], os.O_WRONLY), (request["stderr"], os.O_WRONLY))
    ):
        file = os.open(path, flags)
        os.dup2(file, number)
        os.close(file)
    if request["powerless"]:  # all capabilities, of which a user has none
        ctypes.CDLL(None).capset(struct.pack("Ii", 0x20080522, 0), bytes(24))
    if request["full"] is not None:
        fill_disk(request["full"])
    sys.path[0] = os.getcwd()
    # A folder of W&B's, which is deleted when the first fork ends.
    if wandb := sys.modules.get("wandb.sdk.data_types._private"):
        os.makedirs(wandb.MEDIA_TMP.name, exist_ok=True)
    # Else all would draw the same where they are not seeded. Python does so for its own.
    if numpy := sys.modules.get("numpy"):
        numpy.random.seed(random.getrandbits(32))


def fill_disk(name: str) -> None:
    """Let the disk be full when a file of that name is to reach it, which is when many a system finds out."""
    write_out = os.fsync

    def fsync(file: int) -> None:
        if os.path.basename(os.readlink(f"/proc/self/fd/{file}")) == name:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        write_out(file)

    os.fsync = fsync


def wait(child: int, timeout: float | None, send: tuple[int, float] | None) -> int | None:
    """The exit status as ``subprocess`` has it, negative for a signal; None if it took longer and was ended."""
    started = time.monotonic()
    deadline = None if timeout is None else started + timeout
    late = False
    while not (ended := os.waitpid(child, os.WNOHANG))[0]:
        if send is not None and time.monotonic() > started + send[1]:
            os.kill(child, send[0])
            send = None
        late = late or (deadline is not None and time.monotonic() > deadline)
        # Who waits for an answer says nothing: what can be read is the end.
        if select.select([0], [], [], POLL)[0] or late:
            kill(child)
    return None if late else os.waitstatus_to_exitcode(ended[1])


def kill(child: int) -> None:
    try:
        os.killpg(child, signal.SIGKILL)
    except ProcessLookupError:  # it has only just been forked, and has no group yet
        os.kill(child, signal.SIGKILL)
    time.sleep(POLL)


def leave() -> None:
    """At the very end: taking thousands of modules apart takes longer than most commands."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


if __name__ == "__main__":
    atexit.register(leave)  # what is registered first is called last
    prepare()
    module, *sys.argv[1:] = serve()
    try:
        runpy.run_module(module, run_name="__main__", alter_sys=True)
        status = 0
    except SystemExit as end:
        if not end.code or isinstance(end.code, int):
            status = end.code or 0
        raise  # Python says what there is to say, and waits for threads
