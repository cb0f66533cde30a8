"""The command ``cdiffsd pick``. What it computes with is imported when it runs."""

import argparse
from datetime import timedelta
from pathlib import Path
from typing import Any

from seisbench_cdiffsd.cli import arguments, denoise
from seisbench_cdiffsd.files.console import tell

ABOUT = """Pick phases on records as they are and denoised, together. A rerun does only what is missing, and writes the
same lists to the byte: picks.csv, picks.xml (QuakeML) and, with pyarrow, picks.parquet."""
COLUMNS = """Columns: station (NET.STA.LOC), phase, time (s since 1970, UTC), probability (for P the larger of both, for
S the mean, less where an earthquake is less probable), amplitude (largest sample of the denoised record in 3 s, in
units of the input), snr (dB, 3 s against the 3 s before), raw and denoised (the probabilities on either record), source
(raw, denoised or both: where it is above the threshold) and channel. PyOcto reads the table as it is; so does GaMMA,
whose names of columns, id to amp, are there as well: with pandas 3 from picks.parquet, or by
read_csv(..., parse_dates=["timestamp"])."""


def add_pick(commands: Any) -> None:
    """Add ``cdiffsd pick``."""
    parser = commands.add_parser("pick", help=ABOUT, description=ABOUT, epilog=COLUMNS)
    add = parser.add_argument
    add("input", nargs="*", metavar="INPUT", help="a file that ObsPy reads, or 'example'")
    add("--out", type=arguments.folder, default=Path("picks"), metavar="DIR", help="folder of the lists (%(default)s)")
    add("--picker", default="PhaseNet", metavar="CLASS", help="picker of SeisBench (%(default)s)")
    add("--weights", dest="picker_weights", default="original", metavar="NAME", help="of the picker (%(default)s)")
    add("--download-picker", action="store_true", help="download the picker if it is not on this machine")
    rate = "false picks of each phase an hour and station, 1 to 10 (1); known for PhaseNet and EQTransformer"
    least = parser.add_mutually_exclusive_group()
    least.add_argument("--rate", type=float, default=1, metavar="N", help=rate)
    least.add_argument("--threshold", type=float, metavar="X", help="least probability of both together")
    add("--model", dest="weights", metavar="NAME", help="name of the denoiser's weights, or path (the package's own)")
    add("--waveforms", type=arguments.folder, metavar="DIR", help="also write the denoised records there, as miniSEED")
    days = "also draw days, hour by hour, and records of up to an hour (twice the time)"
    add("--figures", action="store_true", help=days)
    event = "also draw all instruments between two times, such as 2020-12-31T23:59:30"
    add("--figure", nargs=2, type=arguments.time, metavar=("START", "END"), help=event)
    denoise.add_silence(add)
    denoise.add_reading(add)
    group = parser.add_argument_group("archives, instead of files")
    add = group.add_argument
    add("--sds", type=arguments.folder, metavar="SDS_IN", help="folder of an archive of day files")
    denoise.add_days(add, required=False)
    written = {"purpose": "picking", "encoding": "float32", "scale": 1.0}
    parser.set_defaults(run=pick, **written, **dict.fromkeys(("dry", "steps", "location")))


def pick(args: argparse.Namespace) -> int:
    """Pick phases on files or an archive."""
    if bool(args.input) == bool(args.sds):
        raise ValueError("Name files, or an archive with --sds, --start and --end: one of both.")
    if args.figure and not timedelta(0) < args.figure[1] - args.figure[0] <= timedelta(hours=1):
        raise ValueError("--figure needs two times, the second one up to an hour after the first.")
    if args.sds and not (args.start and args.end):
        raise ValueError("--sds needs --start and --end, days such as 2020-12-31.")
    if not args.sds and (args.start or args.end or args.select != ["*"]):
        raise ValueError("--start, --end and --select are for archives, with --sds.")
    from seisbench_cdiffsd.files.jobs import jobs_of_files
    from seisbench_cdiffsd.files.ledger import report, status
    from seisbench_cdiffsd.files.picks import merge
    from seisbench_cdiffsd.files.work import drawn, picked
    from seisbench_cdiffsd.files.writing import folder_for

    picker, weights = args.picker, args.picker_weights
    denoise.loaded_picker(picker, weights, args.download_picker)
    folders = {"source": args.sds or Path(), "out": args.out, "waveforms": args.waveforms}
    folders = {name: folder and folder.absolute() for name, folder in folders.items()}
    if args.sds and folders["source"] == folders["waveforms"]:
        raise ValueError("SDS_IN and --waveforms must be different folders.")
    outputs = {"picks": True, "figures": args.figures, "outputs": args.waveforms is not None, "entries": "picks/"}
    model, settings = denoise.prepared(args, threads=args.threads, **folders, **outputs)
    settings = denoise.picking(settings, model, picker, weights, rate=args.rate, threshold=args.threshold)
    if args.sds:
        jobs, outcomes = denoise.jobs_of_archive(args, settings)
    else:
        (jobs, outcomes), args.workers = jobs_of_files(args.input, settings), args.workers or 0
    if not jobs and len(outcomes) == 1:
        raise ValueError(f"{outcomes[0].name}: {outcomes[0].reason}")
    listing = settings.out / denoise.numbered(args, "picks", ".csv")
    for path in (listing.with_suffix(suffix) for suffix in (".csv", ".xml", ".parquet")):
        if any(job.is_input(path, settings) for job in jobs[:1]):
            raise ValueError(f"{path} is an input: choose another folder with --out.")
    with folder_for(args.out):
        outcomes += denoise.finished(jobs, args, settings, "day" if args.sds else "record")
        lines = merge(picked(jobs, settings), listing, f"{picker} {weights}")
        for path in drawn(jobs, settings, model, *args.figure) if args.figure else ():
            lines.append(str(path))
    tell("\n".join([*lines, report(outcomes)]))
    return status(outcomes)
