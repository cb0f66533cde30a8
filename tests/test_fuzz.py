"""Three hundred damaged files of each kind are read, or refused in one line, in bounded time and memory."""

import io
import json

import numpy as np
import pytest
from fuzzing import damaged, survives
from obspy import Trace
from test_reading import START, stream, write

from seisbench_cdiffsd.cli import main
from seisbench_cdiffsd.files import ledger
from seisbench_cdiffsd.files.reading import ReadError, Source, index
from seisbench_cdiffsd.weights import CDiffSD, load

#: Byte ranges of a record's header: sequence number to codes, time, count and rate, flags and offsets, blockettes.
HEADER = ((0, 20), (20, 30), (30, 36), (36, 48), (48, 64))


def miniseed(kind):
    """A file of three channels, and the length of its records."""
    data, memory = stream(seconds=200), io.BytesIO()
    for trace in data if kind == "FLOAT32" else []:
        trace.data = trace.data.astype(np.float32)
    record = {"STEIM2": 512, "INT32": 256, "FLOAT32": 4096}[kind]
    data.write(memory, format="MSEED", encoding=kind, reclen=record, byteorder="<" if kind == "INT32" else ">")
    return memory.getvalue(), record


def read_all(path):
    parts = index(path, block=8192)
    source = Source(parts, {span.id for part in parts for span in part.spans})
    assert all(span.end - span.start < 1e9 for span in source.spans)
    found = source.read(START - 1e10, START + 1e10)
    assert all(line.isprintable() for line in source.problems.values())
    assert sum(map(len, found)) <= 8 * path.stat().st_size


@pytest.mark.parametrize("kind", ["STEIM2", "INT32", "FLOAT32"])
def test_miniseed(tmp_path, kind):
    content, record = miniseed(kind)
    survives(read_all, tmp_path / "a", content, range(100), ReadError, fields=HEADER, record=record)


# not GSE2: ObsPy's own code in C leaves its memory there
@pytest.mark.parametrize("form", ["SAC", "WAV", "SLIST", "SEGY", "SU"])
def test_other_formats(tmp_path, form):
    data = Trace(
        np.arange(1000, dtype=np.float32 if form in ("SAC", "SEGY", "SU") else np.int32),
        {"station": "STA", "sampling_rate": 100},
    )
    data.write(str(tmp_path / "a"), format=form)
    survives(read_all, tmp_path / "b", (tmp_path / "a").read_bytes(), range(100), ReadError, fields=((0, 300),))


def test_json_of_weights(tmp_path):
    CDiffSD().save(tmp_path / "model")
    whole = (tmp_path / "model.json").read_bytes()
    survives(lambda path: load(str(tmp_path / "model")), tmp_path / "model.json", whole, range(300), ValueError)
    for nested in ("[" * 100_000, '{"a":' * 100_000, json.dumps({"model_args": 1e400})):
        (tmp_path / "model.json").write_text(nested)
        with pytest.raises(ValueError) as error:
            load(str(tmp_path / "model"))
        assert "\n" not in str(error.value)


def test_ledgers(weights, tmp_path, capsys):
    source, out = write(tmp_path / "in", stream(seconds=60)), tmp_path / "out"
    command = ["denoise", str(source), "--out", str(out), "--weights", str(weights)]
    assert main(command) == 0
    (path,), (made,) = (out / ledger.FOLDER).glob("*.json"), out.glob("*.mseed")
    whole, wanted, given = path.read_bytes(), made.read_bytes(), source.read_bytes()

    def read(path):
        files = ledger.read(path).get("files", {}).values()
        return [ledger.is_there(made, known) for kind in files for known in kind.values()]

    survives(read, tmp_path / "entry", whole, range(300), ())
    for content in [*(damaged(whole, seed) for seed in range(20)), b"[" * 10**5, b'{"files":' * 10**5]:
        path.write_bytes(content)
        assert main(command) == 0
        assert "Traceback" not in "".join(capsys.readouterr())
        assert made.read_bytes() == wanted and source.read_bytes() == given
