"""The report as a reader sees it: opened as a file in Chromium, without network, on a desk and on a telephone."""

import base64
import json
import os
from pathlib import Path

import pytest
from PIL import Image
from tests import reported
from tests.reported import SUP

pytestmark = pytest.mark.system

SIZES = {"desk": (1280, 900), "telephone": (390, 844)}
LONG = "a_rather_long_name_of_a_number_that_somebody_has_measured"
OUTCOME = {
    "metrics": {"test/nll": 1.25, **{f"test/transfer/{c}/{f}": 0.5 for c in ("digit", "color") for f in (*SUP, LONG)}},
    "evaluation": {LONG: {LONG: {"value": 0.25, "extractor": LONG}}},
    "analysis": {"leakage": {"readings": {name: dict.fromkeys((LONG, *SUP), 0.125) for name in (LONG, *"abcdefg")}}},
}
OFFLINE = {"offline": True, "latency": 0, "downloadThroughput": 0, "uploadThroughput": 0}


@pytest.fixture(scope="module")
def pages(mnist_root, tmp_path_factory):
    """Those of a run with pictures and tables of all kinds, of a classifier, and the one that compares both."""
    place = tmp_path_factory.mktemp("reported")
    data = ("data=color_mnist", "data.val_fraction=0.5", f"paths.data={mnist_root}")
    images = reported.make(place / "images", "autoencoder", SUP, OUTCOME, data)
    classes = reported.make(place / "classes", "classifier", SUP, {"metrics": {"test/accuracy": 0.5}}, data)
    (images / "analysis").mkdir()
    Image.effect_noise((2400, 300), 60).save(images / "analysis" / f"leakage_{LONG}.png")
    (images / "metrics.csv").write_text("step,train/nll,val/nll\n1,3.5,\n2,2.5,3.0\n3,2.0,2.8\n")
    (images / "provenance.json").write_text(json.dumps({"command": f"python -m mine {LONG * 9}"}))
    reported.ask(place / "cache", f"run=[{images},{classes}]")
    return {"images": images / "report.html", "classes": classes / "report.html", "both": place / "report.html"}


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("page", ["images", "classes", "both"])
def test_a_report_opens_from_a_file_without_network(page, size, pages, browser):
    (width, height), address = SIZES[size], pages[page].as_uri()
    browser.get_log("browser")
    browser.execute_cdp_cmd("Network.enable", {})
    browser.execute_cdp_cmd("Network.emulateNetworkConditions", OFFLINE)
    metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    try:
        browser.get(address)
        asked = browser.execute_script("return performance.getEntriesByType('resource').map(entry => entry.name)")
        images = browser.execute_script("return [...document.images].map(one => [one.alt, one.naturalWidth])")
        wide = browser.execute_script("return document.documentElement.scrollWidth")
        _shot(browser, f"report-{page}-{width}")
        complaints = browser.get_log("browser")
    finally:
        browser.execute_cdp_cmd("Network.emulateNetworkConditions", OFFLINE | {"offline": False})
        browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
    assert [one for one in asked if not one.startswith(("file:", "data:"))] == []
    assert complaints == []
    assert images
    assert [alt for alt, pixels in images if not pixels] == []
    assert wide <= width


def _shot(browser, name):
    """The whole page as a picture, where IIN_LIGHTNING_SHOTS says."""
    if (shots := os.environ.get("IIN_LIGHTNING_SHOTS")) is None:
        return
    size = browser.execute_cdp_cmd("Page.getLayoutMetrics", {})["cssContentSize"]
    clip = {"x": 0, "y": 0, "width": size["width"], "height": size["height"], "scale": 1}
    taken = browser.execute_cdp_cmd("Page.captureScreenshot", {"clip": clip, "captureBeyondViewport": True})
    Path(shots).mkdir(parents=True, exist_ok=True)
    (Path(shots) / f"{name}.png").write_bytes(base64.b64decode(taken["data"]))
