"""Whatever the console is, and whatever the data say, the command does its work."""

import io
import subprocess
import sys

import pytest

from seisbench_cdiffsd.files.console import one_line, printable, tell


@pytest.mark.parametrize(
    ("encoding", "expected"), [("ascii", "\\u03a9 \\xfc"), ("cp1252", "\\u03a9 ü"), ("utf-8", "Ω ü")]
)
def test_a_console_that_lacks_letters_gets_escapes(encoding, expected):
    console = io.TextIOWrapper(io.BytesIO(), encoding=encoding, newline="")
    tell("Ω ü\n  second line", console)
    assert console.buffer.getvalue().decode(encoding) == f"{expected}\n  second line\n"


def test_text_from_data_does_not_drive_the_terminal():
    file = io.StringIO()
    tell("XX.\x1b[2J\x9b\r\x07\u202e\udcff..HHZ", file)
    assert file.getvalue() == r"XX.\x1b[2J\x9b\r\x07\u202e\udcff..HHZ" + "\n"
    file.close()
    tell("text", file)
    assert printable("A\nB\tC") == r"A\nB\tC"
    assert one_line(ValueError("two\nlines \x1b[1m")) == r"two lines \x1b[1m" and one_line(KeyError()) == "KeyError"


@pytest.mark.parametrize("redirected", [">&-", "> /dev/full", "| true"])
def test_nobody_has_to_listen(redirected, tmp_path):
    code = "from seisbench_cdiffsd.files.console import tell\nfor i in range(99): tell(str(i) * 999)\n"
    code += f"open({str(tmp_path / 'done')!r}, 'w').close()"
    environment = {"CODE": code, "PYTHONPATH": ":".join(sys.path)}
    run = subprocess.run(f'"{sys.executable}" -c "$CODE" {redirected}', shell=True, env=environment)
    assert run.returncode == 0 and (tmp_path / "done").exists()
