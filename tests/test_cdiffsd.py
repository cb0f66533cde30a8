"""The model file: mixing, its inverse, the sampler, the network, and what a batch of windows becomes."""

import math
from itertools import pairwise

import numpy as np
import pytest
import torch
from conftest import randomised
from hypothesis import given, settings
from hypothesis import strategies as st

from seisbench_cdiffsd import CDiffSD
from seisbench_cdiffsd.cdiffsd import (
    SCHEDULES,
    SpectralUNet,
    analyse,
    embed,
    endpoint,
    levels,
    mix,
    normalize,
    sample,
    straight,
    synthesise,
)

ALL = tuple(SCHEDULES.values())
schedules = pytest.mark.parametrize("schedule", ALL, ids=list(SCHEDULES))


@pytest.fixture
def records():
    generator = torch.Generator().manual_seed(0)
    clean, noise = torch.randn(2, 5, 3, 400, dtype=torch.float64, generator=generator)
    return clean, clean + noise


def level(value, count=5):
    return torch.full((count,), value, dtype=torch.float64)


@schedules
@pytest.mark.parametrize("steps", [1, 2, 3, 4, 7, 20, 33])
def test_an_oracle_walks_from_the_observation_down_and_is_returned_exactly(schedule, steps, records):
    clean, noisy = records
    seen = []
    result = sample(lambda x, at: seen.append((x, at)) or clean, noisy, steps, schedule)
    torch.testing.assert_close(result, clean, rtol=1e-9, atol=1e-9)
    assert [at.tolist() for _, at in seen] == [[value] * 5 for value in levels(steps)[:-1]] and seen[0][0] is noisy
    for x, at in seen if schedule is straight else ():
        torch.testing.assert_close(x, mix(clean, noisy, at), rtol=1e-9, atol=1e-9)


