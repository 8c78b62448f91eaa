"""The explorer as a user sees it: clicked and dragged in Chromium, at the widths of a desk and of a telephone."""

import base64
import io
import json
import os
import time
from pathlib import Path

import pytest
from PIL import Image

By = pytest.importorskip("selenium.webdriver.common.by").By
Keys = pytest.importorskip("selenium.webdriver.common.keys").Keys
ActionChains = pytest.importorskip("selenium.webdriver").ActionChains

pytestmark = pytest.mark.system

DESK, TELEPHONE = (1280, 900), (390, 844)
PATIENCE = 30  # seconds


class Page:
    """What a user does, in words; every step waits for what it leads to."""

    def __init__(self, driver, address, shots):
        self.driver, self.address, self.shots = driver, address, shots

    def open(self, query="", size=DESK):
        # The window of a headless Chromium is not narrower than 500 pixels; a telephone is emulated.
        metrics = {"width": size[0], "height": size[1], "deviceScaleFactor": 1, "mobile": False}
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
        self.driver.get(f"{self.address}/{query}")
        self.until(lambda: self.css("[role=tab]"), "tabs")
        self.until(self.link, "state")

    def css(self, selector):
        return self.driver.find_elements(By.CSS_SELECTOR, selector)

    def one(self, selector):
        return self.until(lambda: [element for element in self.css(selector) if element.is_displayed()], selector)[0]

    def until(self, condition, what, patience=PATIENCE):
        end, last = time.monotonic() + patience, None
        while time.monotonic() < end:
            try:
                if last := condition():
                    return last
            except Exception as error:  # the page is being drawn anew
                last = error
            time.sleep(0.05)
        self.shot("failed")
        raise AssertionError(f"After {patience} s there is no {what}: {last!r}")

    def tab(self, name):
        tabs = [tab for tab in self.css("[role=tab]") if tab.text.strip() == name and tab.is_displayed()]
        if not tabs:  # narrow pages keep some in a menu
            self.one(".overflow-menu > button").click()
            tabs = [tab for tab in self.css(".overflow-dropdown button") if tab.text.strip() == name]
        tabs[0].click()

    def click(self, selector):
        element = self.one(selector)
        self.driver.execute_script("arguments[0].scrollIntoView({block: 'center'})", element)
        element.click()

    def picture(self, where):
        """The pictures and bars that a place shows."""
        place = self.css(f"#{where}")[0]
        images = [image.get_attribute("src") for image in place.find_elements(By.TAG_NAME, "img")]
        return images, place.text

    def changed(self, where, before):
        return self.until(lambda: (now := self.picture(where)) != before and now[0] and now, f"other #{where}")

    def slide(self, where, *keys):
        slider = self.one(f"#{where} input[type=range]")
        self.driver.execute_script("arguments[0].scrollIntoView({block: 'center'})", slider)
        slider.send_keys(*keys)

    def link(self):
        return self.css("#state-link a")[0].get_attribute("href")

    def shot(self, name):
        """The whole page as a picture, where IIN_LIGHTNING_SHOTS says; and nothing is wider than the window."""
        wide = self.driver.execute_script("return [document.documentElement.scrollWidth, innerWidth]")
        if self.shots is not None:
            size = self.driver.execute_cdp_cmd("Page.getLayoutMetrics", {})["cssContentSize"]
            area = {"x": 0, "y": 0, "width": wide[1], "height": size["height"], "scale": 1}
            content = self.driver.execute_cdp_cmd(
                "Page.captureScreenshot", {"clip": area, "captureBeyondViewport": True}
            )["data"]
            self.shots.mkdir(parents=True, exist_ok=True)
            (self.shots / f"{name}.png").write_bytes(base64.b64decode(content))
        return wide[0] <= wide[1]

    def download(self, selector, suffix):
        before = set(self.driver.downloads.iterdir())
        self.click(selector)
        found = self.until(
            lambda: [path for path in set(self.driver.downloads.iterdir()) - before if path.suffix == suffix], suffix
        )
        return found[0].read_bytes()

    def complaints(self):
        return [entry for entry in self.driver.get_log("browser") if entry["level"] == "SEVERE"]


@pytest.fixture
def page(browser, explorer):
    shots = os.environ.get("IIN_LIGHTNING_SHOTS")
    browser.get_log("browser")
    return Page(browser, explorer, shots and Path(shots))


