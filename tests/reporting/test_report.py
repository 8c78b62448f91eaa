"""The page that ``report`` writes: of every kind of model, whole in itself, small, safe whatever things are called."""

import json
import re
from dataclasses import replace
from functools import partial
from html.parser import HTMLParser

import pytest
import torch
from matplotlib.figure import Figure
from omegaconf import OmegaConf
from PIL import Image
from tests import reported
from tests.reported import SUP, UNSUP

from iin_lightning import progress
from iin_lightning.data.disk import in_units
from iin_lightning.errors import CheckpointError, ConfigError, IINError
from iin_lightning.plots.curves import curves_figure
from iin_lightning.reporting.numbers import analysis_tables, flat
from iin_lightning.reporting.page import LIMIT, Page, Section, Table, render, render_within
from iin_lightning.reporting.pictures import raster, smaller, vector
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
    """Report in this process."""
    return partial(reported.ask, tmp_path / "cache")


@pytest.fixture
def make(mnist_root, tmp_path):
    """A run of digits."""

    def build(kind, dims=None, outcome=None, folder="run", data=DIGITS, root=mnist_root):
        return reported.make(tmp_path / folder, kind, dims, outcome, (*data, f"paths.data={root}"))

    return build


KINDS = {
    "autoencoder, supervised": ("autoencoder", SUP, ["Swaps", "Walk in digit", "Reconstructions", "Samples"]),
    "autoencoder, unsupervised": ("autoencoder", UNSUP, ["Walk in residual", "Interpolations", "Samples"]),
    "classifier": ("classifier", SUP, ["Response to walks in each factor"]),
    "torchvision": ("torchvision", {"residual": 1020, "digit": 4}, ["Response to walks in each factor"]),
    "gray": ("gray autoencoder", {"residual": 5, "digit": 3}, ["Swaps", "Walk in digit"]),
    "changed images": ("autoencoder", {"residual": 5, "gray": 3}, ["Swaps", "Walk in gray"]),
    "a bare autoencoder": ("autoencoder", None, ["Reconstructions"]),
    "a bare classifier": ("classifier", None, []),
}
DATA = {
    "gray": ["data=mnist", "data.val_fraction=0.5"],
    "changed images": ["data=gray", "data@data.base=color_mnist", "data.base.val_fraction=0.5", "data.keep=[]"],
}
NAMES = {"torchvision": "shufflenet_v2_x0_5", "gray": "Autoencoder", "changed images": "Autoencoder"}


@pytest.mark.parametrize("kind", KINDS)
def test_what_a_run_has_not_drawn_is_drawn_now_and_nothing_else_is_written(kind, make, ask):
    of, dims, wanted = KINDS[kind]
    folder = make(of, dims, data=DATA.get(kind, DIGITS))
    before = {path for path in folder.rglob("*") if path.is_file()}
    ask(f"run={folder}")
    assert {path for path in folder.rglob("*") if path.is_file()} - before == {folder / "report.html"}
    page = read(folder / "report.html")
    assert {*wanted, "Held-out images"} <= set(page.titles())
    assert "Not shown" not in page.text
    assert NAMES.get(kind, f"{of.capitalize()}(") in page.text
    assert f"test {48 if kind == 'changed images' else 24} images" in page.text
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


def test_without_the_images_it_says_so_and_shows_what_is_there(make, ask, tmp_path):
    folder = make("autoencoder", SUP, {"metrics": {"test/nll": 1.25}}, root=tmp_path / "nowhere")
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


def test_several_runs_of_which_one_is_damaged_are_compared_without_it(make, ask, tmp_path):
    for name in "abc":
        make("classifier", None, {"metrics": {"test/nll": 1.0}}, f"runs/{name}")
    (tmp_path / "runs" / "a" / "results.json").write_text("{")
    with pytest.raises(IINError, match=r"1 of 3 runs have no page\.\n.*runs/a: .*results\.json is damaged") as told:
        ask(f"run={tmp_path}/runs/*")
    assert told.value.exit_code == 2
    page = read(tmp_path / "runs" / "report.html")
    assert page.titles() == ["b: Held-out images", "c: Held-out images"]
    assert "results.json is damaged" in page.text
    assert not (tmp_path / "runs" / "a" / "report.html").exists()


def test_a_run_that_is_named_twice_is_one_run(make, ask):
    folder = make("classifier")
    ask(f"run=[{folder},{folder}/../{folder.name}]")
    assert "classes" in read(folder / "report.html").text
    assert [path.name for path in folder.parent.rglob("*.html")] == ["report.html"]


