"""The best model of a training as weight files for SeisBench, with a model card."""

import json
import re
from pathlib import Path

from seisbench_cdiffsd.files.writing import folder_for, replacing
from seisbench_cdiffsd.weights import CDiffSD


def export_weights(
    run: str | Path, name: str, out: str | Path, version: str = "1", docstring: str | None = None
) -> list[Path]:
    """
    Write ``NAME.pt.vV`` and ``NAME.json.vV``, as SeisBench's cache has them, and the model card ``NAME.vV.md``.

    :param docstring: Description of the weights, in a sentence; by default made from the settings
    :return: Paths of the files
    :raises ValueError: If there is no model in the folder of the run, or name or version are invalid, or taken
    :raises OSError: If the folder cannot be made or written to
    """
    run, out = Path(run), Path(out)
    if not re.fullmatch(r"[a-z0-9][a-z0-9_-]*", name):
        raise ValueError(f"The name must have only lower-case letters, digits, '-' and '_', unlike {name!r}.")
    if not re.fullmatch(r"\d+(\.\d+)*", version):
        raise ValueError(f"The version must be a number such as 1 or 1.2, not {version!r}.")
    for needed in ("model.pt", "model.json"):
        if not (run / needed).is_file():
            raise ValueError(f"{run} has no {needed}: give the folder of a training that has been validated.")
    weights, description, card = (out / f"{name}.{x}" for x in (f"pt.v{version}", f"json.v{version}", f"v{version}.md"))
    if taken := [path for path in (weights, description) if path.exists()]:
        raise ValueError(f"{taken[0]} exists already: choose another --version.")
    model = CDiffSD.load(run / "model")
    facts = json.loads(model.weights_docstring)
    events, noise = (
        ", ".join(Path(source["dataset"]).name for source in facts["config"][kind]) or "datasets not named"
        for kind in ("events", "noise")
    )
    text = docstring or f"CDiffSD ({model.network_name}), trained on {events} with noise of {noise}."
    whole = f"{text} Model card: {card.name}. Reference: {model.citation} Settings: {json.dumps(facts)}"
    count = sum(parameter.numel() for parameter in model.parameters())
    with folder_for(out):
        model.save(out / name, weights_docstring=whole, version_str=version)
        with replacing(description) as path:
            path.write_text(json.dumps({**json.loads(description.read_text()), "citation": model.citation}, indent=4))
        card.write_text(
            f"# Model card: `{name}`, version {version}\n\n{text}\n\n"
            f"- {count:,} parameters. Earthquakes: {events}. Noise: {noise}.\n"
            "- Below: scores in validation (`sdr` in dB and correlation, by sampling steps), and all settings.\n\n"
            f"```json\n{json.dumps(facts, indent=4)}\n```\n\n{model.citation}\n",
            encoding="utf-8",
        )
    return [weights, description, card]
