import pytest
import torch

from iin_lightning.data.transforms import dequantize, pad_to, to_range
from iin_lightning.errors import ShapeError
from iin_lightning.seeding import Noise, generator

LEVELS = torch.arange(256, dtype=torch.uint8)


def test_the_range_has_its_ends_and_every_grey_level():
    x = to_range(LEVELS)
    assert x.dtype == torch.float32
    assert (x[0].item(), x[-1].item()) == (-1, 1)
    torch.testing.assert_close(((x + 1) * 127.5).round().byte(), LEVELS)


def test_dequantisation_moves_a_pixel_by_half_a_grey_level_at_most_and_stays_in_range():
    pixels = LEVELS.repeat(400, 1)
    x = dequantize(pixels, Noise(0))
    error = (x - to_range(pixels)) * 127.5
    assert error.abs().max() <= 0.5 + 1e-4
    assert x.abs().max() <= 1
    assert torch.equal((x[:, 1:-1] * 127.5 + 127.5).round().byte(), pixels[:, 1:-1])


def test_dequantisation_noise_is_uniform_with_mean_zero_and_independent_for_each_pixel():
    pixels = torch.full((300, 300), 100, dtype=torch.uint8)
    error = (dequantize(pixels, Noise(0)) - to_range(pixels)).double() * 127.5
    assert abs(error.mean().item()) < 5 * (1 / 12 / error.numel()) ** 0.5
    assert error.var().item() == pytest.approx(1 / 12, rel=0.02)
    neighbours = torch.corrcoef(torch.stack([error[:, 1:].flatten(), error[:, :-1].flatten()]))[0, 1]
    assert abs(neighbours.item()) < 5 / error.numel() ** 0.5


def test_padding_keeps_the_image_in_the_middle_of_background():
    padded = pad_to(torch.full((2, 28, 28), 9, dtype=torch.uint8), 32)
    assert padded.shape == (2, 32, 32)
    assert padded.dtype == torch.uint8
    assert (padded[:, 2:30, 2:30] == 9).all()
    assert padded.sum() == 2 * 28 * 28 * 9


def test_an_image_too_large_to_pad_is_refused():
    with pytest.raises(ShapeError, match="33x28 do not fit into 32x32"):
        pad_to(torch.zeros(33, 28), 32)


def test_a_key_gives_the_same_numbers_again_and_any_other_key_gives_others():
    keys = [(), (0,), (0, 0), (1, 2), (2, 1), (3,), (-1,), (1 << 32,), (1,), ("a", 1), ("a", 2), ("b", 1)]
    numbers = {tuple(torch.rand(4, generator=generator(*key)).tolist()) for key in keys}
    assert len(numbers) == len(keys)
    assert numbers == {tuple(torch.rand(4, generator=generator(*key)).tolist()) for key in keys}
