"""The best model of a training as weight files for SeisBench, with a model card."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from seisbench_cdiffsd.files.writing import folder_for, replacing
from seisbench_cdiffsd.training.config import read_table
from seisbench_cdiffsd.weights import CDiffSD


def export_weights(
    run: str | Path, name: str, out: str | Path, version: str = "1", docstring: str | None = None
) -> list[Path]:
    """
    Write ``NAME.pt.vV`` and ``NAME.json.vV``, as SeisBench's cache has them, and the model card ``NAME.vV.md``.

    :param run: Folder of a training
    :param name: Name of the weights: lower-case letters, digits, "-" and "_"
    :param out: Folder to write to
    :param version: Version of the weights, such as "1" or "1.2"
    :param docstring: Description of the weights, in a sentence; by default made from the settings
    :return: Paths of the files
    :raises ValueError: If there is no model in the folder, or name or version are invalid, or taken
    :raises OSError: If the folder cannot be made or written to
    """
    run, out = Path(run), Path(out)
    if not re.fullmatch(r"[a-z0-9][a-z0-9_-]*", name):
        raise ValueError(f"The name must have only lower-case letters, digits, '-' and '_', unlike {name!r}.")
    if not re.fullmatch(r"\d+(\.\d+)*", version):
        raise ValueError(f"The version must be a number such as 1 or 1.2, not {version!r}.")
    for needed in ("model.pt", "model.json", "config.json", "log.csv"):
        if not (run / needed).is_file():
            raise ValueError(f"{run} has no {needed}: give the folder of a training that has been validated.")
    card = out / f"{name}.v{version}.md"
    targets = [out / f"{name}.{kind}.v{version}" for kind in ("pt", "json")]
    taken = [str(path) for path in targets if path.exists()]
    if taken:
        raise ValueError(f"{taken[0]} exists already: choose another --version.")
    model = CDiffSD.load(run / "model")
    try:
        facts = json.loads(model.weights_docstring or "")
    except ValueError:  # of another training than ours
        facts = {"config": read_table(run / "config.json"), "log": {}}
    events, noise = (_names(facts["config"].get(kind, [])) for kind in ("events", "noise"))
    text = docstring or f"CDiffSD ({model.network_name}), trained on {events} with noise of {noise}."
    whole = f"{text} Model card: {card.name}. Reference: {model.citation} Settings: {json.dumps(facts)}"
    with folder_for(out):
        model.save(out / name, weights_docstring=whole, version_str=version)
        description = json.loads(targets[1].read_text())
        with replacing(targets[1]) as path:
            path.write_text(json.dumps({**description, "citation": model.citation}, indent=4))
        count = sum(parameter.numel() for parameter in model.parameters())
        band = ", ".join(f"{key} {value}" for key, value in (model.filter_kwargs or {}).items())
        card.write_text(
            f"""# Model card: `{name}`, version {version}

{text}

- Network: `{model.network_name}`, {count:,} parameters; degradation `{model.schedule}`; normalisation `{model.norm}`.
- Windows of {model.in_samples / model.sampling_rate:g} s at {model.sampling_rate:g} Hz; band: {band}.
- Earthquakes: {events}. Noise: {noise}.
- The best by validation is update {facts["log"].get("step", "unknown")} of {facts["config"]["steps"]}.

Validation: means over the fixed mixtures of the dev split, in-band SDR in dB and correlation, by sampling steps.

```
{pd.read_csv(run / "log.csv").to_string(index=False, float_format="%.4g")}
```

Settings:

```json
{json.dumps(facts["config"], indent=4)}
```

{model.citation}
""",
            encoding="utf-8",
        )
    return [*targets, card]


def _names(datasets: Sequence[Mapping[str, Any]]) -> str:
    return ", ".join(Path(source["dataset"]).name for source in datasets) or "datasets not named"
