"""The page that ``report`` writes: for every kind of model, whole in itself, safe whatever things are called."""

import json
import re
from functools import partial
from html.parser import HTMLParser

import pytest
from omegaconf import OmegaConf
from PIL import Image
from tests import reported
from tests.reported import SUP, UNSUP

from iin_lightning.errors import CheckpointError, ConfigError, IINError
from iin_lightning.plots.style import STYLE
from iin_lightning.reporting.tables import analysis_tables, flat
from iin_lightning.runs.folder import write_config

POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
DIGITS = ("data=color_mnist", "data.val_fraction=0.5")
HOSTILE = "<script>alert(1)</script>\"'&{{ 7 * 7 }}$x"
FACTOR = HOSTILE.replace("/", "")


class Read(HTMLParser):
    """What a browser makes of a page: its tags with their attributes, and its text."""

    VOID = ("meta", "link", "img", "br", "wbr")

    def __init__(self, html):
        super().__init__()
        self.open, self.tags, self.words = [], [], []
        self.feed(html)
        self.close()
        assert not self.open, "a tag is not closed"

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag
        self.words += [" "] if tag in ("td", "th") else []

    def handle_data(self, data):
        self.words.append(data)

    @property
    def text(self):
        return re.sub(r"\s+", " ", "".join(self.words))

    def titles(self):
        return [attributes["alt"].partition(".")[0] for tag, attributes in self.tags if tag == "img"]


def read(file):
    """Parse a page, and hold it against what all must keep."""
    html = file.read_text()
    page = Read(html)
    names = {tag for tag, _ in page.tags}
    assert names.isdisjoint({"script", "iframe", "object", "embed", "form", "base", "svg"})
    assert ("meta", {"http-equiv": "Content-Security-Policy", "content": POLICY}) in page.tags
    ids = [attributes["id"] for _, attributes in page.tags if "id" in attributes]
    assert len(ids) == len(set(ids))
    for tag, attributes in page.tags:
        assert not any(name.startswith("on") for name in attributes)
        assert attributes.get("src", "data:image/").startswith("data:image/")
        address = attributes.get("href", "#top")
        assert not address.startswith("#") or address[1:] in ids, address
        assert tag == "a" or address.startswith(("data:,", "#"))
        assert tag != "img" or attributes["alt"].strip()
        assert tag != "th" or attributes["scope"] in ("row", "col")
    assert "url(" not in html.partition("</style>")[0]
    assert "@import" not in html
    return page


@pytest.fixture(autouse=True)
def _small_pictures(monkeypatch):
    monkeypatch.setitem(STYLE, "savefig.dpi", 40)


@pytest.fixture
def ask(tmp_path):
    """Report in this process."""
    return partial(reported.ask, tmp_path / "cache")


@pytest.fixture
def make(mnist_root, tmp_path):
    """A run of digits."""

    def build(kind, dims=None, outcome=None, folder="run", data=DIGITS, root=mnist_root):
        return reported.make(tmp_path / folder, kind, dims, outcome, (*data, f"paths.data={root}"))

    return build


KINDS = {
    "supervised": ("autoencoder", SUP, ["Swaps", "Walk in digit", "Reconstructions", "Interpolations", "Samples"]),
    "unsupervised": ("autoencoder", UNSUP, ["Walk in residual", "Samples"]),
    "classifier": ("classifier", SUP, ["Response to walks in each factor"]),
    "torchvision": ("torchvision", None, []),
    "changed images": ("autoencoder", {"residual": 5, "gray": 3}, ["Swaps", "Walk in gray"]),
    "a bare gray autoencoder": ("gray autoencoder", None, ["Reconstructions"]),
}
DATA = {
    "a bare gray autoencoder": ["data=mnist", "data.val_fraction=0.5"],
    "changed images": ["data=gray", "data@data.base=color_mnist", "data.base.val_fraction=0.5", "data.keep=[]"],
}
SCORES = {"digit": 0.09, "reconstruction": 0.91, "chance": 0.1, "images": 0.99}
UNLEARNED = {"metrics": {f"test/transfer/digit/{case}": score for case, score in SCORES.items()}}
NAMES = {"torchvision": "shufflenet_v2_x0_5", "classifier": "Classifier("}


