"""The page that ``report`` writes: of every kind of model, whole in itself, small, safe whatever things are called."""

import json
import re
from dataclasses import replace
from html.parser import HTMLParser

import pytest
import torch
from hydra import compose, initialize_config_dir
from hydra.core.config_store import ConfigStore
from hydra.core.hydra_config import HydraConfig
from matplotlib.figure import Figure
from omegaconf import OmegaConf
from PIL import Image

from iin_lightning import serialization
from iin_lightning.app.command import compose_train
from iin_lightning.app.paths import conf_folder, register_resolvers
from iin_lightning.app.report import report
from iin_lightning.app.reporting.numbers import analysis_tables, flat
from iin_lightning.app.reporting.page import LIMIT, Page, Section, Table, render, render_within
from iin_lightning.app.reporting.pictures import raster, smaller, vector
from iin_lightning.encoders import Autoencoder, Classifier
from iin_lightning.errors import CheckpointError, ConfigError
from iin_lightning.factors import Factors
from iin_lightning.flows.translator import Translator
from iin_lightning.interpreter import Interpreter
from iin_lightning.plots.curves import curves_figure
from iin_lightning.report import Report

POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
HOSTILE = "<script>alert(1)</script>\"'&{{ 7 * 7 }}$x"
SUP, UNSUP = {"residual": 4, "digit": 3, "color": 1}, {"residual": 8}


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
    assert len(html.encode()) < LIMIT
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


@pytest.fixture
def ask(tmp_path):
    """Compose and report in this process."""

    def run(*overrides):
        register_resolvers()
        ConfigStore.instance().store("iin_lightning_report", Report)
        with initialize_config_dir(str(conf_folder()), version_base="1.3"):
            few = ("response.steps=4", "response.walks=3", "response.draws=4", f"paths.cache={tmp_path}/cache")
            config = compose("report", ["device=cpu", *few, *overrides], return_hydra_config=True)
        HydraConfig.instance().set_config(config)
        report(config)

    return run


def network(kind):
    torch.manual_seed(0)
    if kind == "classifier":
        return Classifier(n_classes=10, image_size=32, latent_dim=8, width=4, norm="batch").eval()
    return Autoencoder(image_size=32, latent_dim=8, width=4, norm="batch").eval()


@pytest.fixture
def make(mnist_root, tmp_path):
    """A run of networks that know nothing yet: what is shown does not depend on what they know."""

    def build(kind, dims=None, outcome=None, folder="run", data_root=mnist_root):
        folder, encoder = tmp_path / folder, network(kind)
        if dims is None:
            serialization.save(encoder, folder / "model", {"network": serialization.describe(encoder)})
        else:
            translator = Translator(8, n_blocks=2, hidden=8)
            translator.initialize(torch.randn(64, 8, generator=torch.Generator().manual_seed(3)))
            Interpreter(encoder, translator, Factors(dims, 8)).save_pretrained(folder / "model")
        config = compose_train("data=color_mnist", f"paths.data={data_root}", "data.val_fraction=0.5")
        OmegaConf.set_struct(config, False)
        config.data.download = False
        OmegaConf.save(config, folder / "config.yaml")
        if outcome is not None:
            (folder / "results.json").write_text(json.dumps(outcome))
        return folder

    return build


KINDS = {
    "autoencoder, supervised": ("autoencoder", SUP, ["Swaps", "Walk in digit", "Reconstructions", "Samples"]),
    "autoencoder, unsupervised": ("autoencoder", UNSUP, ["Walk in residual", "Interpolations", "Samples"]),
    "classifier": ("classifier", SUP, ["Response to walks in each factor"]),
    "a bare autoencoder": ("autoencoder", None, ["Reconstructions"]),
    "a bare classifier": ("classifier", None, []),
}


@pytest.mark.parametrize("kind", KINDS)
def test_what_a_run_has_not_drawn_is_drawn_now_and_nothing_else_is_written(kind, make, ask):
    of, dims, wanted = KINDS[kind]
    folder = make(of, dims)
    before = {path for path in folder.rglob("*") if path.is_file()}
    ask(f"run={folder}")
    assert {path for path in folder.rglob("*") if path.is_file()} - before == {folder / "report.html"}
    page = read(folder / "report.html")
    assert {*wanted, "Held-out images"} <= set(page.titles())
    assert "Not shown" not in page.text
    assert f"{of.capitalize()}(" in page.text
    assert "20 images" in page.text  # of the test split
    assert ("fingerprint of the translator" in page.text) == (dims is not None)


