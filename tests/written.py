"""Small datasets in SeisBench's format, for tests."""

import seisbench.data as sbd


def written(path, records, order="ZNE", rate=100.0, **opened):
    """A dataset of some records, each its metadata and its waveform."""
    path.mkdir()
    with sbd.WaveformDataWriter(path / "metadata.csv", path / "waveforms.hdf5") as writer:
        writer.data_format = {"dimension_order": "CW", "component_order": order, "sampling_rate": rate}
        for metadata, waveform in records:
            writer.add_trace({"split": "train", **metadata}, waveform)
    return sbd.WaveformDataset(path, **{"component_order": "ZNE", **opened})
