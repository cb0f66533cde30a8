"""The command ``cdiffsd generate``."""

import argparse
import io
from pathlib import Path
from typing import Any

from seisbench_cdiffsd.cli import arguments
from seisbench_cdiffsd.files.console import tell


def add_generate(commands: Any) -> None:
    about = "Generate seismograms from a sentence, simulated and shaped like recorded ones: miniSEED, QuakeML, figures."
    parser = commands.add_parser("generate", help=about, description=about)
    add, out = parser.add_argument, Path("generated")
    add("text", metavar="TEXT", help="such as 'magnitude 3.2 earthquake 45 km away, 8 km deep, on rock, city noise'")
    add("--count", type=arguments.positive, default=1, metavar="N", help="number of records (%(default)s)")
    add("--seed", type=arguments.count, default=0, metavar="N", help="seed; the same gives the same (%(default)s)")
    add("--noise", metavar="DATASET", help="SeisBench dataset with recorded noise (coloured noise)")
    add("--out", type=arguments.folder, default=out, metavar="DIR", help="folder (%(default)s)")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> None:
    """Generate records, and write what is not there."""
    from seisbench_cdiffsd.files.writing import MseedWriter, folder_for, replacing
    from seisbench_cdiffsd.generation.output import described, plot_generated, to_quakeml
    from seisbench_cdiffsd.generation.records import generate

    stream, files, told = generate(args.text, args.count, args.seed, args.noise), {}, []
    for number in range(args.count):
        record, path = stream[3 * number : 3 * number + 3], args.out / f"generated_{number + 1:02}.mseed"
        waveforms, events, figure = (io.BytesIO() for _ in range(3))
        MseedWriter(waveforms).write(record)
        to_quakeml(record).write(events, format="QUAKEML")
        plot_generated(record).savefig(figure, format="png", metadata={"Comment": record[0].stats.generated.comment})
        for ending, file in ((".mseed", waveforms), (".xml", events), (".png", figure)):
            files[path.with_suffix(ending)] = file.getvalue()
        told.append(f"{path}: {described(record[0].stats.generated)}")
    for path, content in files.items():
        if path.exists() and path.read_bytes() != content:
            raise ValueError(f"{path} holds something else: choose another --out, or remove it.")
    with folder_for(args.out):
        for path, content in files.items():
            with replacing(path) as part:
                part.write_bytes(content)
    told.append("*: drawn, as the text does not say it. All of this is generated, not recorded (network XG).")
    tell("\n".join(told))
