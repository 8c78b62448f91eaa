"""The reference of commands and of configuration groups, made of conf/ and of the keys' own docstrings."""

import ast
import html
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import api
import yaml

HERE = "reference/configuration"
COMMANDS = {  # the file and class in which a command's keys are declared
    "train": ("cli/schema.py", "Root"),
    "evaluate": ("cli/schema.py", "Evaluate"),
    "analyse": ("analyse.py", None),
    "explore": ("explore.py", None),
    "report": ("report.py", None),
    "look": ("look.py", None),
    "convert": ("convert.py", None),
}
GROUPS = {
    "data": "Which images, and which concepts they carry.",
    "model": "What is trained, and its recipe.",
    "encoder": "The network that is explained.",
    "flow": "The translator T.",
    "optimizer": "Parameters to optimizer.",
    "scheduler": "How the learning rate changes.",
    "trainer": "Hardware, precision and length.",
    "logger": "Where numbers and pictures go.",
    "callbacks": "What happens while it trains.",
    "metric": "What is measured of trained networks.",
    "analysis": "Questions to trained networks.",
    "sweep": "With `-m`: how many jobs are run, or chosen.",
    "experiment": "Everything for one claim of the paper.",
    "paths": "Folders.",
}


@dataclass
class Key:
    """A key of a yaml: its dotted name, its value as it is written, and the comments beside and above it."""

    name: str
    value: str
    comment: str


@dataclass
class Choice:
    """A yaml of conf/: what its head says, its keys, the class it builds and the choices it starts from."""

    head: list[str] = field(default_factory=list)
    keys: list[Key] = field(default_factory=list)
    target: str | None = None
    defaults: list[Key] = field(default_factory=list)


def read(text: str) -> Choice:
    r"""Read a yaml with its comments.

    Example:
        >>> choice = read("# Faces.\n_target_: a.B\nsize: 64   # pixels\n# Kept.\nwidth: {a: 1}\n")
        >>> choice.head, choice.target
        (['Faces.'], 'a.B')
        >>> [(key.name, key.value, key.comment) for key in choice.keys]
        [('size', '64', 'pixels'), ('width', '{a: 1}', 'Kept.')]
    """
    lines = text.splitlines()
    choice = Choice()
    first = next((i for i, line in enumerate(lines) if line.strip() and not line.startswith("#")), len(lines))
    choice.head = [line.removeprefix("#").removeprefix(" ") for line in lines[:first] if not line.startswith("# @")]
    node = yaml.compose(text)
    if node is None:
        return choice
    for name, key, value in _pairs(node, ""):
        comment = " ".join(filter(None, [_above(lines, key.start_mark.line, first), _beside(lines, key, value)]))
        if _opens(value):  # its keys follow
            if comment:
                choice.keys.append(Key(name, "", comment))
            continue
        source = text[value.start_mark.index : value.end_mark.index].strip()
        if name == "_target_":
            choice.target = source
        elif name == "defaults":
            choice.defaults = _entries(lines[key.start_mark.line + 1 : value.end_mark.line])
        elif comment or name.rpartition(".")[2] not in ("_convert_", "_partial_", "_recursive_"):
            choice.keys.append(Key(name, " ".join(source.split()), comment))
    return choice


def _entries(lines: list[str]) -> list[Key]:
    """The choices of a list of defaults, with the comments above and beside them."""
    result: list[Key] = []
    above: list[str] = []
    for line in lines:
        if (entry := re.match(r" *- (.*?)(?: +# (.*))?$", line)) is not None:
            if entry[1] != "_self_":
                result.append(Key(entry[1], "", " ".join([*above, entry[2] or ""]).strip()))
            above = []
        elif line.strip().startswith("# "):
            above.append(line.strip()[2:])
    return result


def _pairs(node: yaml.Node, prefix: str) -> Iterator[tuple[str, yaml.Node, yaml.Node]]:
    """Dotted name, key and value of each key, those of blocks before what is in them."""
    for key, value in node.value:
        name = f"{prefix}{key.value}"
        yield name, key, value
        if _opens(value):
            yield from _pairs(value, f"{name}.")


def _opens(value: yaml.Node) -> bool:
    """Whether a value is a block of further keys."""
    return isinstance(value, yaml.MappingNode) and not value.flow_style


def _above(lines: list[str], line: int, first: int) -> str:
    """The comments in the lines above a key, but not the head of the file."""
    said: list[str] = []
    column = len(lines[line]) - len(lines[line].lstrip())
    while line > first and lines[line - 1].startswith(" " * column + "#"):
        line -= 1
        said.insert(0, lines[line].strip().lstrip("# "))
    return " ".join(said)


def _beside(lines: list[str], key: yaml.Node, value: yaml.Node) -> str:
    """The comments behind a value, line for line, with those below that go on at the column of the last."""
    # A block ends where the next key begins; what stands behind a key that opens one belongs to that key.
    end = value.end_mark.line if value.end_mark.column and not _opens(value) else key.start_mark.line
    said: list[str] = []
    column = 0
    for number, line in enumerate(lines[key.start_mark.line :], key.start_mark.line):
        found = re.search(r"(?:^|\s)#(?=\s)", line)
        if number > end and not (found and not line[: found.start()].strip() and line.index("#") == column > 0):
            break
        if found is not None:
            column = line.index("#", found.start())
            said.append(line[column + 1 :].strip())
    return " ".join(said)


