"""The documentation's own scripts: what a page says is done, nothing is left out, and a failure is one."""

import doctest
import html
import importlib
import re
from pathlib import Path
from types import SimpleNamespace

import pytest

ROOT = Path(__file__).parents[2]
FENCE = "```"

COMMANDS = pytest.mark.commands


@pytest.fixture
def script(monkeypatch):
    """Import one of docs/_scripts by name."""
    monkeypatch.syspath_prepend(ROOT / "docs" / "_scripts")
    return importlib.import_module


@pytest.fixture
def do(script, monkeypatch, tmp_path):
    """Check a page with this text; the states of its blocks by what they are, and what failed ones printed."""
    root, top = tmp_path / "project", tmp_path / "work"
    (root / "docs").mkdir(parents=True)
    top.mkdir()
    check = script("check")
    monkeypatch.setattr(check, "ROOT", root)

    def run(text):
        page = root / "docs" / "page.md"
        page.write_text(text)
        results = check.check([check.read(root, page)], top)  # in a thread, as pages of other folders are
        states = {block.said if block.kind == "file" else block.title: state for block, state, *_ in results}
        return states, "".join(printed for *_, printed in results), check.summary(results)

    return run


def block(text, language="bash", said=None):
    return f"{f'<!-- check: {said} -->' if said else ''}\n{FENCE}{language}\n{text}\n{FENCE}\n"


def test_a_page_is_done_in_order_in_one_folder(do):
    states, printed, _ = do(
        block("X = 3", 'python title="mine.py"')
        + block("looked at only", "text")
        + block("from mine import X\nopen('x', 'w').write(str(X))", "python")
        + block("ls mine.py models cache\nls")
        + "1. indented\n\n    ```python\n    assert open('x').read() == '3'\n    ```\n"
    )
    assert printed == ""
    assert states == {
        "mine.py": "written",
        "from mine import X": "ok",
        "ls mine.py models cache": "ok",
        "assert open('x').read() == '3'": "ok",
    }


@pytest.mark.parametrize(
    ("text", "language", "said"),
    [
        ("false\ntrue", "bash", None),
        ("false | cat", "bash", None),
        ("python -c 'import sys; sys.exit(3)'", "bash", None),
        ("1 / 0", "python", None),
        ("import os; os._exit(1)", "python", None),
        pytest.param("python -m iin_lightning.train data=celebb", "bash", "compose, no data", marks=COMMANDS),
        pytest.param(
            "python -m iin_lightning.evaluate run=<run> metrik=[q]", "bash", "compose, no run", marks=COMMANDS
        ),
        ("echo other", "bash", "until Running on"),
        ("true", "bash", "as false"),
    ],
)
def test_what_fails_is_told_with_what_it_printed_and_the_rest_is_skipped(do, text, language, said):
    states, printed, table = do(block(text, language, said) + block("touch here"))
    skipped = not (said or "").startswith("compose")
    assert list(states.values()) == ["FAILED", "skipped" if skipped else "ok"]
    assert printed
    assert re.search(r"docs/page\.md .* 1$", table, re.MULTILINE)


@COMMANDS
def test_comments_say_what_is_done_instead(do):
    states, printed, table = do(
        block("sbatch job.sh", said="no, needs a cluster")
        + block("python -m iin_lightning.train -m data=celeba,mnist 'model.lr=interval(1,2)'", said="compose, no data")
        + block("make quickstart", said="as echo instead")
        + block("echo Running on it; exec sleep 60", said="until Running on")
        + "\n    python -m iin_lightning.look data=celeba paths.data=<folder>   # a comment\n"
        + "\nSay `python -m iin_lightning.look data=mnist`, or `X=1 python -m iin_lightning.analyse run=<run>`.\n"
    )
    assert list(states.values()) == ["not run", "composed", "ok", "ok", "composed", "composed", "composed"], printed
    assert "docs/page.md:3 not run: needs a cluster" in table
    assert re.search(r"docs/page.md:\d+ composed: no data", table)


@COMMANDS
def test_a_command_within_a_sentence_is_composed(do):
    states, printed, _ = do("Say `python -m iin_lightning.look data=celebb`.\n")
    assert list(states.values()) == ["FAILED"]
    assert "did you mean celeba" in printed


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (block("ls", "console"), "write ```bash"),
        (block("ls", said="no"), "say why"),
        (block("ls", said="compose"), "say why"),
        (block("ls", said="until"), "needs a text"),
        (block("ls", said="sometimes"), "none of"),
        (block("ls", ""), "say what stands here"),
        (block("x", "text", said="compose, no data"), "not run"),
        ("<!-- check: compose, no data -->\nwords\n", "right before a block"),
        ("```bash\nls\n", "no end"),
    ],
)
def test_what_a_page_must_not_say(do, script, text, said):
    with pytest.raises(script("blocks").PageError, match=said):
        do(text)