@pytest.mark.parametrize("kind", KINDS)
def test_what_a_run_has_not_drawn_is_drawn_now_and_what_is_not_learned_is_named_first(kind, make, ask):
    of, dims, wanted = KINDS[kind]
    folder = make(of, dims, UNLEARNED, data=DATA.get(kind, DIGITS))
    before = {path for path in folder.rglob("*") if path.is_file()}
    ask(f"run={folder}")
    assert {path for path in folder.rglob("*") if path.is_file()} - before == {folder / "report.html"}
    page = read(folder / "report.html")
    assert {*wanted, "Held-out images"} <= set(page.titles())
    assert "Not shown" not in page.text
    assert NAMES.get(kind, "Autoencoder(") in page.text
    assert f"test {48 if kind == 'changed images' else 24} images" in page.text
    assert ("fingerprint of the translator" in page.text) == (dims is not None)
    if kind == "supervised":
        assert "transfer 0.09 of 0.91 (chance 0.1): not to be believed yet" in page.text
        assert page.text.index("Not to be believed yet") < page.text.index("Held-out images")
        assert "of swaps carry the digit over, of 91.0% that can be read" in page.text


@pytest.mark.commands
def test_the_page_of_a_training_has_every_number_and_says_where_it_comes_from(command, run_command, tiny, workplace):
    asked = ("+evaluation.metric=[likelihood]", "+analysis@analyses.dimensions=dimensions")
    command(*tiny(), *asked, "model=sup", "name='<b>tiny</b>'", "hydra.run.dir=reported/run")
    process = run_command("iin_lightning.report", "run=reported/run", cwd=workplace)
    assert process.returncode == 0, process.stderr
    assert "reported/run/report.html (" in re.sub(r"\s+", " ", process.stdout)
    folder = workplace / "reported" / "run"
    page, outcome = read(folder / "report.html"), json.loads((folder / "results.json").read_text())
    outcome.pop("figures")
    exact = [attributes["value"] for tag, attributes in page.tags if tag == "data"]
    known = {*map(float, exact), *map(float, re.findall(r"(?<![\w.])-?\d+(?:\.\d+)?(?:e-?\d+)?", page.text))}
    values = [value for _, value in flat(outcome)]
    values = [one for value in values for one in (value if isinstance(value, list) else [value])]
    numbers = [one for one in values if isinstance(one, int | float)]
    assert len(numbers) > 20
    assert set(map(float, numbers)) <= known
    provenance = json.loads((folder / "provenance.json").read_text())
    for text in (
        "<b>tiny</b>",
        "digit: share read right",
        provenance["started"],
        f"torch {provenance['versions']['torch']}",
        json.loads((folder / "model" / "model.json").read_text())["weights_sha256"],
        "residual 4, digit 2, color 2",
        provenance["command"],
        "CC BY-SA 3.0",
    ):
        assert text in page.text, text
    wanted = {"Swaps", "Walk in color", "Samples", "Training curves", "dimensions", "Held-out images"}
    assert wanted <= set(page.titles())


def test_names_of_users_are_text_and_nothing_else(make, ask):
    numbers = {HOSTILE: 0.25, "of": HOSTILE}
    outcome = {
        "name": HOSTILE,
        "metrics": {f"test/transfer/{FACTOR}/digit": 0.5, f"test/{HOSTILE}": 1.5},
        "evaluation": {HOSTILE: {HOSTILE: {"value": 0.5, HOSTILE: HOSTILE}}},
        "analysis": {HOSTILE: {HOSTILE: numbers, "other": {"a": numbers}}},
        HOSTILE: HOSTILE,
    }
    folder = make("autoencoder", {"residual": 5, FACTOR: 3}, outcome, "<img src=x onerror=alert(1)>")
    (folder / "analysis").mkdir()
    Image.new("RGB", (8, 8)).save(folder / "analysis" / "<img src=x onerror=alert(2)>.png")
    (folder / "metrics.csv").write_text(
        f'step,"train/{HOSTILE.replace(chr(34), chr(34) * 2)}"\n1,0.5\n2,0.25\n3,\n4,cut'
    )
    (folder / "provenance.json").write_text(json.dumps({"command": HOSTILE, "git": HOSTILE, "versions": [HOSTILE]}))
    ask(f"run='{folder}'")
    page = read(folder / "report.html")
    assert page.text.count(HOSTILE) > 8
    assert f"Walk in {FACTOR}" in {
        attributes["alt"].partition(". ")[0] for tag, attributes in page.tags if tag == "img"
    }


