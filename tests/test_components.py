"""The components of an instrument, by the codes of its channels."""

from itertools import permutations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from seisbench_cdiffsd.streams.components import assign


def letters(*codes, **names):
    found = assign([f"XX.STA..{code}" for code in codes], names)
    return {name.rpartition(".")[2]: (x.instrument.rpartition(".")[2], x.letter) for name, x in found.items()}


def test_the_letters_of_usual_codes():
    assert letters("HHZ", "HHN", "HHE") == {"HHZ": ("HH", "Z"), "HHN": ("HH", "N"), "HHE": ("HH", "E")}
    assert letters("HHZ", "HH1", "HH2") == {"HHZ": ("HH", "Z"), "HH1": ("HH", "1"), "HH2": ("HH", "2")}
    assert letters("HH1", "HHN", "HHE") == {"HH1": ("HH", "1"), "HHN": ("HH", "N"), "HHE": ("HH", "E")}
    assert letters("BN1") == {"BN1": ("BN", "1")}
    assert letters("Z", "N") == {"Z": ("", "Z"), "N": ("", "N")}


@pytest.mark.parametrize(
    "codes",
    [
        ("NS1", "EW1", "UD1", "NS2", "EW2", "UD2"),  # KiK-net: sensors in a borehole and at the surface
        ("UD", "NS", "EW"),  # K-NET
        ("f111", "f112", "f113"),  # WIN
        ("DP2", "DP3", "DP4"),  # RG16: geophones
        ("DP1", "DP2", "DP3", "DP4"),
        ("0", "1", "2"),  # Kinemetrics
        ("11", "12"),
        ("LDO", "HHF", ""),
    ],
)
def test_numbers_of_channels_are_no_components(codes):
    assert letters(*codes) == {}


def test_names_of_components():
    named = letters("UD", "NS", "EW", UD="Z", NS="N", EW="E")
    assert named == {"UD": ("", "Z"), "NS": ("", "N"), "EW": ("", "E")}
    sensors = letters("UD1", "NS1", "EW1", "UD2", UD="Z", NS="N", EW="E")
    assert sensors == {"UD1": ("1", "Z"), "NS1": ("1", "N"), "EW1": ("1", "E"), "UD2": ("2", "Z")}
    assert letters("DP2", "DP3", "DP4", DP2="Z", DP3="N", DP4="E")["DP3"] == ("", "N")
    assert letters("HHX", X="1") == {"HHX": ("HH", "1")}
    for order in permutations([("E", "E"), ("N", "N"), ("U", "Z")]):  # EHU begins with E, too
        assert letters("EHU", "EHN", "EHE", **dict(order)) == {f"EH{x}": ("EH", y) for x, y in order}
    with pytest.raises(ValueError, match="no component Q"):
        letters("HHZ", UD="Q")
    with pytest.raises(TypeError, match="not 'UD=Z'"):
        assign(["XX.STA..UD"], "UD=Z")


codes = st.from_regex(r"[A-Z]{0,2}[A-Z0-9]", fullmatch=True)


@given(st.sets(codes, max_size=8))
def test_no_two_channels_are_one_component_of_one_instrument(found):
    assigned = assign([f"XX.STA..{code}" for code in found])
    assert len(set(assigned.values())) == len(assigned)
