"""What would drown the rest of a window is parted from it, without loss."""

import pytest
import torch

from seisbench_cdiffsd.streams.amplitudes import BROKEN_RATIO, LEFT_RATIO, parted, rejoined


def noise(*scales, seed=0):
    """Windows of noise, (1, component, samples), each component with an rms of its own."""
    return torch.randn(1, 3, 1000, generator=torch.Generator().manual_seed(seed)) * torch.tensor(scales)[:, None]


@pytest.mark.parametrize("row", [0, 1, 2])
@pytest.mark.parametrize("scale", [1e-30, 1.0, 1e30])
def test_a_component_that_drowns_the_others_is_parted_from_them(row, scale):
    scales = [scale] * 3
    scales[row] *= 3 * BROKEN_RATIO
    batch = torch.cat([noise(scale, scale, scale), noise(*scales, seed=1), noise(scale, scale, 0, seed=2)])
    parts, which = parted(batch, 100)
    assert which.tolist() == [1] and len(parts) == 4
    assert torch.equal(parts[[0, 2]], batch[[0, 2]])
    assert not parts[1, row].any() and not parts[3, [i for i in range(3) if i != row]].any()
    assert torch.equal(rejoined(parts, which), batch)


@pytest.mark.parametrize("scales", [(1, 1, 1), (5, 1, 0.1), (1, 1, 1e-6), (1, 0, 0), (0, 0, 0)])
def test_components_that_belong_together_stay_together(scales):
    batch = noise(*scales)
    parts, which = parted(batch, 100)
    assert torch.equal(parts, batch) and not len(which)


def loud(samples=3000, scale=1.0):
    """Windows of noise: as it is, with a spike on one component, with one on each, silent, and a broken component."""
    batch = torch.randn(5, 3, samples, generator=torch.Generator().manual_seed(0))
    batch[1, 0, samples // 2] += 1e5
    batch[2, :, samples // 3] -= 1e4
    batch[3] = 0
    batch[4, 2] *= 100
    return batch * scale


@pytest.mark.parametrize("samples", [3000, 3001, 1234, 500])
def test_a_moment_that_drowns_the_rest_is_parted_from_it(samples):
    batch = loud(samples)
    parts, which = parted(batch, 100)
    assert which.tolist() == [1, 2, 4]
    assert torch.equal(parts[[0, 3]], batch[[0, 3]])
    assert (parts[1:3].square().mean(-1).sqrt() < LEFT_RATIO).all()
    far = (torch.arange(samples) - samples // 2).abs() > 100
    assert torch.equal(parts[1][:, far], batch[1][:, far]) and torch.equal(parts[1, 1:], batch[1, 1:])
    assert not parts[5, 1:].any()  # the spike alone
    torch.testing.assert_close(rejoined(parts, which), batch)


@pytest.mark.parametrize("scale", [2.0**-100, 2.0**60])
def test_parting_knows_neither_scale_nor_batch_mates(scale):
    batch = loud()
    parts, which = parted(batch, 100)
    scaled, same = parted(loud(scale=scale), 100)
    assert torch.equal(scaled, parts * scale) and torch.equal(which, same)
    for number in range(len(batch)):
        alone, _ = parted(batch[number : number + 1], 100)
        assert torch.equal(alone, parts[[number, *(len(batch) + torch.nonzero(which == number)[:, 0]).tolist()]])


@pytest.mark.parametrize("samples", [1, 2, 10, 99, 250])
def test_short_windows_can_be_parted(samples):
    batch = loud(300)[..., :samples]
    parts, which = parted(batch, 100)
    torch.testing.assert_close(rejoined(parts, which), batch)
