"""Damaged files of each kind are read, or refused in one line, in bounded time and memory."""

import io
import json
import resource
import signal
from contextlib import contextmanager

import numpy as np
import pytest
from obspy import Trace
from test_reading import START, stream, write

from seisbench_cdiffsd.cli import main
from seisbench_cdiffsd.files import ledger
from seisbench_cdiffsd.files.reading import ReadError, Source, index
from seisbench_cdiffsd.weights import CDiffSD, load

#: What a case may cost.
SECONDS, BYTES = 10, 2**30


@contextmanager
def limits(seconds=SECONDS, more=BYTES):
    """Whoever takes longer gets a TimeoutError, whoever takes more memory a MemoryError."""

    def late(*args):
        raise TimeoutError(f"took more than {seconds} s")

    with open("/proc/self/statm") as file:
        used = int(file.read().split()[0]) * resource.getpagesize()
    before, handler = resource.getrlimit(resource.RLIMIT_AS), signal.signal(signal.SIGALRM, late)
    resource.setrlimit(resource.RLIMIT_AS, (used + more, before[1]))
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, handler)
        resource.setrlimit(resource.RLIMIT_AS, before)


def damaged(content, seed, fields=((0, None),), record=None):
    """Bytes with some of them changed; half of the cases hit the fields, which come again after each record."""
    random, data = np.random.default_rng(seed), bytearray(content)
    for _ in range(int(random.integers(1, 6))):
        at = int(random.integers(len(data)))
        if random.random() < 0.5:
            first, stop = fields[random.integers(len(fields))]
            start = at // record * record if record else 0
            at = min(start + int(random.integers(first, stop or len(data))), len(data) - 1)
        length = int(random.choice([1, 1, 1, 2, 4, 30, 700]))
        kinds = {"bits": 0.4, "noise": 0.2, "zeros": 0.1, "ones": 0.1, "double": 0.1, "drop": 0.05, "cut": 0.05}
        kind = random.choice(list(kinds), p=list(kinds.values()))
        part = data[at : at + length]
        if kind == "bits":
            data[at] ^= 1 << int(random.integers(8))
        elif kind == "noise":
            data[at : at + length] = random.bytes(len(part))
        elif kind in ("zeros", "ones"):
            data[at : at + length] = (b"\0" if kind == "zeros" else b"\xff") * len(part)
        elif kind == "cut":
            del data[at + 1 :]
        elif kind == "double":
            data[at:at] = part
        else:
            del data[at : at + length]
        if not data:
            data += b"\0"
    return bytes(data)


def survives(load, path, content, seeds, allowed, **kwargs):
    """Give damaged versions of a file to what reads it: it either does, or says in one printable line why not."""
    for seed in seeds:
        path.write_bytes(damaged(content, seed, **kwargs))
        try:
            with limits():
                load(path)
        except allowed as error:
            assert str(error).isprintable(), seed
        except Exception as error:
            raise AssertionError(f"seed {seed}: {error!r}") from error


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
    survives(read_all, tmp_path / "a", content, range(60), ReadError, fields=HEADER, record=record)


@pytest.mark.parametrize("form", ["SAC", "WAV", "SLIST", "SEGY", "SU", "GSE2"])
def test_other_formats(tmp_path, form):
    data = Trace(
        np.arange(1000, dtype=np.float32 if form in ("SAC", "SEGY", "SU") else np.int32),
        {"station": "STA", "sampling_rate": 100},
    )
    data.write(str(tmp_path / "a"), format=form)
    survives(read_all, tmp_path / "b", (tmp_path / "a").read_bytes(), range(60), ReadError, fields=((0, 300),))


def test_json_of_weights(tmp_path):
    CDiffSD().save(tmp_path / "model")
    whole = (tmp_path / "model.json").read_bytes()
    seeds = *range(300), 41102  # a control character in a name
    survives(lambda path: load(str(tmp_path / "model")), tmp_path / "model.json", whole, seeds, ValueError)
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
        files = (ledger.read(path) or ledger.Entry()).files.values()
        return [ledger.is_there(made, known) for kind in files for known in kind.values()]

    survives(read, tmp_path / "entry", whole, range(300), ())
    for content in [*(damaged(whole, seed) for seed in range(8)), b"[" * 10**5, b'{"files":' * 10**5]:
        path.write_bytes(content)
        assert main(command) == 0
        assert "Traceback" not in "".join(capsys.readouterr())
        assert made.read_bytes() == wanted and source.read_bytes() == given
