"""Saving, loading and finding weights, with real files, and a real server or none."""

import json
import logging
import os
import pickle
import socket
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
import seisbench
import seisbench.models as sbm
import torch
from conftest import randomised

from seisbench_cdiffsd.weights import DEFAULT, CDiffSD

OTHER_THAN_DEFAULT = {
    **{"network": "published", "schedule": "published-cosine", "norm": "peak", "presence": False},  # it does not tell
    **{"in_samples": 2000, "sampling_rate": 50, "component_order": "Z12"},
    **{"filter_args": ("highpass",), "filter_kwargs": {"freq": 2.0}},
}


@pytest.fixture
def places(tmp_path, monkeypatch):
    """An empty cache, an empty shipped folder, and a remote repository that does not answer."""
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
    cache, shipped = tmp_path / "cache", tmp_path / "shipped"
    shipped.mkdir()
    monkeypatch.setattr(seisbench, "cache_root", tmp_path / "root")  # or SeisBench moves an older cache here
    monkeypatch.setattr(seisbench, "cache_model_root", cache)
    monkeypatch.setattr(seisbench, "remote_model_root", f"http://127.0.0.1:{port}/models/v3/")
    monkeypatch.setattr(CDiffSD, "shipped_path", classmethod(lambda cls: shipped))
    return cache / "cdiffsd", shipped


@pytest.fixture
def remote(tmp_path, monkeypatch):
    """A folder that a WebDAV server on this machine serves as the remote repository."""
    folder = tmp_path / "remote" / "models" / "v3" / "cdiffsd"
    folder.mkdir(parents=True)

    class WebDAV(BaseHTTPRequestHandler):
        def reply(self, status, body=b""):
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(body)

        def do_GET(self):
            file = tmp_path / "remote" / self.path.lstrip("/")
            self.reply(200, file.read_bytes()) if file.is_file() else self.reply(404)

        do_HEAD = do_GET

        def do_PROPFIND(self):
            self.rfile.read(int(self.headers.get("Content-Length", 0)))
            if not folder.is_dir():
                return self.reply(404)
            paths = [self.path + "/", *(f"{self.path}/{file.name}" for file in folder.iterdir())]
            links = "".join(f"<d:response><d:href>{path}</d:href></d:response>" for path in paths)
            self.reply(207, f'<d:multistatus xmlns:d="DAV:">{links}</d:multistatus>'.encode())
            return None

        def log_message(self, *args):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), WebDAV)
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    monkeypatch.setattr(seisbench, "remote_model_root", f"http://127.0.0.1:{server.server_port}/models/v3/")
    yield folder
    server.shutdown()
    server.server_close()


def save(folder, name="some", version="1", seed=0, **kwargs):
    folder.mkdir(parents=True, exist_ok=True)
    model = randomised(CDiffSD(**kwargs), seed)
    model.save(folder / name, weights_docstring=f"{name} {version}", version_str=version)
    return model


def assert_same_weights(one, other):
    assert one.get_model_args() == other.get_model_args()
    for (name, a), (other_name, b) in zip(one.state_dict().items(), other.state_dict().items(), strict=True):
        assert name == other_name
        assert torch.equal(a, b)


# -- files


@pytest.mark.parametrize("kwargs", [{}, OTHER_THAN_DEFAULT, {"filter_args": None}])
def test_save_and_load_give_the_same_model(tmp_path, example, kwargs):
    model = randomised(CDiffSD(**kwargs, default_args={"steps": 2, "overlap": 100}))
    model.save(tmp_path / "model")
    loaded = CDiffSD.load(tmp_path / "model")
    assert_same_weights(loaded, model)
    assert loaded.default_args == {"steps": 2, "overlap": 100}
    assert loaded.get_model_args() == loaded.get_model_args() | kwargs
    for a, b in zip(model.denoise(example), loaded.denoise(example), strict=True):
        assert (a.data == b.data).all()


def test_the_version_is_in_the_metadata(tmp_path):
    save(tmp_path, version="3")
    assert sorted(file.name for file in tmp_path.iterdir()) == ["some.json.v3", "some.pt.v3"]
    assert json.loads((tmp_path / "some.json.v3").read_text())["version"] == "3"
    assert CDiffSD.load(tmp_path / "some", version_str="3").weights_version == "3"
    with pytest.raises(FileNotFoundError, match="nowhere"):
        CDiffSD.load(tmp_path / "nowhere")


def test_weights_are_on_the_cpu_and_free_of_code(tmp_path):
    save(tmp_path, version=None)

    class Code:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "ran"),)

    (tmp_path / "some.pt").write_bytes(pickle.dumps(Code(), protocol=2))
    with pytest.raises(ValueError, match="cannot be loaded as a CDiffSD model"):
        CDiffSD.load(tmp_path / "some")
    assert not (tmp_path / "ran").exists()


#: What may happen to the two files of weights; a picker is damaged alike.
DAMAGE = {
    "truncated": lambda weights, metadata: weights.write_bytes(weights.read_bytes()[:5000]),
    "empty": lambda weights, metadata: weights.write_bytes(b""),
    "text": lambda weights, metadata: weights.write_text("no weights"),
    "parameters": lambda weights, metadata: torch.save({"a": torch.zeros(1)}, weights),
    "list": lambda weights, metadata: metadata.write_text("[]"),
}
OTHERS = {
    "foreign": lambda weights, metadata: sbm.GPD().save(weights.with_suffix("")),
    "metadata": lambda weights, metadata: metadata.write_text("{"),
    "newer": lambda weights, metadata: metadata.write_text(
        json.dumps({**json.loads(metadata.read_text()), "seisbench_requirement": "99"})
    ),
}


