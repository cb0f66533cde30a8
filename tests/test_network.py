"""The default network and its filter bank."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from seisbench_cdiffsd.network import NETWORKS, FilterBank, SpectralUNet, build_network, embed


@settings(max_examples=30, deadline=None)
@given(samples=st.integers(1, 500), hop=st.sampled_from([8, 16, 32]), multiple=st.sampled_from([1, 4, 8]))
def test_the_filter_bank_loses_nothing(samples, hop, multiple):
    bank = FilterBank(64, hop)
    x = torch.randn(2, 3, samples, generator=torch.Generator().manual_seed(samples))
    spectrum = bank.analyse(x, multiple)
    assert spectrum.shape[-1] % multiple == 0
    torch.testing.assert_close(bank.synthesise(spectrum, samples), x, atol=1e-5, rtol=0)


def test_the_filter_bank_is_a_windowed_fourier_transform():
    x = torch.randn(1, 1, 400, generator=torch.Generator().manual_seed(0))
    spectrum = FilterBank(64, 16).analyse(x)
    window = torch.hann_window(64).sqrt()
    expected = torch.stft(x[0], 64, 16, window=window, center=False, return_complex=True)[0]
    first = (64 - 16) // 16  # frames that begin before the record
    ours = torch.complex(spectrum[0, 0, 0], spectrum[0, 0, 1])[:, first : first + expected.shape[-1]]
    torch.testing.assert_close(ours, expected, atol=1e-4, rtol=1e-4)


def test_an_untrained_network_leaves_the_record_as_it_is():
    x = torch.randn(2, 3, 3000)
    torch.testing.assert_close(build_network("default")(x, torch.tensor([1.0, 0.3])), x)


def test_the_level_and_all_components_matter():
    torch.manual_seed(0)
    network = SpectralUNet(widths=(16, 16, 16, 16)).eval()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
        x = torch.randn(1, 3, 1000)
        reference = network(x, torch.tensor([1.0]))
        assert not torch.allclose(network(x, torch.tensor([0.5])), reference, atol=1e-3)
        other = x.clone()
        other[:, 2] = 0
        assert not torch.allclose(network(other, torch.tensor([1.0]))[:, 0], reference[:, 0], atol=1e-3)


def test_levels_are_told_apart():
    codes = embed(torch.linspace(0, 1, 21))
    assert codes.shape == (21, 64)
    assert torch.cdist(codes, codes).add(10 * torch.eye(21)).min() > 0.1


def test_the_default_network_is_small():
    assert sum(parameter.numel() for parameter in build_network("default").parameters()) < 1.5e6


@pytest.mark.parametrize("name", NETWORKS)
def test_gradients_reach_every_parameter(name):
    network = build_network(name)
    with torch.no_grad():  # the head of the default network starts at zero and would stop them
        for parameter in network.parameters():
            parameter.add_(0.01)
    network(torch.randn(2, 3, 400), torch.tensor([1.0, 0.4])).square().mean().backward()
    assert all(parameter.grad is not None and parameter.grad.isfinite().all() for parameter in network.parameters())


def test_an_unknown_network_lists_those_there_are():
    with pytest.raises(ValueError, match="default, published"):
        build_network("huge")
