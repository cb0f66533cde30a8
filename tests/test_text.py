"""What sentences say, and which are refused."""

from pathlib import Path

import pytest

from seisbench_cdiffsd.generation.text import parse

ROWS = Path(__file__).with_name("paraphrases.txt").read_text("utf-8").splitlines()
ROWS = [row for row in ROWS if not row.startswith("#")]
SAID = [row.split(" | ") for row in ROWS if " |! " not in row]
REFUSED = [row.split(" |! ") for row in ROWS if " |! " in row]


def value(text):
    try:
        return tuple(map(float, text.split("-"))) if "-" in text[1:] and text[0].isdigit() else float(text)
    except ValueError:
        return text


@pytest.mark.parametrize(("text", "expected"), SAID, ids=[row[0] for row in SAID])
def test_paraphrases(text, expected):
    expected = {name: value(word) for name, _, word in (part.partition(" = ") for part in expected.split("; "))}
    said = parse(text)
    said.pop("loud", None)
    if said.get("kind") == "earthquake":
        expected.setdefault("kind", "earthquake")
    assert said.keys() == expected.keys()
    for name, said_value in said.items():
        assert said_value == expected[name] or said_value == pytest.approx(expected[name], rel=2e-3)


@pytest.mark.parametrize(("text", "word"), REFUSED, ids=[row[0] for row in REFUSED])
def test_what_cannot_be_or_is_not_understood_is_named(text, word):
    with pytest.raises(ValueError) as error:
        parse(text)
    assert word.lower() in str(error.value)