def test_a_run_that_lies_in_another_one_keeps_its_page_and_has_a_name(make, ask, tmp_path):
    for name, nll in (("run", 1.0), ("run/finer", 3.0)):
        make("classifier", None, {"name": name, "metrics": {"test/nll": nll}}, name)
    ask(f"run=[{tmp_path}/run,{tmp_path}/run/finer]")
    assert "finer" not in read(tmp_path / "run" / "report.html").text
    page = read(tmp_path / "run" / "comparison.html")
    links = {attributes["href"] for tag, attributes in page.tags if tag == "a"}
    assert {"report.html", "finer/report.html"} <= links
    assert page.titles() == ["run: Held-out images", "run/finer: Held-out images"]


def test_pictures_that_are_damaged_or_no_png_are_said_of_and_not_shown(make, ask):
    folder = make("autoencoder", SUP, {"analysis": {"dimensions": {"n": 3}}}, data=["data=color_mnist_mini"])
    (folder / "analysis").mkdir()
    Image.new("RGB", (8, 8)).save(folder / "analysis" / "dimensions.png")
    whole = (folder / "analysis" / "dimensions.png").read_bytes()
    (folder / "analysis" / "dimensions.png").write_bytes(whole[:20] + bytes(40) + whole[60:])  # PIL: SyntaxError
    Image.new("RGB", (8, 8)).save(folder / "analysis" / "other.png", format="EPS")
    ask(f"run={folder}")
    page = read(folder / "report.html")
    assert {"dimensions", "other"}.isdisjoint(page.titles())
    said = page.text.rpartition("Not shown")[2]
    for name in ("dimensions", "other"):
        assert f"{name}.png is no picture that can be read" in said


def test_curves_are_shown_as_far_as_they_can_be_read(make, ask):
    folder = make("classifier")
    (folder / "metrics.csv").write_text("step,train/nll\n1,0.5\n2,0.25\n" + "\0" * 200_000)
    (folder / "metrics.stepless.csv").write_text("epoch,val/accuracy\n1,0.5\n")
    ask(f"run={folder}")
    page = read(folder / "report.html")
    assert "Over the steps: nll, as metrics.csv has them" in page.text
    assert "metrics.csv cannot be read to its end" in page.text


def test_a_run_that_went_on_shows_what_it_was_last_configured_as(make, ask):
    folder = make("classifier")
    (folder / "config.resumed.yaml").write_text("model: {steps: 4711}\nhub: {token: s3cr3t}\n")
    (folder / "provenance.json").write_text(json.dumps({"command": "first", "resumed": [{"command": "second"}, 3]}))
    (folder / "metrics.csv").write_text("step,train/nll\n2,0.25\n")
    (folder / "metrics.1.csv").write_text("step,train/loss\n1,0.5\n")
    ask(f"run={folder}")
    page = read(folder / "report.html")
    assert "went on (1): command second" in page.text
    assert "All of config.resumed.yaml." in page.text
    assert "steps: 4711" in page.text
    assert {"nll", "loss"} <= set(re.search(r"Over the steps: (.*), as metrics", page.text)[1].split(", "))
    assert "s3cr3t" not in page.text


def test_a_configuration_that_was_half_written_is_said_of_and_tells_no_secret(make, ask):
    folder = make("classifier")
    (folder / "config.resumed.yaml").write_text('hub:\n  token: s3cr3t\n  next: {token: s3cr3t, "s3cr3t')
    ask(f"run={folder}")
    page = read(folder / "report.html")
    assert "All of config.yaml." in page.text
    assert "config.resumed.yaml is no configuration, or damaged" in page.text
    assert "s3cr3t" not in page.text


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"mean": 0.5}, "unexpected keyword argument 'mean'"),
        ({"_target_": "iin_lightning.data.gone.Gone"}, "iin_lightning.data.gone.Gone"),
        ({"root": "${oc.env:IIN_LIGHTNING_UNSET}"}, "IIN_LIGHTNING_UNSET"),
    ],
)
def test_data_of_another_version_are_said_of_and_the_rest_is_shown(changed, said, make, ask):
    folder = make("autoencoder", SUP, {"metrics": {"test/nll": 1.25}})
    config = OmegaConf.load(folder / "config.yaml")
    config.data.update(changed)
    write_config(folder / "config.yaml", config)
    ask(f"run={folder}")
    page = read(folder / "report.html")
    assert "There are no images here" in page.text
    assert said in page.text
    assert "1.25" in page.text


