"""Every file that ObsPy ships is read and denoised, or refused in a line: ``pytest -m field``."""

from pathlib import Path

import numpy as np
import obspy
import pytest
from test_fuzz import HEADER, damaged, limits, miniseed

from seisbench_cdiffsd.cli import main
from seisbench_cdiffsd.files.reading import ReadError, Source, index
from seisbench_cdiffsd.weights import load

ROOT = Path(obspy.__file__).parent
FOLDERS = sorted({path.parent for path in ROOT.glob("**/tests/data/**/*") if path.is_file()})
#: Longest time in seconds that is denoised at once.
LONGEST = 86400

pytestmark = [pytest.mark.field, pytest.mark.filterwarnings("ignore")]


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: str(folder.relative_to(ROOT)))
def test_every_file_of_obspy(folder, weights, tmp_path, capsys):
    model, failures = load(str(weights)), []
    for path in sorted(path for path in folder.iterdir() if path.is_file()):
        try:
            with limits(seconds=60, more=2**32):
                denoise_by_library(model, path)
                denoise_by_command(weights, path, tmp_path / path.name, capsys)
        except Exception as error:
            failures.append(f"{path.relative_to(ROOT)}: {error!r}"[:500])
    assert not failures, "\n".join(failures)


def denoise_by_library(model, path):
    try:
        parts = index(path)
    except ReadError as error:
        assert str(error).isprintable()
        return
    source = Source(parts, {span.id for part in parts for span in part.spans})
    for span in source.spans:
        stream = source.read(span.start, min(span.end, span.start + LONGEST))
        clean, noise = model.denoise(stream, return_noise=True)
        assert len(clean) == len(noise) <= len(stream)
        for signal, rest in zip(clean, noise, strict=True):
            (trace, *_) = [x for x in stream if x.id == signal.id and x.stats.starttime == signal.stats.starttime]
            assert trace.stats.sampling_rate == signal.stats.sampling_rate and len(trace) == len(signal)
            total = np.ma.filled(signal.data, 0) + np.ma.filled(rest.data, 0)
            there = ~np.ma.getmaskarray(signal.data)
            expected = np.ma.getdata(trace.data)[there].astype(np.float64)
            np.testing.assert_allclose(total[there], expected, rtol=0, atol=1e-6 * np.abs(expected).max(initial=0))
    assert all(line.isprintable() for line in source.problems.values())


def denoise_by_command(weights, path, out, capsys):
    status = main(["denoise", str(path), "--out", str(out), "--weights", str(weights)])
    said = capsys.readouterr()
    made = list(out.glob("*.mseed")) if out.exists() else []
    assert status in (0, 1, 2) and "Traceback" not in said.out + said.err
    if status == 2:
        assert not made and len(said.err.strip().splitlines()) >= 1
    else:
        assert made and all(sum(map(len, obspy.read(str(file)))) for file in made)


def test_damaged_files_by_the_command(weights, tmp_path, capsys):
    content, record = miniseed("STEIM2")
    for seed in range(60):
        (tmp_path / "a").write_bytes(damaged(content, seed, fields=HEADER, record=record))
        with limits():
            denoise_by_command(weights, tmp_path / "a", tmp_path / str(seed), capsys)
