"""The figure of a network's response: what is drawn is what was given."""

from dataclasses import replace

import pytest
import torch
from matplotlib.text import Text

from iin_lightning.plots.walk import FactorResponse, response_figure
from iin_lightning.seeding import generator

NAMES = ("residual", "digit", "color", "Wearing_Lipstick", "background", "pose")


def response(number, classes, measures=None):
    key = generator("response", number)
    walk, redrawn = (torch.randn(n, classes, generator=key).mul(4 * number + 1).log_softmax(1) for n in (31, 50))
    shares = {
        "variance of\nlog-softmax": (0.3, 0.2, 0.4),
        "variance of\nprobabilities": (0.2, 0.1, 0.3),
        "predictions\nchanged": (0.1, 0.05, 0.2),
        "information on\nthe prediction": (0.5, 0.4, 0.6),
    }
    return FactorResponse(8, walk, redrawn, torch.linspace(1, 0.2, 31), measures or shares)


def responses(factors, classes, **more):
    return {name: replace(response(number, classes), **more) for number, name in enumerate(NAMES[:factors])}


def test_what_is_drawn_is_what_was_given():
    given = responses(2, 3)
    figure = response_figure(given, ["a", "b", "c"], "letter", 12, "other examples")
    heat, spread, bars = figure.axes[:3]
    residual = given["residual"]
    assert torch.equal(torch.as_tensor(heat.images[0].get_array()), residual.walk.T)
    assert heat.lines[0].get_ydata().tolist() == residual.walk.argmax(1).tolist()
    torch.testing.assert_close(torch.as_tensor(spread.lines[0].get_xdata()), residual.walk[0])
    shares = residual.redrawn.argmax(1).bincount(minlength=3) / 50
    assert [bar.get_width() for bar in bars.patches] == pytest.approx(shares.tolist())
    assert [label.get_text() for label in heat.get_yticklabels()] == ["a", "b", "c"]
    texts = [text.get_text() for text in figure.findobj(Text)]
    assert any("All 12 examples" in text for text in texts)
    assert any(text.endswith("drawn 50 times from other examples") for text in texts)
    assert sum("8 dimensions" in text for text in texts) == 2


def test_shares_of_several_orders_are_on_a_logarithmic_axis_and_zero_is_written():
    def with_share(value):
        return response(0, 3, {"share": (value, 0.9 * value, 1.1 * value)})

    far = response_figure({"digit": with_share(0.9), "color": with_share(0.0)}, "abc", "letter", 5, "N(0, 1)")
    near = response_figure({"digit": with_share(0.9), "color": with_share(0.5)}, "abc", "letter", 5, "N(0, 1)")
    assert [figure.axes[-1].get_xscale() for figure in (far, near)] == ["log", "linear"]
    assert [text.get_text() for text in far.axes[-1].texts] == ["0.9", "0"]
    faint = replace(with_share(0.5), images_changed={"share": (0.002, 0.001, 0.003)})
    axes = response_figure({"digit": with_share(0.9), "color": faint}, "abc", "letter", 5, "N(0, 1)").axes[-1]
    assert axes.get_xscale() == "log"
    assert axes.get_xlim()[0] < 0.002, "the place of a change of the images is its value, not the edge"
    assert [line.get_xdata().item() for line in axes.lines if line.get_marker() == "D"] == [0.002]


@pytest.mark.parametrize("odd", [float("nan"), float("inf")])
def test_shares_of_nothing_leave_the_others_within_their_axes(odd):
    parts = {"digit": response(0, 3, {"a": (0.5, 0.4, 0.6), "b": (7e8, 6e8, odd)})}
    axes = response_figure(parts, "abc", "letter", 5, "N(0, 1)").axes[-1]
    assert axes.get_xlim()[1] > 7e8
    nothing = {"digit": response(0, 3, {"a": (odd, odd, odd)})}
    assert [text.get_text() for text in response_figure(nothing, "abc", "letter", 5, "N(0, 1)").axes[-1].texts] == [
        f"{odd}"
    ]