def test_arguments_are_for_our_commands_alone(script):
    shell = script("shell")
    assert shell.logical_lines("a \\\n b") == ["a   b"]
    for module in ("shell", "compose", "configuration"):
        assert doctest.testmod(script(module)).failed == 0


def test_every_command_of_every_page_is_found(script):
    todo = {page.path: page for page in script("check").pages([])}
    assert {"README.md", "docs/tutorial.md", "examples/interpret_a_classifier.ipynb"} < set(todo)
    for path, page in todo.items():
        found = sum(block.text.count("-m iin_lightning.") for block in page.blocks if block.kind == "bash")
        written = re.sub(r"<!--.*?-->", "", (ROOT / path).read_text())
        if path.endswith(".md"):
            assert found == written.count("-m iin_lightning."), path


def test_commands_are_those_of_any_shell(script):
    """Of zsh, too, which takes [ ] for a pattern and fails where no file fits it."""
    for page in script("check").pages([]):
        for block in page.blocks:
            if block.kind == "bash":
                bare = re.sub(r"'[^']*'|\"[^\"]*\"|#.*", "", block.text)
                assert "[" not in bare, f"{block.where}: quote what has brackets: {bare}"


def test_every_yaml_and_every_key_is_in_the_reference(script):
    from omegaconf import OmegaConf

    pages = script("configuration").pages(ROOT)
    text = "".join(pages.values())
    files = sorted((ROOT / "conf").rglob("*.yaml"))
    assert len(files) > 50
    for path in files:
        relative = path.relative_to(ROOT / "conf")
        if len(relative.parts) == 1:
            assert f"\n## {path.stem}\n" in text
            continue
        section = text.partition(f"\n## {relative.parent.as_posix()}={path.stem}\n")[2].partition("\n## ")[0]
        assert section, path
        for key in OmegaConf.load(path):
            if key not in ("defaults", "_target_", "_convert_", "_partial_", "_recursive_"):
                assert re.search(rf"^\| `{re.escape(str(key))}[`.]", section, re.MULTILINE), (path, key)


def test_every_comment_in_a_yaml_is_in_the_reference(script):
    """They are cut from the text, so a way to write them that is not known would lose them."""
    text = re.sub(r"\W+", "", html.unescape("".join(script("configuration").pages(ROOT).values())))
    for path in sorted((ROOT / "conf").glob("*/**/*.yaml")):
        for line in path.read_text().splitlines():
            comment = re.search(r"(?:^|\s)# ?([^@\"']*)$", line)
            if comment is not None:
                assert re.sub(r"\W+", "", comment[1]) in text, (path, line)


def test_every_room_and_every_command_is_in_the_reference(script):
    package = ROOT / "src" / "iin_lightning"
    rooms = script("api").rooms()
    assert {"interpreter", "flows", "data"} <= set(rooms) <= {path.stem for path in package.iterdir()}
    assert all(rooms.values()), "each says what it is"
    commands = {path.stem for path in package.glob("*.py") if "import command\n" in path.read_text()}
    assert set(script("configuration").COMMANDS) == commands


def test_every_test_that_the_maths_names_exists():
    named = re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", (ROOT / "docs" / "maths.md").read_text())
    assert len(named) > 20
    for file, test in named:
        assert f"def {test}(" in (ROOT / file).read_text(), test


def test_formulas_become_mathml_with_their_numbers(script):
    pytest.importorskip("mkdocs", reason="the extra docs is not installed")
    drawn = script("hooks").on_page_content(
        r'<div class="arithmatex">\[ a &lt; \log \lvert T(b) \rvert \tag{7} \]</div>'
    )
    assert "<math" in drawn
    assert drawn.count('stretchy="false">&#x0007C;</mo>') == 2
    assert '<span class="number">(7)</span></div>' in drawn
    assert "\\" not in drawn


@pytest.mark.parametrize(
    ("page", "said"),
    [
        ('<script src="_assets/worker.js"></script>', None),
        ('<link rel="icon" href="a.svg"><a href="https://arxiv.org/">paper</a>', "No page has the script"),
        ('<script src="_assets/worker.js"></script><img alt="" src="https://host/a.png">', "from the internet"),
        ("<script src=_assets/worker.js></script><link rel=stylesheet href=https://host/a.css>", "from the internet"),
    ],
)
def test_pages_ask_nothing_of_the_internet(script, tmp_path, page, said):
    exceptions = pytest.importorskip("mkdocs.exceptions", reason="the extra docs is not installed")
    (tmp_path / "index.html").write_text(page)
    config = SimpleNamespace(site_dir=str(tmp_path))
    if said is None:
        script("hooks").on_post_build(config)
    else:
        with pytest.raises(exceptions.PluginError, match=said):
            script("hooks").on_post_build(config)
