"""Schedules: the ends of the path, the published table computed independently, and what is refused."""

import math
from itertools import pairwise

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from seisbench_cdiffsd.schedule import SCHEDULES, Published, Straight, get_schedule, levels


def alpha_bar(beta, n_levels):
    """The published table in plain Python, one factor after the other: abar_0 = 1 ... abar_T."""
    table = [1.0]
    for t in range(1, n_levels + 1):
        if beta == "linear":
            first, last = 1e-4 * 1000 / n_levels, 0.02 * 1000 / n_levels
            factor = 1 - (first + (last - first) * (t - 1) / (n_levels - 1))
        else:
            now, before = (math.cos((k / n_levels + 0.008) / 1.008 * math.pi / 2) ** 2 for k in (t, t - 1))
            factor = max(now / before, 1 - 0.999)
        table.append(table[-1] * factor)
    return torch.tensor(table, dtype=torch.float64)


@pytest.mark.parametrize("beta", ["linear", "cosine"])
def test_published_weights_are_those_of_the_paper(beta):
    level = torch.arange(301, dtype=torch.float64) / 300
    keep, add = Published(beta).weights(level)
    torch.testing.assert_close(keep**2, alpha_bar(beta, 300), rtol=1e-10, atol=1e-15)
    torch.testing.assert_close(keep**2 + add**2, torch.ones_like(level), rtol=0, atol=1e-12)


def test_published_linear_table_by_hand():
    keep, _ = Published("linear").weights(torch.tensor([1 / 300, 2 / 300, 1.0], dtype=torch.float64))
    first, second = 1 - 1e-3 / 3, 1 - (1e-3 / 3 + 0.199 / 3 / 299)
    assert (keep[:2] ** 2).tolist() == pytest.approx([first, first * second])
    assert 0 < keep[2] < 0.01


@pytest.mark.parametrize(
    ("level", "index"), [(0.0, 0), (0.4, 1), (1.4, 1), (1.6, 2), (298.4, 298), (299.4, 299), (299.6, 300), (300.0, 300)]
)
def test_published_levels_are_rounded_to_the_nearest(level, index):
    keep, _ = Published("cosine").weights(torch.tensor([level / 300], dtype=torch.float64))
    assert (keep**2).item() == pytest.approx(alpha_bar("cosine", 300)[index].item(), abs=1e-15)


@pytest.mark.parametrize("beta", ["linear", "cosine"])
def test_every_level_holds_more_of_the_noisy_record_than_the_one_below(beta):
    keep, add = Published(beta).weights(torch.arange(301) / 300)
    assert (keep.diff() <= 0).all() and (add.diff() >= 0).all() and add[1] > 0


@pytest.mark.parametrize("name", SCHEDULES)
def test_level_0_is_clean_and_level_1_noisy(name):
    keep, add = get_schedule(name).weights(torch.tensor([0.0, 1.0]))
    assert keep[0] == 1 and add[0] == 0
    assert keep[1] == pytest.approx(0, abs=0.01) and add[1] == pytest.approx(1, abs=1e-4)


@given(st.floats(0, 1))
def test_the_straight_path_keeps_the_amplitude(level):
    keep, add = Straight().weights(torch.tensor(level, dtype=torch.float64))
    assert keep + add == pytest.approx(1, abs=1e-15) and add == level


@pytest.mark.parametrize("name", SCHEDULES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_weights_have_the_shape_and_dtype_of_the_levels(name, dtype):
    level = torch.rand(4, 2, dtype=dtype, generator=torch.Generator().manual_seed(0))
    for weight in get_schedule(name).weights(level):
        assert weight.shape == level.shape and weight.dtype == dtype


def test_levels_go_evenly_from_1_to_0():
    assert levels(1) == [1, 0]
    assert levels(4) == [1, 0.75, 0.5, 0.25, 0]
    assert levels(3.0) == levels(3)


@given(st.integers(1, 1000))
def test_any_number_of_steps_ends_exactly_at_the_clean_record(steps):
    visited = levels(steps)
    assert len(visited) == steps + 1 and visited[0] == 1 and visited[-1] == 0
    assert all(above > below for above, below in pairwise(visited))


@pytest.mark.parametrize("steps", [0, -1, 1.5])
def test_impossible_steps_are_refused(steps):
    with pytest.raises(ValueError, match="positive integer"):
        levels(steps)


def test_unknown_names_are_answered_with_the_known_ones():
    with pytest.raises(ValueError, match="straight, published-linear, published-cosine"):
        get_schedule("curved")
    with pytest.raises(ValueError, match="'linear' or 'cosine'"):
        Published("quadratic")


@pytest.mark.parametrize("beta", ["linear", "cosine"])
def test_every_level_above_the_clean_record_holds_some_noise(beta):
    _, add = Published(beta).weights(torch.tensor([1e-6, 1e-3, 0.0]))
    assert (add[:2] > 0).all() and add[2] == 0