def test_swap_saves_and_comes_back(page, tmp_path):
    page.open()
    before = page.picture("swap-result")
    page.click("#swap-role label:nth-of-type(2)")
    page.click("#swap-gallery [data-place='5']")
    after = page.changed("swap-result", before)
    page.slide("swap-blend", Keys.HOME)
    blended = page.changed("swap-result", after)
    page.slide("swap-blend", *[Keys.ARROW_RIGHT] * 60)
    shown = page.changed("swap-result", blended)
    page.until(lambda: "60%" in page.picture("swap-result")[1], "blend of 60%")
    shown = page.picture("swap-result")
    assert page.shot("swap_1280")
    link, saved = page.link(), page.download("#state-save-json", ".json")
    picture = page.download("#state-save-png", ".png")
    assert json.loads(saved)["state"]["blend"] == 0.6

    page.open("?" + link.partition("?")[2])
    assert page.until(lambda: page.picture("swap-result") == shown, "the picture of the link")
    page.open()
    file = tmp_path / "state.json"
    file.write_bytes(saved)
    _file_input(page, "state-load").send_keys(str(file))
    page.until(lambda: page.picture("swap-result") == shown, "the picture of the file")
    assert page.download("#state-save-png", ".png") == picture
    assert not page.complaints()


def chosen(page, where):
    """The places of the images that are marked, and what is written on them."""
    marked = page.css(f"#{where} [aria-pressed='true']")
    return {int(one.get_attribute("data-place")): one.get_attribute("data-role") for one in marked}


@pytest.mark.parametrize(
    ("name", "roles"), [("Swap", ("target", "source")), ("Walk", ("",)), ("Sample", ("first", "last"))]
)
def test_what_was_chosen_is_marked(page, name, roles):
    page.open()
    page.tab(name)
    where = "sample-grid" if name == "Sample" else f"{name.lower()}-gallery"
    page.until(lambda: chosen(page, where) == dict(enumerate(roles)), "the marks of the first state")
    others = dict(list(enumerate(roles))[1:])
    for place in (5, 9, 5):
        page.click(f"#{where} [data-place='{place}']")
        page.until(lambda place=place: chosen(page, where) == {place: roles[0], **others}, f"a mark on {place}")
    page.tab("Walk" if name == "Swap" else "Swap")
    page.tab(name)
    page.click(f"#{where} [data-place='7']")
    page.until(lambda: chosen(page, where) == {7: roles[0], **others}, "a mark, after another tab was open")
    page.shot(f"{name.lower()}_chosen_1280")
    if others:
        page.click(f"#{where} [data-place='1']")
        page.until(lambda: chosen(page, where) == {1: "both"}, "one mark for both")
    page.open("?" + page.link().partition("?")[2])
    page.until(lambda: chosen(page, where) == ({1: "both"} if others else {7: ""}), "the marks of a link")
    assert not page.complaints()


def _file_input(page, name):
    """The input behind an upload button, which stands beside or within it."""
    script = """
    let place = document.getElementById(arguments[0]);
    while (place && !(place.matches('input[type=file]') || place.querySelector('input[type=file]'))) {
      const beside = place.previousElementSibling;
      if (beside && beside.matches('input[type=file]')) return beside;
      place = place.parentElement;
    }
    return place.matches('input[type=file]') ? place : place.querySelector('input[type=file]');
    """
    return page.driver.execute_script(script, name)


def test_own_images_are_taken_over_and_others_refused_in_words(page, tmp_path):
    page.open()
    before = page.picture("swap-target")
    path = tmp_path / "mine.png"
    Image.radial_gradient("L").resize((90, 60)).save(path)
    _file_input(page, "upload-target").send_keys(str(path))
    page.changed("swap-target", before)
    assert "uploaded" in page.picture("swap-target")[1]
    page.shot("upload_1280")
    path.write_text("no image")
    _file_input(page, "upload-source").send_keys(str(path))
    box = page.until(lambda: page.css(".toast-body, .toast-wrap"), "a box")[0]
    page.until(lambda: "no image" in box.text, "the reason")
    page.shot("refused_1280")


def test_nothing_can_be_changed_before_it_is_filled(page):
    page.driver.execute_cdp_cmd("Network.enable", {})
    page.driver.execute_cdp_cmd("Network.setBlockedURLs", {"urls": ["*/queue/join*"]})
    try:
        page.driver.get(page.address)
        slider = page.until(lambda: page.css("#swap-blend input[type=range]"), "slider")[0]
        assert not slider.is_displayed()
    finally:
        page.driver.execute_cdp_cmd("Network.setBlockedURLs", {"urls": []})
        page.driver.execute_cdp_cmd("Network.disable", {})
    page.driver.get_log("browser")
    page.open()
    assert page.one("#swap-blend input[type=range]").is_displayed()


def test_walk_moves_with_its_sliders(page):
    page.open()
    page.tab("Walk")
    before = page.until(lambda: (now := page.picture("walk-result"))[0] and now, "a picture")
    page.slide("walk-direction-1", *[Keys.ARROW_RIGHT] * 30)
    moved = page.changed("walk-result", before)
    page.slide("walk-direction-2", *[Keys.ARROW_LEFT] * 20)
    page.changed("walk-result", moved)
    page.click("#walk-random")
    page.until(lambda: len(page.picture("walk-samples")[0]) == 12, "twelve samples")
    assert page.shot("walk_1280")
    assert not page.complaints()