def test_the_straight_step_moves_towards_the_estimate(records):
    """With the end point estimated anew, x_s = x̂ + (s/t) (x_t - x̂), and the last estimate is the result."""
    _, x = records
    noisy, estimates = x, []

    def denoise(x, at):
        estimates.append(0.6 * x + 0.1 * at[:, None, None])
        return estimates[-1]

    result = sample(denoise, noisy, 3)
    for t, s in ((1, 2 / 3), (2 / 3, 1 / 3), (1 / 3, 0)):
        estimate = 0.6 * x + 0.1 * t
        x = estimate + s / t * (x - estimate)
    torch.testing.assert_close(result, x, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(result, estimates[-1], rtol=1e-12, atol=1e-12)


def test_the_straight_path_is_the_clean_record_plus_a_share_of_the_noise(records):
    clean, noisy = records
    at = torch.tensor([0.0, 0.1, 0.5, 0.9, 1.0], dtype=torch.float64)
    expected = torch.stack([c + a * (y - c) for c, y, a in zip(clean, noisy, at, strict=True)])
    torch.testing.assert_close(mix(clean, noisy, at), expected)
    assert torch.equal(mix(clean, noisy, level(1.0)), noisy)


@schedules
def test_level_0_is_the_clean_record_and_one_without_noise_stays_itself_on_the_straight_path_only(schedule, records):
    clean, noisy = records
    assert torch.equal(mix(clean, noisy, level(0.0), schedule), clean)
    gain = (mix(clean, clean, level(0.5), schedule) / clean).mean().item()
    assert gain == pytest.approx(1) if schedule is straight else gain > 1.1


@schedules
@given(value=st.floats(0.05, 1))
@settings(max_examples=25)
def test_the_end_point_undoes_the_mixing(schedule, value):
    clean, noisy = torch.randn(2, 5, 3, 40, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    x = mix(clean, noisy, level(value), schedule)
    torch.testing.assert_close(endpoint(x, clean, level(value), schedule), noisy, rtol=1e-7, atol=1e-7)


@given(steps=st.integers(1, 6), scale=st.floats(1e-3, 1e3))
@settings(max_examples=25)
def test_a_linear_denoiser_gives_a_linear_sampler(steps, scale):
    noisy = torch.randn(2, 3, 50, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    for schedule in ALL:
        one, scaled = (sample(lambda x, at: 0.7 * x, gain * noisy, steps, schedule) for gain in (1, scale))
        torch.testing.assert_close(scaled, scale * one, rtol=1e-6, atol=1e-9 * scale)


@pytest.mark.parametrize("steps", [0, -3, 2.5])
def test_impossible_steps_are_refused(steps, records):
    with pytest.raises(ValueError, match="positive integer"):
        sample(lambda x, at: x, records[1], steps)


@given(st.integers(1, 1000))
def test_levels_go_evenly_from_1_to_exactly_0(steps):
    visited = levels(steps)
    assert visited == levels(float(steps)) and len(visited) == steps + 1 and visited[0] == 1 and visited[-1] == 0
    assert [above - below for above, below in pairwise(visited)] == pytest.approx([1 / steps] * steps)


# -- the network


@settings(max_examples=30)
@given(samples=st.integers(1, 500), multiple=st.sampled_from([1, 4, 8]))
def test_short_time_spectra_lose_nothing(samples, multiple):
    x = torch.randn(2, 3, samples, generator=torch.Generator().manual_seed(samples))
    spectrum = analyse(x, multiple)
    assert spectrum.shape[-1] % multiple == 0
    torch.testing.assert_close(synthesise(spectrum, samples), x, atol=1e-5, rtol=0)


def test_short_time_spectra_are_windowed_fourier_transforms():
    x = torch.randn(1, 1, 400, generator=torch.Generator().manual_seed(0))
    window = torch.hann_window(64).sqrt()
    expected = torch.stft(x[0], 64, 16, window=window, center=False, return_complex=True)[0]
    first = (64 - 16) // 16  # frames that begin before the record
    ours = analyse(x)[0, 0, :, first : first + expected.shape[-1]]
    torch.testing.assert_close(ours, expected, atol=1e-4, rtol=1e-4)


def test_an_untrained_network_leaves_the_record_as_it_is():
    x = torch.randn(2, 3, 3000)
    torch.testing.assert_close(SpectralUNet()(x, torch.tensor([1.0, 0.3])), x)


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


# -- batches of windows


def noise(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def answer(model, windows, **arguments):
    """What the model makes of a batch of windows, (batch, component, samples)."""
    seen, piggyback = model.annotate_batch_pre(windows, arguments)
    with torch.no_grad():
        return model.annotate_batch_post(model(seen), piggyback, arguments).transpose(1, 2)


def with_odds(odds):
    """A model that removes something, and returns the same odds for all windows."""
    torch.manual_seed(0)
    model = CDiffSD(presence=True)
    with torch.no_grad():
        model.network.presence[-1].weight.zero_()
        model.network.presence[-1].bias.fill_(math.log(odds))
        model.network.head.weight.normal_(std=0.02)
    return model


@pytest.mark.parametrize("norm", ["std", "peak"])
@given(exponent=st.integers(-60, 60), seed=st.integers(0, 99))
@settings(max_examples=40)
def test_normalisation_knows_no_scale(norm, exponent, seed):
    batch = noise(2, 3, 50, seed=seed)
    normalised, factor = normalize(batch, norm)
    scaled, scaled_factor = normalize(batch * 2.0**exponent, norm)
    assert torch.equal(scaled, normalised)
    assert torch.equal(scaled_factor, factor * 2.0**exponent)
    torch.testing.assert_close(normalised * factor, batch)


@pytest.mark.parametrize("norm", ["std", "peak"])
def test_norms_are_joint_and_no_amplitude_leaves_single_precision(norm):
    batch = noise(4, 3, 1000) * torch.tensor([1.0, 10, 100])[:, None]
    normalised, _ = normalize(batch, norm)
    size = normalised.square().mean(dim=(1, 2)) if norm == "std" else normalised.abs().amax(dim=(1, 2))
    torch.testing.assert_close(size, torch.ones(4))
    for amplitude in (1e-38, 1e-12, 1e12, 1e37):
        normalised, factor = normalize(torch.full((1, 3, 100), amplitude), norm)
        torch.testing.assert_close(normalised, torch.ones(1, 3, 100))
        assert factor.item() == pytest.approx(amplitude)


@pytest.mark.parametrize("presence", [False, True])
def test_silence_stays_silent(presence):
    model = randomised(CDiffSD(presence=presence))
    assert not answer(model, torch.zeros(2, 3, 3000)).any()
    assert answer(model, torch.cat([noise(1, 3, 3000), torch.zeros(1, 3, 3000)]), silence=0)[0].any()


@pytest.mark.parametrize("network", ["default", "published"])
@pytest.mark.parametrize("samples", [3000, 1003])
def test_forward_keeps_the_shape_and_takes_levels(network, samples):
    model, x = randomised(CDiffSD(network=network)).eval(), noise(2, 3, samples)
    with torch.no_grad():
        assert model(x).shape == x.shape
        torch.testing.assert_close(model(x), model(x, 1.0))
        torch.testing.assert_close(model(x, 0.5), model(x, torch.tensor([0.5, 0.5])))
        assert not torch.allclose(model(x, 0.5), model(x))


class Oracle(torch.nn.Module):
    """A network that knows the answer."""

    def __init__(self, clean):
        super().__init__()
        self.clean = clean

    def forward(self, x, level):
        return self.clean


@pytest.mark.parametrize("schedule", list(SCHEDULES))
@pytest.mark.parametrize("dry", [0.0, 0.1])
def test_dry_is_the_share_of_the_noise_that_stays(schedule, dry):
    clean, removed = (5 * noise(2, 3, 800, seed=seed) for seed in (0, 1))
    model = CDiffSD(schedule=schedule)
    model.network = Oracle(clean / normalize(clean + removed)[1])
    found = answer(model, clean + removed, steps=3, dry=dry)
    torch.testing.assert_close(found, clean + dry * removed, atol=1e-4, rtol=1e-4)


def test_forward_returns_the_odds_as_well_where_the_network_knows_them():
    x, telling = noise(2, 3, 3000), with_odds(3.0)
    silent = CDiffSD()
    silent.load_state_dict({key: x for key, x in telling.state_dict().items() if "presence" not in key})
    estimate, log_odds = telling(x)
    torch.testing.assert_close(estimate, silent(x))
    torch.testing.assert_close(log_odds.exp(), torch.tensor([3.0, 3.0]))


@pytest.mark.parametrize("dry", [0.0, 0.1, 0.5])
@pytest.mark.parametrize("least", [0.9, 0.5])
def test_where_an_earthquake_is_improbable_nothing_but_a_share_of_the_noise_is_left(dry, least):
    x = noise(2, 3, 3000)
    clean = answer(with_odds(1e9), x, dry=0.0)
    for ratio, kept in ((1e-9, 0), (0.99, 0), (1.01, 1), (1e9, 1)):
        model = with_odds(ratio * least / (1 - least))
        found = answer(model, x, dry=dry, silence=least)
        torch.testing.assert_close(found, kept * clean + dry * (x - clean))
        torch.testing.assert_close(answer(model, x, dry=dry, silence=0), clean + dry * (x - clean))


def test_the_probability_of_an_earthquake_is_a_trace_of_each_instrument_and_makes_detections(example):
    model, other = with_odds(9.0), example.copy()
    for trace in other:
        trace.stats.channel = trace.stats.channel.replace("EH", "EN")
        trace.data = np.zeros(len(trace))
    annotations = model.annotate(example + other, detection=True)
    curves = {trace.id: trace for trace in annotations.select(channel="*_Detection")}
    assert sorted(curves) == [f"BW.RJOB..CDiffSD_{code}_Detection" for code in ("EH", "EN")]
    told, silent = (curves[x].data for x in sorted(curves))
    np.testing.assert_allclose(told, 0.9, rtol=1e-5)
    assert len(told) == len(example[0]) and (silent == 0).all()
    found = model.classify(example + other)
    ((detection,),) = [found.detections]
    assert (detection.start_time, detection.end_time) == (example[0].stats.starttime, example[0].stats.endtime)
    assert not model.classify(example, detection_threshold=0.91).detections
    plain = model.annotate(example + other).sort()
    assert [x.stats.channel for x in plain] == [f"CDiffSD_{x.stats.channel}" for x in found.denoised.sort()]
    for one, two in zip(plain, found.denoised, strict=True):
        np.testing.assert_array_equal(one.data, two.data)
    assert len(model.denoise(example + other, detection=True)) == 6


def test_the_probability_of_an_earthquake_is_the_mean_over_windows_that_overlap(example):
    model = randomised(CDiffSD(presence=True))
    for trace in example:
        trace.data = np.concatenate([trace.data, trace.data[:1500]])
    (curve,) = model.annotate(example, detection=True).select(channel="*_Detection")
    first, both, last = curve.data.reshape(3, 1500).T[0]
    np.testing.assert_array_equal(curve.data, np.repeat([first, both, last], 1500))
    assert both == pytest.approx((first + last) / 2) and 0 < first != last < 1


def test_blinded_samples_are_nan():
    denoised = answer(randomised(CDiffSD()), noise(1, 3, 3000), blinding=(100, 50))
    assert denoised[..., :100].isnan().all() and denoised[..., -50:].isnan().all()
    assert denoised[..., 100:-50].isfinite().all()


@pytest.mark.parametrize(
    ("argument", "names"),
    [
        ({"network": "resnet"}, "published"),
        ({"schedule": "cosine"}, "straight"),
        ({"norm": "max"}, "peak"),
        ({"component_order": "ZRT"}, "ENZ"),
        ({"in_samples": 0}, "positive int"),
        ({"in_samples": 3000.0}, r"positive int.* 3000\.0"),
        ({"in_samples": 10**9}, "positive int"),
        ({"sampling_rate": 0}, "sampling_rate"),
    ],
)
def test_unknown_names_are_refused_with_those_there_are(argument, names):
    with pytest.raises(ValueError, match=names) as error:
        CDiffSD(**argument)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "argument",
    [
        *({"steps": x} for x in (0, 1.5, "4", None, 1e9, float("nan"))),
        *({"dry": x} for x in (-0.1, 1, "0", float("nan"))),
        *({"batch_size": x} for x in (0, 2.5, 10**9)),
        *({"overlap": x} for x in (-0.1, 3000, 2999, 1.5, float("nan"), None)),
        {"stacking": "sum"},
        {"detection": True},
        *({"blinding": x} for x in (-1, None, (1, 2, 3), ((1, 2), 3), "12", (-1, 0), (1500, 1500))),
    ],
    ids=str,
)
def test_arguments_out_of_range_are_refused_in_one_line(model, example, argument):
    for call in (model.annotate, model.classify, model.denoise):
        with pytest.raises(ValueError, match=next(iter(argument)) + " must be") as error:
            call(example, **argument)
        assert "\n" not in str(error.value)
