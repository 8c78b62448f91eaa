"""Laws of the interpreter: edits change what they say and nothing else, and it survives being stored."""

import json
import warnings

import pytest
import torch
from safetensors.torch import load_file

from iin_lightning.analysis.swap import swap_grid
from iin_lightning.encoders import Autoencoder, Classifier
from iin_lightning.errors import CheckpointError, FactorError, RangeError, ShapeError
from iin_lightning.factors import Factors
from iin_lightning.flows.translator import PaperTranslator
from iin_lightning.interpreter import Interpreter

DIMS = {"residual": 3, "digit": 3, "color": 2}


def randomise(module: torch.nn.Module) -> None:
    generator = torch.Generator().manual_seed(0)
    for parameter in module.parameters():
        parameter.data = 0.3 * torch.randn(parameter.shape, generator=generator)


@pytest.fixture(params=["autoencoder", "classifier"])
def interpreter(request):
    if request.param == "autoencoder":
        network = Autoencoder(image_size=16, latent_dim=8, width=4, norm="batch")
    else:
        network = Classifier(n_classes=3, image_size=16, latent_dim=8, width=4, norm="batch")
    translator = PaperTranslator(8, n_blocks=3, hidden=16)
    translator.initialize(torch.randn(64, 8, generator=torch.Generator().manual_seed(3)))
    randomise(network)
    return Interpreter(network, translator, Factors(DIMS, 8)).eval()


@pytest.fixture
def images():
    return torch.rand(2, 5, 3, 16, 16, generator=torch.Generator().manual_seed(1)) * 2 - 1


def close(a, b):
    torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-4)


def test_the_interpreted_network_is_the_network(interpreter, images):
    close(interpreter.reconstruct(images[0]), interpreter.decode(interpreter.encode(images[0])))


def test_a_swap_of_nothing_is_the_target_and_of_everything_the_source(interpreter, images):
    target, source = images
    close(interpreter.swap(target, source, []), interpreter.reconstruct(target))
    close(interpreter.swap(target, source, interpreter.factors), interpreter.reconstruct(source))


def test_a_swap_changes_the_named_factor_alone(interpreter, images):
    z = [interpreter.encode(x) for x in images]
    parts = [interpreter.factors.split(interpreter.translate(z_)) for z_ in z]
    swapped = interpreter.replace(z[0], {"digit": parts[1]["digit"]})
    after = interpreter.factors.split(interpreter.translate(swapped))
    close(after["digit"], parts[1]["digit"])
    close(after["color"], parts[0]["color"])
    close(after["residual"], parts[0]["residual"])
    assert not torch.allclose(swapped, z[0], atol=1e-3)


def test_a_grid_holds_the_pairwise_swaps(interpreter, images):
    grid = swap_grid(interpreter, images[0][:3], images[1][:2], "color")
    assert grid.shape[:2] == (3, 2)
    close(grid[2, 1], interpreter.swap(images[0][2:3], images[1][1:2], ["color"])[0])


def test_walks_begin_and_end_at_the_two_images(interpreter, images):
    walk = interpreter.interpolate(*images, steps=4)
    assert walk.shape[:2] == (4, 5)
    close(walk[0], interpreter.reconstruct(images[0]))
    close(walk[-1], interpreter.reconstruct(images[1]))


def test_the_same_seed_gives_the_same_samples(interpreter):
    first, second = (interpreter.sample(3, torch.Generator().manual_seed(7)) for _ in range(2))
    assert torch.equal(first, second)


def test_log_prob_is_the_change_of_variables(interpreter, images):
    z = interpreter.encode(images[0])
    z_tilde, logdet = interpreter.translator(z)
    expected = torch.distributions.Normal(0, 1).log_prob(z_tilde).sum(1) + logdet
    close(interpreter.log_prob(images[0]), expected)


def test_what_was_stored_answers_alike_and_holds_no_pickle(interpreter, images, tmp_path):
    interpreter.save_pretrained(tmp_path / "model", note="kept")
    restored = Interpreter.from_pretrained(tmp_path / "model")
    assert restored.factors == interpreter.factors
    assert torch.equal(restored.swap(*images, ["digit"]), interpreter.swap(*images, ["digit"]))
    assert sorted(p.name for p in (tmp_path / "model").iterdir()) == ["model.json", "model.safetensors"]
    assert json.loads((tmp_path / "model" / "model.json").read_text())["note"] == "kept"
    assert load_file(tmp_path / "model" / "model.safetensors").keys() == interpreter.state_dict().keys()


