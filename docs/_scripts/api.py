"""A page of the Python reference for each room of the package, written by its docstrings."""

import ast
from pathlib import Path

PACKAGE = Path(__file__).parents[2] / "src" / "iin_lightning"

# The rooms of commands are no library.
TOOLS = {"assets", "cli", "command", "explorer", "reporting", "runs", "sweeps", "__init__", "__main__"}


def rooms(package: Path = PACKAGE) -> dict[str, str]:
    """Return name -> first sentence of its docstring, of all folders and modules but those of commands."""
    found = {}
    for path in sorted([*package.glob("*.py"), *package.glob("*/__init__.py")]):
        name, source = (path.parent.name if path.stem == "__init__" else path.stem), path.read_text(encoding="utf-8")
        if name not in TOOLS | {package.name} and "import command\n" not in source:
            found[name] = (ast.get_docstring(ast.parse(source)) or "").partition("\n\n")[0].replace("\n", " ")
    return found


def pages(root: Path) -> dict[str, str]:
    """Return address -> text of each page, and of that which lists them."""
    result = {}
    listed = ["# Python", "", "The rooms of the package `iin_lightning`.", "", "| room | what is in it |", "|---|---|"]
    for room, said in rooms(root / "src" / "iin_lightning").items():
        listed.append(f"| [`{room}`]({room}.md) | {said} |")
        result[f"reference/python/{room}.md"] = f"# {room}\n\n::: iin_lightning.{room}\n"
    return {"reference/python/index.md": "\n".join(listed) + "\n", **result}


def has(module: str) -> bool:
    """Say whether a module of the package is on a page."""
    inside = module.removeprefix("iin_lightning.")
    return inside != module and inside.partition(".")[0] in rooms()