def pages(root: Path) -> dict[str, str]:
    """Address -> text of each page: one for the commands, one for each group."""
    conf = root / "conf"
    found = {path.name for path in conf.iterdir() if path.is_dir()}
    if found != set(GROUPS):
        raise ValueError(
            f"docs/_scripts/configuration.py says nothing of, or too much of: {sorted(found ^ set(GROUPS))}."
        )
    groups = {f"{HERE}/{group}.md": _group(conf, group) for group in GROUPS}
    return {f"{HERE}/index.md": _commands(root), **groups}


def _commands(root: Path) -> str:
    lines = [
        "# Commands",
        "",
        "Arguments are `key=value`; a group is chosen by `group=choice`. `--help` shows all of it",
        "",
    ]
    lines[2] += ", `--cfg job` what a command line composes."
    lines += ["| group | what it decides |", "|---|---|"]
    lines += [f"| [`{group}`]({group}.md) | {said} |" for group, said in GROUPS.items()]
    for command, (file, name) in COMMANDS.items():
        content = yaml.safe_load((root / "conf" / f"{command}.yaml").read_text(encoding="utf-8"))
        template = content["hydra"]["help"]["template"]
        chosen = {
            key: value for entry in content["defaults"] if isinstance(entry, dict) for key, value in entry.items()
        }
        said = "\n\n".join(part for part in template.rstrip().split("\n\n") if not part.startswith("$"))
        lines += ["", f"## {command}", "", "```text", said, "```", "", "| key | default | meaning |", "|---|---|---|"]
        lines += [
            f"| `{key.name}` | {_default(key, chosen)} | {_prose(key.comment)} |"
            for key in declared((root / "src" / "iin_lightning" / file).read_text(encoding="utf-8"), name)
        ]
    return "\n".join(lines) + "\n"


def _default(key: Key, chosen: dict[str, str | None]) -> str:
    """What a key is without an argument: a choice of its group, or a value."""
    choice = chosen.get(key.name)
    if choice is None:
        return _code(key.value)
    return f"[`{choice}`]({key.name}.md#{key.name}{choice})"


def declared(source: str, name: str | None) -> list[Key]:
    r"""The keys of a dataclass with their defaults and the docstrings below them; of the only one without a name.

    Example:
        >>> declared("@dataclass\nclass A:\n    x: int = 3\n    'How many.'", None)
        [Key(name='x', value='3', comment='How many.')]
    """
    classes = [node for node in ast.parse(source).body if isinstance(node, ast.ClassDef) and name in (None, node.name)]
    (found,) = classes
    keys = []
    for node, below in zip(found.body, [*found.body[1:], None]):
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            value = ast.unparse(node.value) if node.value is not None else ""
            value = {"MISSING": "", "None": "null", "field(default_factory=dict)": "{}"}.get(value, value)
            value = "[]" if value == "field(default_factory=list)" else value.strip("'")
            text = below.value.value if isinstance(below, ast.Expr) and isinstance(below.value, ast.Constant) else ""
            keys.append(Key(node.target.id, value, " ".join(str(text).split())))
    return keys


def _group(conf: Path, group: str) -> str:
    lines = [f"# {group}", "", GROUPS[group], ""]
    for path in sorted((conf / group).rglob("*.yaml")):
        folder, name = path.parent.relative_to(conf).as_posix(), path.stem
        lines += [f"## {folder}={name}", "", *_head(read(path.read_text(encoding="utf-8")))]
    return "\n".join(lines) + "\n"


def _head(choice: Choice) -> list[str]:
    """The section of a choice: what it says, what it builds, its keys."""
    lines: list[str] = []
    # Commands in a head are indented; they stay as they are written.
    for line in choice.head:
        code = line.startswith("  ")
        if code and not (lines and lines[-1].startswith("    ")):
            lines.append("")
        lines.append(f"    {line.strip()}" if code else _prose(line))
    lines.append("")
    if choice.target is not None:
        target = choice.target
        module, _, name = target.rpartition(".")
        lines += [f"Builds {f'[`{name}`][{target}]' if api.has(module) else f'`{target}`'}.", ""]
    if choice.defaults:
        lines += ["Starts from", ""]
        lines += [f"- {_code(entry.name)}{entry.comment and f': {_prose(entry.comment)}'}" for entry in choice.defaults]
        lines.append("")
    if choice.keys:
        lines += ["| key | value | |", "|---|---|---|"]
        lines += [f"| `{key.name}` | {_value(key.value)} | {_prose(key.comment)} |" for key in choice.keys]
        lines.append("")
    return lines


def _value(text: str) -> str:
    module, _, name = text.rpartition(".")
    return f"[`{name}`][{text}]" if api.has(module) else _code(text)


def _code(text: str) -> str:
    return f"`` {text} ``".replace("|", "\\|") if text else ""


def _prose(text: str) -> str:
    """Words of a comment as Markdown: what looks like mark-up is what was written, but for `code`."""
    parts = re.split(r"(`[^`]+`)", text)
    parts[1::2] = [code.replace("|", "\\|") for code in parts[1::2]]
    # Backslashes do nothing before < and >.
    parts[::2] = [re.sub(r"([\\*_\[\]|$])", r"\\\1", html.escape(words, quote=False)) for words in parts[::2]]
    return "".join(parts)