def test_a_restored_translator_is_not_initialised_again(interpreter, images, tmp_path):
    interpreter.save_pretrained(tmp_path)
    restored = Interpreter.from_pretrained(tmp_path).train()
    before = {k: v.clone() for k, v in restored.state_dict().items()}
    restored.translator(torch.randn(32, 8) * 9 + 4)
    assert all(torch.equal(v, before[k]) for k, v in restored.state_dict().items())


def test_the_encoder_stays_frozen(interpreter):
    interpreter.train()
    assert not interpreter.encoder.training
    assert not any(p.requires_grad for p in interpreter.encoder.parameters())
    assert all(p.requires_grad for p in interpreter.translator.parameters())


def test_parts_that_do_not_fit_together_are_refused():
    network = Autoencoder(image_size=16, latent_dim=8, width=4, norm="batch")
    with pytest.raises(FactorError, match="sum to 6, but the encoder's latent has 8"):
        Interpreter(network, PaperTranslator(8, n_blocks=1, hidden=4), Factors({"residual": 6}, 6))
    with pytest.raises(ShapeError, match=r"works on 6 dimensions.*dim=8"):
        Interpreter(network, PaperTranslator(6, n_blocks=1, hidden=4), Factors({"residual": 8}, 8))


def test_an_unknown_factor_is_refused(interpreter, images):
    with pytest.raises(FactorError, match=r"'colour'.*did you mean color"):
        interpreter.swap(*images, ["colour"])
    assert torch.equal(interpreter.swap(*images, "digit"), interpreter.swap(*images, ["digit"])), "a name needs no list"


def test_damaged_and_foreign_folders_are_refused(interpreter, tmp_path):
    with pytest.raises(CheckpointError, match=r"lacks model\.json"):
        Interpreter.from_pretrained(tmp_path)
    interpreter.save_pretrained(tmp_path)
    weights = tmp_path / "model.safetensors"
    content = weights.read_bytes()
    weights.write_bytes(content[:-100])
    with pytest.raises(CheckpointError, match="is damaged"):
        Interpreter.from_pretrained(tmp_path)
    weights.write_bytes(content)
    structure = json.loads((tmp_path / "model.json").read_text())
    structure["parts"]["translator"]["class"] = "subprocess:check_output"
    (tmp_path / "model.json").write_text(json.dumps(structure))
    with pytest.raises(CheckpointError, match=r"names subprocess:check_output.*serialization\.trust\('subprocess'\)"):
        Interpreter.from_pretrained(tmp_path)


OUT_OF_RANGE = {
    "an array": (lambda x: x.numpy(), r"must be a torch.Tensor .* not numpy.ndarray: torch.from_numpy"),
    "one image": (lambda x: x[0], r"must be a batch .* x\[None\]"),
    "bytes": (lambda x: (127.5 * (x + 1)).byte(), r"not torch.uint8: give x / 127.5 - 1"),
    "0...255": (lambda x: 127.5 * (x + 1), r"not from \S+ to 25\d\.?\d*: give x / 127.5 - 1"),
    "normalised otherwise": (lambda x: x / 0.25, "undo any other normalisation"),
    "NaN": (lambda x: x * torch.nan, "not from nan"),
}


@pytest.mark.parametrize("case", OUT_OF_RANGE)
def test_what_is_no_batch_of_images_is_refused(interpreter, images, case):
    change, text = OUT_OF_RANGE[case]
    for ask in (interpreter.encode, interpreter.factors_of, interpreter.log_prob, interpreter.reconstruct):
        with pytest.raises(RangeError, match=text):
            ask(change(images[0]))
    with pytest.raises(RangeError, match=text):
        interpreter.swap(images[0], change(images[1]), ["digit"])


def test_images_that_may_lie_between_0_and_1_are_said(interpreter, images):
    with pytest.warns(UserWarning, match="Give 2 . x - 1 if these lie in"):
        interpreter.encode((images[0] + 1) / 2)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        interpreter.encode(images[0])
        interpreter.encode((images[0, :1] + 1) / 2)  # one light image is not unlikely
        interpreter.encode(images[0] * 1.2)  # as a decoder without tanh draws


def test_the_folder_of_a_run_is_that_of_its_model(interpreter, images, tmp_path):
    interpreter.save_pretrained(tmp_path / "model")
    restored = Interpreter.from_pretrained(tmp_path)
    assert torch.equal(restored.encode(images[0]), interpreter.encode(images[0]))
