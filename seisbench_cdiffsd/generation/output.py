"""Generated seismograms as QuakeML and as a figure, both marked as such."""

from __future__ import annotations

from typing import Any

import obspy.core.event as quakeml
from matplotlib import style
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from obspy import Stream

from seisbench_cdiffsd.plotting import PHASES, STYLE

#: Parameters in the order in which they are told: their names and units.
TOLD = {"kind": ("", ""), "site": ("on ", ""), "instrument": ("", ""), "noise": ("noise ", "")}
TOLD |= {"magnitude": ("magnitude ", ""), "distance": ("distance ", " km"), "depth": ("depth ", " km")}
TOLD |= {
    "s_minus_p": ("S - P ", " s"),
    "snr": ("SNR ", " dB"),
    "sampling_rate": ("", " Hz"),
    "duration": ("", " s"),
    "method": ("", ""),
}


def described(generated: Any) -> str:
    """The parameters of a generated record in one line; what the text does not say has a star."""
    parts = []
    for name, (label, unit) in TOLD.items():
        if name in generated:
            value = generated[name]
            given = name in (*generated.said, "method") or (
                name == "distance" and "hypocentral_distance" in generated.said
            )
            parts.append(f"{label}{value if isinstance(value, str) else f'{value:.3g}'}{unit}{'' if given else '*'}")
    return ", ".join(parts)


def to_quakeml(stream: Stream) -> quakeml.Catalog:
    """
    The events of generated records: origins, magnitudes, onsets, and comments with the text and all parameters. The
    stations are at latitude and longitude 0, and the epicentres east of them.
    """
    events = []
    for trace in stream.select(component="Z"):
        made = trace.stats.generated
        base, degrees = f"smi:local/generated/{made.seed}/{made.number}", made.distance / 111.19
        texts = (made.comment, f"Text: {made.text}", f"Parameters (*: drawn): {described(made)}")
        comments = [quakeml.Comment(text=text, resource_id=f"{base}/comment/{n}") for n, text in enumerate(texts)]
        place = {"longitude": degrees, "latitude": 0.0, "depth": 1000 * made.depth}
        origin = quakeml.Origin(resource_id=f"{base}/origin", time=made.origin, **place)
        magnitude = quakeml.Magnitude(resource_id=f"{base}/magnitude", mag=made.magnitude, origin_id=f"{base}/origin")
        picks = []
        for phase, component in ("P", "Z"), ("S", "N"):
            channel = quakeml.WaveformStreamID(seed_string=trace.id[:-1] + component)
            about = {"time": made[phase.lower()], "phase_hint": phase, "waveform_id": channel}
            picks.append(quakeml.Pick(resource_id=f"{base}/pick/{phase}", **about))
            about = {"pick_id": f"{base}/pick/{phase}", "phase": phase, "distance": degrees}
            origin.arrivals.append(quakeml.Arrival(resource_id=f"{base}/arrival/{phase}", **about))
        parts = {"comments": comments, "origins": [origin], "magnitudes": [magnitude], "picks": picks}
        events.append(quakeml.Event(resource_id=base, event_type=made.kind, **parts))
    return quakeml.Catalog(events, resource_id="smi:local/generated")


@style.context(STYLE, after_reset=True)
def plot_generated(stream: Stream) -> Figure:
    """The three components of one generated record on a common scale, with its onsets, text and parameters."""
    made = stream[0].stats.generated
    figure = Figure(figsize=(9, 5), layout="constrained", dpi=130)
    FigureCanvasAgg(figure)
    axes = figure.subplots(len(stream), sharex=True, sharey=True)
    for ax, trace in zip(axes, stream, strict=True):
        ax.plot(trace.times(), trace.data, color="black", lw=0.5)
        ax.set_ylabel(trace.stats.channel, rotation=0, ha="right", va="center", fontweight="bold")
        for phase, colour in PHASES.items():
            ax.axvline(made[phase.lower()] - trace.stats.starttime, color=colour, lw=1, zorder=0)
    for phase, colour in PHASES.items():
        place = made[phase.lower()] - stream[0].stats.starttime, 1.02
        axes[0].text(*place, phase, color=colour, transform=axes[0].get_xaxis_transform(), ha="center")
    axes[0].set_xlim(0, made.duration)
    axes[-1].set_xlabel("seconds")
    figure.supylabel("m/s²" if made.instrument == "accelerometer" else "m/s", fontsize=9)
    text = f"Generated, not recorded: {made.text}\n{described(made)} (*: drawn)"
    figure.suptitle(text, fontsize=8, parse_math=False, wrap=True)
    return figure
