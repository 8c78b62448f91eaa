"""Folders that can be read and not written: a colleague's run is measured all the same, and all else is a sentence."""

import json
import shutil

import pytest

MODEL = ("model=sup", "hydra.run.dir=new/0")


@pytest.fixture(scope="module")
def place(command, tiny, workplace, tmp_path_factory):
    """A folder with a run, and with the store and the cache that it has filled."""
    folder = tmp_path_factory.mktemp("shared")
    (folder / "data").symlink_to(workplace / "data")
    command(*tiny(), "model=sup", "hydra.run.dir=runs/0", folder=folder)
    for name in ("outputs", "empty"):
        (folder / name).mkdir()
    return folder


@pytest.fixture
def ask(place, run_command):
    """Run a command where some folders can only be read."""

    def run(module, *arguments, closed):
        paths = [path for name in closed for path in (place / name, *(place / name).rglob("*"))]
        modes = {path: path.stat().st_mode for path in paths}
        try:
            for path, mode in modes.items():
                path.chmod(mode & ~0o222)
            process = run_command(f"iin_lightning.{module}", *arguments, cwd=place, powerless=True)
        finally:
            for path, mode in modes.items():
                path.chmod(mode)
        assert "Traceback" not in process.stderr
        return process

    return run


@pytest.mark.commands
def test_a_run_that_can_only_be_read_is_evaluated_and_analysed(ask, place):
    before = (place / "runs" / "0" / "results.json").read_text(encoding="utf-8")
    asked = (("evaluate", "metric=[likelihood]"), ("analyse", "analysis=dimensions"))
    for module, question in asked:
        shown = ask(module, "run=runs/0", question, closed=("runs", "cache", "models"))
        assert shown.returncode == 0, shown.stderr
        assert "runs/0 cannot be written, so these numbers are in no file: keep them with out=<folder>." in shown.stdout
        assert ("likelihood/nll" if module == "evaluate" else "dimensions/") in shown.stdout
    assert (place / "runs" / "0" / "results.json").read_text(encoding="utf-8") == before
    for module, question in asked:
        written = ask(module, "run=runs/0", question, "out=mine/0", closed=("runs",))
        assert written.returncode == 0, written.stderr
    kept = json.loads((place / "mine" / "0" / "results.json").read_text(encoding="utf-8"))
    assert "nll" in kept["evaluation"]["likelihood"]
    assert "dimensions" in kept["analysis"]
    assert (place / "mine" / "0" / "analysis" / "dimensions.png").is_file()


REFUSED = {
    "a report": ("report", ("run=runs/0",), "runs", "out=<file>"),
    "a table": ("evaluate", ("run=runs/0", "metric=[gaussianity]", "out=empty/x"), "empty", "out=<folder>"),
    "latents": ("analyse", ("run=runs/0", "analysis=dimensions", "paths.cache=empty"), "empty", "paths.cache=<folder>"),
    "a store": ("train", (*MODEL, "paths.models=empty"), "empty", "paths.models=<folder>"),
    "runs": ("train", ("model=sup",), "outputs", "paths.outputs"),
    "a run by its path": ("train", ("model=sup", "hydra.run.dir=outputs/0"), "outputs", "outputs/0 cannot be"),
    "a run that would go on": ("train", ("resume=runs/0", "model.steps=8"), "runs", "runs/0/run.log cannot be"),
    "images to look at": ("look", ("data=color_mnist",), "outputs", "outputs/look cannot be"),
}


@pytest.mark.commands
@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_written_is_said_with_the_key_that_names_another_folder(case, ask, place, tiny):
    module, arguments, closed, said = REFUSED[case]
    shutil.rmtree(place / "new", ignore_errors=True)
    more = tiny() if module == "train" and "resume" not in arguments[0] else ()
    process = ask(module, *more, *arguments, closed=(closed,))
    assert process.returncode == 2
    assert said in process.stderr
    assert "raised while" not in process.stderr