@pytest.mark.parametrize(
    ("changed", "why"),
    [
        ({}, "nowhere"),
        ({"mean": 0.5}, "unexpected keyword argument 'mean'"),
        ({"root": "${oc.env:IIN_LIGHTNING_UNSET}"}, "IIN_LIGHTNING_UNSET"),
    ],
)
def test_without_the_images_it_says_why_and_shows_what_is_there(changed, why, make, ask, tmp_path):
    folder = make("autoencoder", SUP, {"metrics": {"test/nll": 1.25}}, root=tmp_path / "nowhere")
    config = OmegaConf.load(folder / "config.yaml")
    config.data.update(changed)
    write_config(folder / "config.yaml", config)
    (folder / "figures").mkdir()
    Image.new("RGB", (60, 40)).save(folder / "figures" / "swap.png")
    ask(f"run={folder}")
    page = read(folder / "report.html")
    assert page.titles() == ["Swaps"]
    for text in ("There are no images here", why, "1.25"):
        assert text in page.text


def test_a_bare_model_needs_no_data_to_be_described(make, ask, tmp_path):
    folder = make("autoencoder", SUP) / "model"
    ask(f"run={folder}", f"out={tmp_path}/there/page.html")
    page = read(tmp_path / "there" / "page.html")
    assert "data=<data set> names them" in page.text
    assert not list(folder.glob("*.html"))


def test_several_runs_have_pages_and_those_that_are_whole_are_compared(make, ask, tmp_path):
    for name, nll in (("a", 1.0), ("b", 3.0), ("c", 0.0)):
        make("classifier", None, {"metrics": {"test/nll": nll}, "seed": 7}, f"runs/{name}")
    (tmp_path / "runs" / "c" / "results.json").write_text("{")
    with pytest.raises(IINError, match=r"1 of 3 runs have no page\.\n.*runs/c: .*results\.json is damaged"):
        ask(f"run={tmp_path}/runs/*")
    page = read(tmp_path / "runs" / "report.html")
    links = [attributes["href"] for tag, attributes in page.tags if tag == "a"]
    assert {"a/report.html", "b/report.html"} <= set(links)
    assert [(tmp_path / "runs" / name / "report.html").is_file() for name in "abc"] == [True, True, False]
    assert re.search(r"test/nll ?2 ?1.414 ?1 ?3", page.text)
    assert page.titles() == ["a: Held-out images", "b: Held-out images"]
    assert "results.json is damaged" in page.text


def test_a_run_that_lies_in_another_keeps_its_page_and_a_run_that_is_named_twice_has_one(make, ask, tmp_path):
    for name in ("run", "run/finer"):
        make("classifier", None, {"name": name}, name)
    ask(f"run=[{tmp_path}/run,{tmp_path}/run/finer,{tmp_path}/run/../run]")
    assert "finer" not in read(tmp_path / "run" / "report.html").text
    page = read(tmp_path / "report.html")
    assert {"run/report.html", "run/finer/report.html"} <= {attributes.get("href") for _, attributes in page.tags}
    assert page.titles() == ["run: Held-out images", "run/finer: Held-out images"]