@pytest.mark.parametrize("damage", [*DAMAGE, *OTHERS])
def test_damaged_and_foreign_files_are_refused_in_one_line(tmp_path, damage):
    save(tmp_path, version=None)
    (DAMAGE | OTHERS)[damage](tmp_path / "some.pt", tmp_path / "some.json")
    with pytest.raises(ValueError, match="cannot be loaded as a CDiffSD model") as error:
        CDiffSD.load(tmp_path / "some")
    assert "\n" not in str(error.value)


# -- places


def test_shipped_weights_need_neither_cache_nor_network(places, caplog):
    cache, shipped = places
    model = save(shipped, DEFAULT)
    with caplog.at_level(logging.WARNING, "seisbench"):
        loaded = CDiffSD.from_pretrained()
    assert_same_weights(loaded, model)
    assert loaded.weights_docstring == "base 1"
    assert not cache.parent.exists()
    assert not caplog.records


@pytest.mark.parametrize(
    ("cached", "shipped", "expected"), [("1", "2", 1), ("2", "1", 0), ("10", "9", 0), ("1", "1", 0)]
)
def test_the_newest_version_wins(places, cached, shipped, expected):
    models = [save(places[0], version=cached, seed=1), save(places[1], version=shipped, seed=2)]
    assert_same_weights(CDiffSD.from_pretrained("some"), models[expected])
    assert_same_weights(CDiffSD.from_pretrained("some", version_str=shipped), models[1 if cached != shipped else 0])
    assert CDiffSD.list_versions("some", remote=False) == sorted({cached, shipped}, key=int)


def test_files_dropped_into_the_cache_without_a_version_are_found(places):
    model = save(places[0], version=None)
    assert_same_weights(CDiffSD.from_pretrained("some"), model)


def test_half_a_download_is_not_a_version(places):
    save(places[1])
    places[0].mkdir(parents=True)
    (places[0] / "some.json.v2").write_text("{}")
    for kind in ("json", "pt"):
        (places[0] / f"some.{kind}.v3.partial").write_text("{}")
        (places[0] / f"some.{kind}.vlatest").write_text("{}")
    assert CDiffSD.list_versions("some", remote=False) == ["1"]
    CDiffSD.from_pretrained("some")


def test_the_list_holds_cache_and_package(places, caplog):
    save(places[0], "cached")
    save(places[1], "shipped")
    with caplog.at_level(logging.WARNING, "seisbench"):
        assert CDiffSD.list_pretrained() == ["cached", "shipped"]
    assert len(caplog.records) == 1  # the remote is out of reach
    assert "\n" not in caplog.text.strip()
    details = CDiffSD.list_pretrained(details=True, remote=False)
    assert details == {"cached": "cached 1", "shipped": "shipped 1"}


def test_unknown_names_list_those_there_are(places):
    save(places[1], "shipped")
    with pytest.raises(ValueError, match=r"no CDiffSD weights named 'other'.*: shipped\.$"):
        CDiffSD.from_pretrained("other")
    with pytest.raises(ValueError, match=r"no version '7'.*: 1\.$"):
        CDiffSD.from_pretrained("shipped", version_str="7")


def test_a_silent_network_does_not_hang(places, monkeypatch):
    with socket.socket() as silent:  # takes connections and never answers
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        monkeypatch.setattr(seisbench, "remote_model_root", f"http://127.0.0.1:{silent.getsockname()[1]}/models/v3/")
        monkeypatch.setattr("seisbench_cdiffsd.weights.TIMEOUT", 0.2)
        before = time.monotonic()
        assert CDiffSD.list_pretrained() == []
        assert time.monotonic() - before < 2


def test_an_update_that_fails_leaves_what_is_there(places):
    model = save(places[1])
    assert_same_weights(CDiffSD.from_pretrained("some", update=True), model)


def test_a_remote_without_this_model_is_not_a_warning(places, remote, caplog):
    remote.rmdir()
    save(places[1])
    with caplog.at_level(logging.WARNING, "seisbench"):
        assert CDiffSD.list_pretrained() == ["some"]
    assert not caplog.records


def test_weights_come_from_the_remote(places, remote):
    model = save(remote)
    assert CDiffSD.list_pretrained() == ["some"]
    assert CDiffSD.list_pretrained(details=True) == {"some": "some 1"}
    assert_same_weights(CDiffSD.from_pretrained("some"), model)
    assert sorted(file.name for file in places[0].iterdir()) == ["some.json.v1", "some.pt.v1"]


def test_the_remote_is_asked_for_an_update_only_on_request(places, remote):
    here, newer = save(places[1], seed=1), save(remote, version="2", seed=2)
    assert_same_weights(CDiffSD.from_pretrained("some"), here)
    assert_same_weights(CDiffSD.from_pretrained("some", update=True), newer)
    assert_same_weights(CDiffSD.from_pretrained("some"), newer)
    assert_same_weights(CDiffSD.from_pretrained("some", version_str="1"), here)


def test_remote_weights_without_a_version_in_their_name(places, remote):
    model = save(remote, version=None)
    assert_same_weights(CDiffSD.from_pretrained("some"), model)
