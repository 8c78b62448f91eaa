"""A page of the Python reference for each room of the package, written by its docstrings."""

from pathlib import Path

# In the order of the navigation. The rooms behind the commands (app) are no library.
ROOMS = {
    "interpreter": "The trained whole: encode, split into factors, edit, decode; saved and loaded.",
    "factors": "Names and dimensions of factors; pairs and what they share.",
    "flows": "The translator T and the invertible layers that it is made of.",
    "encoders": "The networks that are explained: E and G.",
    "losses": "What is minimised.",
    "data": "Images, concepts, pairs and latents.",
    "analysis": "Questions to an interpreter, as functions of tensors.",
    "app.analyses": "The same questions as `iin_lightning.analyse` asks them: numbers, tables and figures.",
    "metrics": "Numbers by which models are compared.",
    "tasks": "What Lightning trains.",
    "callbacks": "What happens while it trains.",
    "plots": "Figures made of numbers.",
    "checkpoints": "The authors' checkpoints, read and converted.",
    "layers": "What several networks are built of.",
    "serialization": "Networks as safetensors and JSON.",
    "bounded": "Files from elsewhere, read within bounds.",
    "trusted": "Whose classes a folder may name.",
    "seeding": "The same numbers at every run.",
    "errors": "What may go wrong, in words.",
    "progress": "How far what takes long is.",
}


def pages(root: Path) -> dict[str, str]:
    """Address -> text of each page, and of the one that lists them."""
    package = root / "src" / "iin_lightning"
    result = {}
    listed = ["# Python", "", "The rooms of the package `iin_lightning`.", "", "| room | what is in it |", "|---|---|"]
    for room, said in ROOMS.items():
        path = package / room.replace(".", "/")
        if not path.is_dir() and not path.with_suffix(".py").is_file():
            raise FileNotFoundError(f"docs/_scripts/api.py names iin_lightning.{room}, which is not there.")
        name = f"{room.replace('.', '_')}.md"
        listed.append(f"| [`{room}`]({name}) | {said} |")
        result[f"reference/python/{name}"] = f"# {room}\n\n{said}\n\n::: iin_lightning.{room}\n"
    return {"reference/python/index.md": "\n".join(listed) + "\n", **result}


def has(module: str) -> bool:
    """Whether a module of the package is on one of the pages."""
    inside = module.removeprefix("iin_lightning.")
    return inside != module and any(inside == room or inside.startswith(f"{room}.") for room in ROOMS)