@pytest.fixture
def own_images(tmp_path):
    """A folder of classes that are called like formulas."""
    for split, count in (("train", 6), ("test", 4)):
        for number, name in enumerate(("$_$", "$5 and $10")):
            (folder := tmp_path / "images" / split / name).mkdir(parents=True)
            for item in range(count):
                Image.new("RGB", (32, 32), (90 * number, 20 * item, 50)).save(folder / f"{item}.png")
    return ["data=image_folder", f"data.root={tmp_path}/images", "data.size=32", "data.concept='$_$'"]


def test_classes_are_no_formulas_and_no_image_is_cached(own_images, make, ask, tmp_path):
    folder = make("classifier of 2", {"residual": 5, "$_$": 3}, data=own_images)
    ask(f"run={folder}")
    page = read(folder / "report.html")
    assert {"Response to walks in each factor", "Held-out images"} <= set(page.titles())
    assert "2 classes: $5 and $10 (50.0%), $_$ (50.0%)" in page.text
    assert "Not shown" not in page.text
    assert not (tmp_path / "cache").exists()


def test_a_factor_that_is_not_learned_is_named_first(make, ask, tmp_path):
    scores = {"digit": 0.09, "reconstruction": 0.91, "chance": 0.1, "images": 0.99}
    folder = make("autoencoder", SUP, {"metrics": {f"test/transfer/digit/{k}": v for k, v in scores.items()}}, "run")
    ask(f"run={folder}")
    text = read(folder / "report.html").text
    assert "transfer 0.09 of 0.91 (chance 0.1): not to be believed yet" in text
    assert text.index("Not to be believed yet") < text.index("Held-out images")
    assert "of swaps carry the digit over, of 91.0% that can be read" in text


ODD = {
    "metrics are a list": ({"metrics": [1.5]}, "metrics 1.5"),
    "validation and all that follows are words": (
        {"validation": "lost", "evaluation": "lost", "analysis": "gone"},
        "analysis gone",
    ),
    "a transfer score is absent": (
        {"metrics": {"test/transfer/digit/digit": 0.5, "test/transfer/color/color": 0.25, "test/transfer/odd": 0.75}},
        "0.25",
    ),
    "an interval is none": (
        {"analysis": {"walk": {"a": {"x": 1.5, "x_interval": [], "y": 2, "y_interval": 7}}}},
        "1.5",
    ),
    "a metric is a number": ({"evaluation": {"fid": 12.5}}, "fid 12.5"),
    "facts are anything": ({"name": 3, "seed": [], "steps": "many", "seconds": None, "figures": 7}, "steps many"),
}


@pytest.mark.parametrize("case", ODD)
def test_results_of_another_version_are_shown_as_far_as_they_are_known(case, make, ask, tmp_path):
    outcome, said = ODD[case]
    for name in "ab":
        make("autoencoder", SUP, outcome, f"runs/{name}", root=tmp_path / "nowhere")
    ask(f"run={tmp_path}/runs/*")
    assert said in read(tmp_path / "runs" / "a" / "report.html").text
    assert "2 runs" in read(tmp_path / "runs" / "report.html").text


def test_how_far_it_is_is_said_where_there_is_no_terminal(make, ask, monkeypatch, capsys):
    monkeypatch.setattr(progress, "EVERY", 0)
    ask(f"run={make('classifier')}")
    assert "Drawing: held-out images: " in capsys.readouterr().err


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
        assert not said or f"stays below {in_units(int(limit))}." in html
    with pytest.raises(ConfigError, match="tables alone"):
        render_within(Page("title", "", [], [Section("a", tables=[Table([], [["b", "c" * 9000]])])], ""), 9000)


def test_as_many_pictures_are_left_as_there_is_room_for():
    pictures = [noise(seed, side=60) for seed in range(6)]
    page = Page("title", "lead", [], [Section(picture.title, "", [picture]) for picture in pictures], "")
    bare, counts = len(render(replace(page, sections=[])).encode()), []
    for limit in range(bare + 2500, bare + 14_000, 2250):
        html = render_within(page, limit)
        assert len(html.encode()) < limit
        counts.append(html.count("<img"))
        assert ("no room" in html) == (counts[-1] < len(pictures))
    assert counts == sorted(counts)
    assert set(counts) == {1, 2, 3, 4, 5, 6}


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