def test_what_is_damaged_is_named_and_the_rest_is_shown_without_secrets(make, ask):
    folder = make("classifier", None, {"analysis": {"dimensions": {"n": 3}}}, data=["data=color_mnist_mini"])
    (folder / "analysis").mkdir()
    Image.new("RGB", (8, 8)).save(folder / "analysis" / "dimensions.png")
    whole = (folder / "analysis" / "dimensions.png").read_bytes()
    (folder / "analysis" / "dimensions.png").write_bytes(whole[:20] + bytes(40) + whole[60:])  # PIL: SyntaxError
    Image.new("RGB", (8, 8)).save(folder / "analysis" / "other.png", format="EPS")
    (folder / "metrics.csv").write_text("step,train/nll\n1,0.5\n2,0.25\n" + "\0" * 200_000)
    (folder / "metrics.stepless.csv").write_text("epoch,val/accuracy\n1,0.5\n")
    (folder / "config.resumed.yaml").write_text('hub:\n  token: s3cr3t\n  next: {token: s3cr3t, "s3cr3t')
    ask(f"run={folder}")
    page = read(folder / "report.html")
    assert {"dimensions", "other"}.isdisjoint(page.titles())
    failed = page.text.rpartition("Not shown")[2]
    for text in (
        "dimensions.png is no picture that can be read",
        "other.png is no picture that can be read",
        "metrics.csv cannot be read to its end",
        "config.resumed.yaml is no configuration, or damaged",
    ):
        assert text in failed
    assert "Over the steps: nll, as metrics.csv has them" in page.text
    assert "All of config.yaml." in page.text
    assert "s3cr3t" not in page.text


def test_a_run_that_went_on_shows_its_last_configuration_and_all_of_its_curves(make, ask):
    folder = make("classifier")
    (folder / "config.resumed.yaml").write_text("model: {steps: 4711}\nhub: {token: s3cr3t}\n")
    (folder / "provenance.json").write_text(json.dumps({"command": "first", "resumed": [{"command": "second"}]}))
    (folder / "metrics.csv").write_text("step,train/nll\n2,0.25\n")
    (folder / "metrics.1.csv").write_text("step,train/loss\n1,0.5\n")
    ask(f"run={folder}")
    page = read(folder / "report.html")
    for text in ("went on (1): command second", "All of config.resumed.yaml.", "steps: 4711"):
        assert text in page.text
    assert {"nll", "loss"} <= set(re.search(r"Over the steps: (.*), as metrics", page.text)[1].split(", "))
    assert "s3cr3t" not in page.text


def test_classes_are_no_formulas_and_no_image_is_cached(make, ask, tmp_path):
    for split, count in (("train", 6), ("test", 4)):
        for number, name in enumerate(("$_$", "$5 and $10")):
            (folder := tmp_path / "images" / split / name).mkdir(parents=True)
            for item in range(count):
                Image.new("RGB", (32, 32), (90 * number, 20 * item, 50)).save(folder / f"{item}.png")
    images = ["data=image_folder", f"data.root={tmp_path}/images", "data.size=32", "data.concept='$_$'"]
    folder = make("classifier of 2", {"residual": 5, "$_$": 3}, data=images)
    ask(f"run={folder}")
    page = read(folder / "report.html")
    assert {"Response to walks in each factor", "Held-out images"} <= set(page.titles())
    assert "2 classes: $5 and $10 (50.0%), $_$ (50.0%)" in page.text
    assert "Not shown" not in page.text
    assert not (tmp_path / "cache").exists()


@pytest.mark.parametrize(
    ("arguments", "error", "text"),
    [
        (["to=htlm"], ConfigError, "did you mean html?"),
        ([], ConfigError, r"run=<run folder>"),
        (["run=nowhere"], CheckpointError, "run=nowhere is no finished run"),
        (["to=wandb", "out=here.json"], ConfigError, "run=<run folder>"),
    ],
)
def test_what_cannot_be_reported_is_said(arguments, error, text, ask):
    with pytest.raises(error, match=text):
        ask(*arguments)


def test_what_an_analysis_says_of_several_names_stands_side_by_side():
    plain, factors = analysis_tables({"of": "5 images", "n": 3, "factors": {"a": {"x": 1.0}, "b": {"x": 2.0, "y": 7}}})
    assert (plain.text, plain.rows) == ("Of 5 images.", [["n", 3]])
    assert (factors.head, factors.rows) == (["", "a", "b"], [["x", 1.0, 2.0], ["y", "", 7]])
