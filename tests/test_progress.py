"""Bars: on a terminal one below the other, elsewhere lines, both on stderr; and listeners are told."""

import multiprocessing
import os
import re
import sys
import threading
import time

import pytest
from rich.control import strip_control_codes
from rich.file_proxy import FileProxy

from iin_lightning import progress
from iin_lightning.progress import Bar, track, waiting


@pytest.fixture
def terminal(monkeypatch):
    """What rich takes for one, wide enough for a bar."""
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "120")


@pytest.fixture
def heard(monkeypatch):
    said = []
    monkeypatch.setattr(progress, "listeners", [lambda *words: said.append(words)])
    return said


def frames(text):
    """The texts that were drawn, without colours, line by line."""
    return [
        line.rstrip()
        for line in strip_control_codes(re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", text.replace("\r", "\n"))).split("\n")
    ]


def drawn(capsys, bar):
    """What is on the terminal now."""
    capsys.readouterr()
    bar.refresh()
    return frames(capsys.readouterr().err)


@pytest.mark.usefixtures("terminal")
def test_a_bar_within_another_has_its_own_line_and_vanishes(capsys):
    with Bar() as outer:
        outer.start()  # again does no harm
        task = outer.add_task("Outer", total=4)
        outer.update(task, completed=1)
        for done, _ in enumerate(track("abcd", "Inner")):
            first, second = (line for line in drawn(capsys, outer) if "er " in line)
            assert re.search(r"Outer .* 1/4 .* left", first)
            assert re.search(rf"Inner .* {done}/4", second)
            assert ("left" in second) == (done > 0), "a rate needs something that is done"
        assert "Inner" not in "".join(drawn(capsys, outer))
    assert not Bar._open
    assert not isinstance(sys.stderr, FileProxy)


@pytest.mark.usefixtures("terminal")
def test_threads_draw_their_bars_together_and_the_last_one_goes_on(capsys):
    first, second = Bar(), Bar()
    first.start()
    first.add_task("First", total=2)
    second.start()
    task = second.add_task("Second", total=2)
    first.stop()
    second.update(task, completed=1)
    text = "".join(drawn(capsys, second))
    second.stop()
    assert re.search("Second .* 1/2", text)
    assert "First" not in text

    def work():
        for _ in range(20):
            for _ in track(range(50), "Working"):
                time.sleep(1e-5)

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
        assert not thread.is_alive()
    assert not Bar._open
    assert "Traceback" not in capsys.readouterr().err


@pytest.mark.usefixtures("terminal")
def test_what_is_printed_meanwhile_stays_one_line_on_a_terminal_and_goes_into_a_file(capsys, monkeypatch):
    path = "outputs/" + "x" * 300 + ".png"
    with Bar() as bar:
        bar.add_task("Outer", total=2)
        print(path)
    out, err = capsys.readouterr()
    assert out == path + "\n", "stdout is a file, which gets its lines"
    assert path not in err
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    with Bar() as bar:
        bar.add_task("Outer", total=2)
        print(path)
    out, err = capsys.readouterr()
    assert out == ""
    assert path in frames(err)


def _noisy(ends):
    with Bar() as bar:
        bar.add_task("Inner", total=2)
    ends.put(not isinstance(sys.stderr, FileProxy))


@pytest.mark.usefixtures("terminal")
@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_forked_process_does_not_wait_for_the_bar_of_its_parent():
    fork = multiprocessing.get_context("fork")
    ends = fork.Queue()
    with Bar() as outer:
        outer.add_task("Outer", total=2)
        with Bar._opening, outer.console._lock, outer.live._lock:  # as the thread that draws may hold them
            held = threading.Thread(target=(child := fork.Process(target=_noisy, args=(ends,), daemon=True)).start)
            held.start()
            held.join()
        child.join(30)
        assert child.exitcode == 0
    assert ends.get(timeout=10)


def test_listeners_are_told_by_all_bars(heard):
    with Bar(quiet=True) as outer:
        task = outer.add_task("Outer", total=2)
        assert list(track(iter("ab"), "Inner", quiet=True)) == ["a", "b"]
        outer.update(task, completed=2, loss=0.5)
        outer.update(task, completed=2)
    with waiting("Thinking"):
        pass
    assert heard == [
        ("Inner", 1, 0, None),
        ("Inner", 2, 0, None),
        ("Outer", 2, 2, 0.5),
        ("Outer", 2, 2, None),
        ("Thinking", 0, 0, None),
    ]


def test_what_cannot_be_counted_says_how_long_it_took(monkeypatch, capsys):
    monkeypatch.setattr(progress, "EVERY", 0.05)
    with waiting("Thinking"):
        time.sleep(0.3)
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) > 2
    assert all(re.fullmatch(r"Thinking: 0:00:\d\d", line) for line in lines), lines
    time.sleep(0.2)
    assert capsys.readouterr().err == "", "and then no more"


def test_what_was_done_before_does_not_count_for_the_rate(monkeypatch, capsys):
    monkeypatch.setattr(progress, "EVERY", 0.0)
    with Bar() as bar:
        task = bar.add_task("Going on", total=1001, completed=1000)
        time.sleep(0.2)
        bar.advance(task)
    assert re.fullmatch(r"Going on: 1,001/1,001, \d\.\d(/s| s each), 0:00:00 left\n", capsys.readouterr().err)


@pytest.mark.usefixtures("terminal")
def test_what_is_slow_has_a_rate_and_an_end_too(monkeypatch, capsys):
    with Bar() as bar:
        now = [0.0]
        monkeypatch.setattr(bar, "get_time", lambda: now[0])
        task = bar.add_task("Walking", total=3)
        now[0] = 300.0
        bar.advance(task)
        line = next(line for line in drawn(capsys, bar) if "Walking" in line)
    assert "1/3" in line
    assert "300.0 s each" in line
    assert "0:10:00 left" in line
