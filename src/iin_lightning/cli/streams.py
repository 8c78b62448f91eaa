"""Standard output and errors that end no command: their reader may leave, and a terminal may lack a letter."""

import io
import locale
import os
import sys
from contextlib import suppress
from typing import Any


class _Outlet(io.FileIO):
    """The end of a stream, which leads nowhere once its reader has gone, as ``head`` does after its lines."""

    def write(self, data: Any, /) -> int:
        """Write bytes; into nothing where nobody reads."""
        try:
            return super().write(data)
        except BrokenPipeError:
            nothing = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nothing, self.fileno())
            os.close(nothing)
            return super().write(data)


def open_streams() -> None:
    r"""Let all that this process says go on, so that what it does is done and written down.

    What a locale cannot show is written as ``\xb1``, as Python does on stderr. Text files that other packages write
    without saying how, such as Lightning's metrics.csv, are in UTF-8.
    """
    if "utf" not in locale.getencoding().lower():
        with suppress(locale.Error):
            locale.setlocale(locale.LC_CTYPE, "C.UTF-8")
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        # Not what a notebook or a test has put there, nor ours.
        if not isinstance(stream, io.TextIOWrapper) or stream is not getattr(sys, f"__{name}__"):
            continue
        stream.flush()
        if stream.isatty():
            stream.reconfigure(errors="backslashreplace")
            continue
        outlet = _Outlet(stream.fileno(), "w", closefd=False)
        unbuffered = isinstance(stream.buffer, io.RawIOBase)
        opened = io.TextIOWrapper(
            outlet if unbuffered else io.BufferedWriter(outlet),
            stream.encoding,
            "backslashreplace",
            line_buffering=stream.line_buffering,
            write_through=stream.write_through,
        )
        setattr(sys, name, opened)