def test_map_gives_a_source(page):
    page.open()
    source = page.picture("swap-source")
    page.tab("Map")
    canvas = page.one("#map-plot canvas")
    x, y = page.until(lambda: page.driver.execute_script(A_POINT, canvas), "points on the map")
    page.driver.execute_script("arguments[0].scrollIntoView({block: 'center'})", canvas)
    size = canvas.size
    over = ActionChains(page.driver).move_to_element_with_offset(canvas, x - size["width"] / 2, y - size["height"] / 2)
    over.perform()
    page.until(lambda: page.one(".iin-map .iin-card"), "a thumbnail")
    page.shot("map_1280")
    over.click().perform()
    page.until(lambda: page.picture("map-chosen")[0], "the chosen image")
    page.click("#map-source")
    page.changed("swap-source", source)
    assert not page.complaints()


def draw(page, where, height):
    """A stroke on a sheet."""
    canvas = page.one(f"#{where} canvas")
    page.driver.execute_script("arguments[0].scrollIntoView({block: 'center'})", canvas)
    stroke = ActionChains(page.driver, duration=50).move_to_element_with_offset(canvas, -80, height).click_and_hold()
    for i in range(1, 9):
        stroke.move_by_offset(20, 25 if i % 2 else -25)
    stroke.release().perform()


def test_undo_takes_strokes_back(page):
    page.open()
    page.tab("Concept")
    canvas = page.one("#concept-canvas-a canvas")

    def sheet():
        """Its pixels, grey."""
        uri = page.driver.execute_script("return arguments[0].toDataURL()", canvas)
        return Image.open(io.BytesIO(base64.b64decode(uri.partition(",")[2]))).convert("L")

    page.until(lambda: sheet().getextrema()[0] < 100, "the strokes of the first state")
    sheets = [sheet()]
    page.click("#concept-canvas-a [data-tool=clear]")
    sheets.append(sheet())
    assert sheets[1].getextrema() == (255, 255)
    for height in (-40, 40):
        draw(page, "concept-canvas-a", height)
        sheets.append(sheet())
        assert sheets[-1] != sheets[-2]
        time.sleep(0.5)  # for the server's answer, after which as much can be taken back
    for before in (sheets[2], sheets[1], sheets[0]):
        page.click("#concept-canvas-a [data-tool=undo]")
        assert sheet() == before
    page.shot("concept_undone_1280")
    assert not page.complaints()


def test_two_sketches_become_a_model(page):
    pytest.importorskip("onnxruntime", reason="sketches need the extra sketch: pip install 'iin-lightning[sketch]'")
    page.open()
    page.tab("Concept")
    page.one("#concept-canvas-a")
    page.until(lambda: len(page.picture("concept-examples")[0]) == 12, "examples in the strokes of two sketches")
    before = page.picture("concept-examples")
    page.driver.find_element(By.CSS_SELECTOR, "#concept-canvas-a").find_elements(By.XPATH, ".//button")[1].click()
    for height in (-40, 40):
        draw(page, "concept-canvas-a", height)
    page.until(lambda: "sketch a" in page.picture("concept-examples")[1], "examples of what was drawn")
    page.changed("concept-examples", before)
    page.slide("concept-images", Keys.HOME)
    page.slide("concept-steps", Keys.HOME)
    name = page.one("#concept-name input, #concept-name textarea")
    name.clear()
    name.send_keys("zigzag")
    page.shot("concept_1280")
    page.click("#concept-train")
    page.until(lambda: "was trained in" in page.picture("concept-progress")[1], "a trained concept", patience=120)
    page.shot("concept_trained_1280")
    page.click("#concept-explore")
    page.until(lambda: "zigzag" in page.one("#swap-factors").text, "the concept among the factors of Swap")
    page.shot("concept_swap_1280")


A_POINT = """
const canvas = arguments[0], box = canvas.getBoundingClientRect(), {width, height} = canvas;
const pixels = canvas.getContext('2d').getImageData(0, 0, width, height).data;
for (let i = 3; i < pixels.length; i += 4) {
  const [x, y] = [(i >> 2) % width, Math.floor((i >> 2) / width)];
  if (pixels[i] > 200) return [x * box.width / width, (y + 3) * box.height / height];
}
return null;
"""
"""Where the uppermost point of a map is, within its canvas."""


@pytest.mark.parametrize("name", ["Swap", "Walk", "Sample", "Map", "Concept"])
def test_a_telephone_is_wide_enough(page, name):
    page.open(size=TELEPHONE)
    page.tab(name)
    place = {"Map": "map-plot", "Concept": "concept-canvas-a"}.get(name, f"{name.lower()}-result")
    page.one(f"#{place}")
    time.sleep(0.5)  # for the picture: what is drawn late would not be seen
    assert page.shot(f"{name.lower()}_390")