@pytest.fixture(scope="module")
def trained(command, tiny, workplace):
    """A run with all that a training leaves, an evaluation and an analysis."""
    asked = ("+evaluation.metric=[likelihood]", "+analysis@analyses.dimensions=dimensions")
    command(*tiny(), *asked, "model=sup", "name='<b>tiny</b>'", "hydra.run.dir=reported/run")
    return workplace / "reported" / "run"


@pytest.fixture(scope="module")
def page(trained, run_command, workplace):
    process = run_command("iin_lightning.report", "run=reported/run", cwd=workplace)
    assert process.returncode == 0, process.stderr
    assert "reported/run/report.html (" in re.sub(r"\s+", " ", process.stdout)
    return read(trained / "report.html")


def test_every_number_of_a_run_stands_on_its_page(trained, page):
    outcome = json.loads((trained / "results.json").read_text())
    outcome.pop("figures")
    exact = [attributes["value"] for tag, attributes in page.tags if tag == "data"]
    known = {*map(float, exact), *map(float, re.findall(r"(?<![\w.])-?\d+(?:\.\d+)?(?:e-?\d+)?", page.text))}
    values = [value for _, value in flat(outcome)]
    values = [one for value in values for one in (value if isinstance(value, list) else [value])]
    found = [one for one in values if isinstance(one, int | float)]
    assert len(found) > 20
    assert set(map(float, found)) <= known


def test_the_page_of_a_run_says_what_it_is_and_where_it_comes_from(trained, page):
    provenance = json.loads((trained / "provenance.json").read_text())
    structure = json.loads((trained / "model" / "model.json").read_text())
    for said in (
        "<b>tiny</b>",
        "digit: share read right",
        provenance["started"],
        provenance["versions"]["torch"],
        structure["weights_sha256"],
        "residual 4, digit 2, color 2",
        provenance["command"],
        "CC BY-SA 3.0",
    ):
        assert said in page.text, said
    assert {"Swaps", "Walk in color", "Samples", "Training curves", "dimensions", "Held-out images"} <= set(
        page.titles()
    )


def test_names_of_users_are_text_and_nothing_else(make, ask, tmp_path):
    numbers = {HOSTILE: 0.25, "of": HOSTILE}
    outcome = {
        "name": HOSTILE,
        "metrics": {f"test/transfer/{HOSTILE.replace('/', '')}/digit": 0.5, f"test/{HOSTILE}": 1.5},
        "evaluation": {HOSTILE: {HOSTILE: {"value": 0.5, HOSTILE: HOSTILE}}},
        "analysis": {HOSTILE: {HOSTILE: numbers, "other": {"a": numbers}}},
        HOSTILE: HOSTILE,
    }
    folder = make("autoencoder", {"residual": 5, HOSTILE: 3}, outcome, "<img src=x onerror=alert(1)>")
    (folder / "analysis").mkdir()
    Image.new("RGB", (8, 8)).save(folder / "analysis" / "<img src=x onerror=alert(2)>.png")
    (folder / "metrics.csv").write_text(
        f'step,"train/{HOSTILE.replace(chr(34), chr(34) * 2)}"\n1,0.5\n2,0.25\n3,\n4,cut'
    )
    (folder / "provenance.json").write_text(json.dumps({"command": HOSTILE, "git": HOSTILE, "versions": [HOSTILE]}))
    ask(f"run='{folder}'")
    page = read(folder / "report.html")
    assert page.text.count(HOSTILE) > 8
    assert f"Walk in {HOSTILE}" in {
        attributes["alt"].partition(". ")[0] for tag, attributes in page.tags if tag == "img"
    }


def test_without_the_images_it_says_so_and_shows_what_is_there(make, ask, tmp_path):
    folder = make("autoencoder", SUP, {"metrics": {"test/nll": 1.25}}, data_root=tmp_path / "nowhere")
    (folder / "figures").mkdir()
    Image.new("RGB", (60, 40)).save(folder / "figures" / "swap.png")
    (folder / "figures" / "samples.png").write_text("no picture")
    ask(f"run={folder}")
    page = read(folder / "report.html")
    assert page.titles() == ["Swaps"]
    assert "There are no images here" in page.text
    assert "nowhere" in page.text
    assert "1.25" in page.text
    assert "samples.png is no picture" in page.text


