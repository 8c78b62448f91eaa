"""The documentation's own scripts: what a page says is done, nothing is left out, and a failure is one."""

import doctest
import html
import importlib
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FENCE = "```"


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
        results = check.check([check.read(root, page)], top)
        states = {block.said if block.kind == "file" else block.title: state for block, state, *_ in results}
        return states, "".join(printed for *_, printed in results), check.summary(results)

    return run


def block(text, language="bash", said=None):
    return f"{f'<!-- check: {said} -->' if said else ''}\n{FENCE}{language}\n{text}\n{FENCE}\n"


def test_a_page_is_done_in_order_in_one_folder_and_one_namespace(do):
    states, printed, _ = do(
        block("X = 3", 'python title="mine.py"')
        + block("looked at only", "text")
        + block("from mine import X", "python")
        + block("ls mine.py models cache\nls")
        + "1. indented\n\n    ```python\n    assert X == 3\n    ```\n"
    )
    assert printed == ""
    assert states == {
        "mine.py": "written",
        "from mine import X": "ok",
        "ls mine.py models cache": "ok",
        "assert X == 3": "ok",
    }


@pytest.mark.parametrize(
    ("text", "language", "said"),
    [
        ("false\ntrue", "bash", None),
        ("false | cat", "bash", None),
        ("python -c 'import sys; sys.exit(3)'", "bash", None),
        ("1 / 0", "python", None),
        ("import os; os._exit(1)", "python", None),
        ("python -m iin_lightning.train data=celebb", "bash", "compose"),
        ("python -m iin_lightning.evaluate run=<run> metrik=[quality]", "bash", "compose"),
        ("echo other", "bash", "until Running on"),
        ("true", "bash", "as false"),
    ],
)
def test_what_fails_is_told_with_what_it_printed_and_the_rest_is_skipped(do, text, language, said):
    states, printed, table = do(block(text, language, said) + block("touch here"))
    skipped = said != "compose"
    assert list(states.values()) == ["FAILED", "skipped" if skipped else "ok"]
    assert printed
    assert re.search(r"docs/page\.md .* 1$", table, re.MULTILINE)


def test_comments_say_what_is_done_instead(do):
    states, printed, table = do(
        block("sbatch job.sh", said="no, needs a cluster")
        + block("python -m iin_lightning.train -m data=celeba,mnist 'model.lr=interval(1,2)'", said="compose")
        + block("make quickstart", said="as echo instead")
        + block("echo Running on it; exec sleep 60", said="until Running on")
        + "\n    python -m iin_lightning.look data=celeba paths.data=<folder>   # a comment\n"
    )
    assert list(states.values()) == ["not run", "composed", "ok", "ok", "composed"], printed
    assert "docs/page.md:3 not run: needs a cluster" in table


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (block("ls", "console"), "write ```bash"),
        (block("ls", said="no"), "say why"),
        (block("ls", said="sometimes"), "none of"),
        (block("x", "text", said="compose"), "not run"),
        ("<!-- check: compose -->\nwords\n", "right before a block"),
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


def test_all_pages_can_be_read(script):
    todo = script("check").pages([])
    assert "README.md" in {page.path for page in todo}
    assert all(block.text.strip() for page in todo for block in page.blocks)


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


def test_every_room_is_in_the_reference(script):
    api = script("api")
    commands = set(script("configuration").COMMANDS)
    package = ROOT / "src" / "iin_lightning"
    for path in package.glob("*"):
        if path.stem not in {*commands, "__init__", "__main__", "__pycache__", "app"}:
            assert api.has(f"iin_lightning.{path.stem}"), path
    assert commands == {path.stem for path in package.glob("*.py") if "import command" in path.read_text()}


def test_every_test_that_the_maths_names_exists():
    named = re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", (ROOT / "docs" / "maths.md").read_text())
    assert len(named) > 20
    for file, test in named:
        assert f"def {test}(" in (ROOT / file).read_text(), test


def test_formulas_become_mathml_with_their_numbers(script):
    pytest.importorskip("mkdocs")
    pytest.importorskip("latex2mathml")
    drawn = script("hooks").on_page_content(
        r'<div class="arithmatex">\[ a &lt; \log \lvert T(b) \rvert \tag{7} \]</div>'
    )
    assert "<math" in drawn
    assert drawn.count('stretchy="false">&#x0007C;</mo>') == 2
    assert '<span class="number">(7)</span></div>' in drawn
    assert "\\" not in drawn
