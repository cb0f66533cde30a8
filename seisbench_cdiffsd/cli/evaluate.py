"""The command ``cdiffsd evaluate``. What it computes with is imported when it runs."""

import argparse
from functools import partial
from pathlib import Path
from typing import Any

from seisbench_cdiffsd.cli import arguments
from seisbench_cdiffsd.cli.denoise import loaded_picker
from seisbench_cdiffsd.files.console import tell


def add_evaluate(commands: Any) -> None:
    about, events = "compare denoisers on records of your own", "folders of labelled earthquakes, as for training"
    parser = commands.add_parser("evaluate", help=about, description=evaluate.__doc__)
    add = parser.add_argument
    add("--events", nargs="+", required=True, metavar="DATASET", help=events)
    add("--noise", nargs="+", default=[], metavar="DATASET", help="noise, likewise (that of --events)")
    add("--weights", nargs="+", default=[], metavar="NAME", help="weights beside the package's own: names or paths")
    add("--split", default="test", metavar="NAME", help="split of datasets that have splits (%(default)s)")
    add("--limit", type=arguments.positive, default=100, metavar="N", help="most earthquakes (%(default)s)")
    add("--min-snr", type=float, default=20.0, metavar="DB", help="lowest SNR of an earthquake in dB (%(default)g)")
    add("--purpose", choices=["picking", "waveforms"], default="picking", help="as for denoising (%(default)s)")
    add("--picker", default="PhaseNet", metavar="NAME", help="of SeisBench, with its weights 'original' (%(default)s)")
    add("--download-picker", action="store_true", help="download the picker if it is not on this machine")
    add("--out", type=arguments.folder, default=Path("evaluation"), metavar="DIR", help="folder (%(default)s)")
    parser.set_defaults(run=evaluate)


def evaluate(args: argparse.Namespace) -> None:
    """Mix earthquakes with noise, denoise the mixtures with the package's own weights and with others, and pick."""
    from seisbench_cdiffsd import evaluation
    from seisbench_cdiffsd.data.datasets import open_dataset
    from seisbench_cdiffsd.files.writing import folder_for, replacing
    from seisbench_cdiffsd.weights import DEFAULT, load

    models = {"/".join(Path(name).parts[-2:]): load(name) for name in (DEFAULT, *args.weights)}
    picker = loaded_picker(args.picker, "original", args.download_picker)
    for model in (picker, *models.values()):
        model.to_preferred_device()
    events, noise = ([open_dataset(name) for name in names] for names in (args.events, args.noise))
    mixtures, still = evaluation.own_records(events, noise, args.split, args.limit, args.min_snr)
    rows, noise_rows = evaluation.evaluate(mixtures, still, models, picker, args.purpose)
    threshold = evaluation.usual_threshold(picker)
    tables = {
        "by_snr": evaluation.by_snr(rows, threshold),
        "false_picks": evaluation.at_equal_false_picks(rows, noise_rows, threshold),
    }
    makers = {name: partial(evaluation.restored, model, purpose=args.purpose) for name, model in models.items()}
    with folder_for(args.out):
        for name, table in tables.items():
            with replacing(args.out / f"{name}.csv") as path:
                table.to_csv(path)
        with replacing(args.out / "gallery.png") as path:
            evaluation.gallery(mixtures, makers).savefig(path, dpi=110, format="png")
    tell(
        f"{len(mixtures.clean)} mixtures of {evaluation.size(mixtures)} with noise, by the SNR of the window of 30 s. "
        f"P and S are those that {args.picker} finds from {threshold:g} on, within {evaluation.TOLERANCE:g} s.\n\n"
        f"{tables['by_snr'].to_string()}\n\n"
        f"{len(still)} minutes of noise reversed in time, and P and S found in the mixtures where so many of these "
        f"minutes an hour hold a false one.\n\n{tables['false_picks'].to_string()}\n\n"
        f"{args.out} has both tables, and some of the mixtures in gallery.png."
    )