def test_a_bare_model_needs_no_data_to_be_described(make, ask, tmp_path):
    folder = make("autoencoder", SUP) / "model"
    ask(f"run={folder}", f"out={tmp_path}/there/page.html")
    page = read(tmp_path / "there" / "page.html")
    assert "data=<data set> names them" in page.text
    assert not list(folder.glob("*.html"))


def test_several_runs_are_compared_and_each_has_a_page(make, ask, tmp_path):
    for name, nll in (("a", 1.0), ("b", 3.0)):
        make("classifier", None, {"metrics": {"test/nll": nll}, "seed": 7}, f"runs/{name}")
    ask(f"run={tmp_path}/runs/*")
    page = read(tmp_path / "runs" / "report.html")
    links = [attributes["href"] for tag, attributes in page.tags if tag == "a"]
    assert {"a/report.html", "b/report.html"} <= set(links)
    assert all((tmp_path / "runs" / name / "report.html").is_file() for name in "ab")
    assert re.search(r"test/nll ?2 ?1.414 ?1 ?3", page.text)
    assert page.titles() == ["a: Held-out images", "b: Held-out images"]


@pytest.mark.parametrize(
    ("arguments", "error", "said"),
    [
        (["to=htlm"], ConfigError, "did you mean html?"),
        ([], ConfigError, r"run=<run folder>"),
        (["run=nowhere"], CheckpointError, "run=nowhere is no finished run"),
    ],
)
def test_what_cannot_be_reported_is_said(arguments, error, said, ask):
    with pytest.raises(error, match=said):
        ask(*arguments)


def noise(seed=0, side=200):
    """A picture that cannot be compressed."""
    figure = Figure(figsize=(side / 200, side / 200), dpi=200)
    axes = figure.add_axes((0, 0, 1, 1))
    axes.imshow(torch.rand(side, side, 3, generator=torch.Generator().manual_seed(seed)).numpy())
    return raster(figure, f"noise {seed}", "noise")


def test_a_page_that_is_too_large_shows_smaller_pictures_and_says_so():
    page = Page("title", "lead", [], [Section("Pictures", "text", [noise(seed) for seed in range(3)])], "")
    whole, bare = (len(render(one).encode()) for one in (page, replace(page, sections=[Section("Pictures", "text")])))
    cases = {
        whole + 1: "",
        0.7 * whole: "fewer colours, so",
        0.2 * whole: "% of their width",
        bare + 9000: "no room at all",
    }
    for limit, said in cases.items():
        html = render_within(page, int(limit))
        assert len(html.encode()) < limit
        assert said in html
        assert ("note" in {a.get("class") for _, a in Read(html).tags}) == bool(said)
    with pytest.raises(ConfigError, match="tables alone"):
        render_within(Page("title", "", [], [Section("a", tables=[Table([], [["b", "c" * 9000]])])], ""), 9000)


def test_pictures_keep_their_shape_and_lines_stay_lines():
    picture = noise()
    half = smaller(picture, 0.5)
    assert half.size == pytest.approx((picture.size[0] / 2, picture.size[1] / 2), abs=1)
    assert len(half.data) < len(picture.data) / 4
    lines = vector(curves_figure({"$nll": {"train": [(0, 1.0), (1, 2.0)]}}), "curves", "nll")
    assert smaller(lines, 0.5) is lines
    assert lines.uri.startswith("data:image/svg+xml;base64,")


def test_what_an_analysis_says_of_several_names_stands_side_by_side():
    numbers = {"of": "5 images", "n": 3, "factors": {"a": {"x": 1.0, "x_interval": [0.5, 2.0]}, "b": {"x": 2.0}}}
    plain, factors = analysis_tables(numbers)
    assert (plain.text, plain.rows) == ("Of 5 images.", [["n", 3]])
    assert (factors.head, factors.rows) == (["", "a", "b"], [["x", (1.0, 0.5, 2.0), 2.0]])
