"""The Hub, on a local server that speaks as much of its protocol as one model needs."""

from __future__ import annotations

import base64
import hashlib
import http.server
import json
import os
import re
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import huggingface_hub
import pytest
import torch
import yaml

from chainrule import hub, load, model_card
from chainrule.errors import ModelError
from chainrule.models import MADE, PixelCNN, PixelIQN

COMMIT = "0" * 40
RECORDED = Path(__file__).parents[1] / "recorded" / "pixelcnn-cpu"


def header_of(card: str) -> dict:
    """A card's front matter, if it is one that the Hub takes: YAML, every field of a type that it knows."""
    header = yaml.safe_load(card.split("---\n")[1])
    kinds = {
        "library_name": str,
        "license": str,
        "pipeline_tag": str,
        "tags": list,
        "datasets": list,
        "model-index": list,
    }
    assert card.startswith("---\n")
    assert {key: type(value) for key, value in header.items()} == {key: kinds[key] for key in header}
    assert all(isinstance(tag, str) for tag in header["tags"])
    assert header == huggingface_hub.ModelCard(card).data.to_dict()  # the client reads the same out of it
    return header


class Server(http.server.BaseHTTPRequestHandler):
    """Repositories are kept in the server: name → file → content."""

    protocol_version = "HTTP/1.1"

    def log_message(self, *_: object) -> None:
        """Say nothing."""

    def answer(self, status: int, content: bytes = b"", **headers: str) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def do_GET(self) -> None:
        repositories = self.server.repositories  # type: ignore[attr-defined]
        match = re.fullmatch(r"/([^/]+/[^/]+)/resolve/main/(.+)", self.path)
        if match is None or match[1] not in repositories:
            self.answer(404, X_Error_Code="RepoNotFound")
        elif match[2] not in repositories[match[1]]:
            self.answer(404, X_Error_Code="EntryNotFound", X_Repo_Commit=COMMIT)
        else:
            content = repositories[match[1]][match[2]]
            self.answer(200, content, ETag=f'"{hashlib.sha256(content).hexdigest()}"', X_Repo_Commit=COMMIT)

    do_HEAD = do_GET

    def do_POST(self) -> None:
        repositories = self.server.repositories  # type: ignore[attr-defined]
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if self.path == "/api/repos/create":
            if self.headers["Authorization"] != "Bearer secret":
                return self.answer(401)
            asked = json.loads(body)
            name = f"{asked['organization']}/{asked['name']}"
            repositories.setdefault(name, {})
            return self.answer(200, json.dumps({"url": f"{self.server.address}/{name}"}).encode())  # type: ignore[attr-defined]
        if self.path == "/api/validate-yaml":
            self.server.validated.append(header_of(json.loads(body)["content"]))  # type: ignore[attr-defined]
            return self.answer(200, b'{"errors": [], "warnings": []}')
        match = re.fullmatch(r"/api/models/([^/]+/[^/]+)/(preupload|commit)/main(\?.*)?", self.path)
        assert match is not None, self.path
        name, action = match[1], match[2]
        if action == "preupload":
            files = [{**file, "uploadMode": "regular", "shouldIgnore": False} for file in json.loads(body)["files"]]
            return self.answer(200, json.dumps({"files": files}).encode())
        for line in map(json.loads, body.splitlines()):
            if line["key"] == "file":
                assert line["value"]["encoding"] == "base64"
                repositories[name][line["value"]["path"]] = base64.b64decode(line["value"]["content"])
        answer = {"commitUrl": f"{self.server.address}/{name}/commit/{COMMIT}", "commitOid": COMMIT, "hookOutput": ""}  # type: ignore[attr-defined]
        return self.answer(200, json.dumps(answer).encode())


@pytest.fixture
def server():
    """A Hub that lasts as long as the test."""
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Server) as made:
        made.repositories, made.validated, made.address = {}, [], f"http://127.0.0.1:{made.server_address[1]}"
        threading.Thread(target=made.serve_forever, daemon=True).start()
        yield made
        made.shutdown()


@pytest.fixture
def python(server, tmp_path):
    """Runs a program that knows this Hub only; gives what it printed, or its error."""

    def run(program: str, **env: str) -> str:
        settings = {"HF_ENDPOINT": server.address, "HF_HOME": str(tmp_path / "cache"), "HF_TOKEN": "secret", **env}
        inherited = {key: value for key, value in os.environ.items() if "proxy" not in key.lower()}
        done = subprocess.run(
            [sys.executable, "-c", "import chainrule as cr\n" + program],
            env=inherited | settings, cwd=tmp_path, capture_output=True, text=True, timeout=120,
        )  # fmt: skip
        return done.stdout.strip() if done.returncode == 0 else done.stderr.strip().splitlines()[-1]

    return run


def test_what_is_published_loads(server, python):
    """A model comes back from the Hub with its likelihoods; a second time without asking for the files."""
    program = "print(cr.load('someone/digits').log_prob(__import__('torch').zeros(1, 3, dtype=int)).item())"
    published = python(
        "m = cr.MADE((3,), 4, (8,))\nprint(m.push_to_hub('someone/digits'))\n"
        "print(m.eval().log_prob(__import__('torch').zeros(1, 3, dtype=int)).item())"
    ).splitlines()
    assert published[0] == f"{server.address}/someone/digits"
    assert set(server.repositories["someone/digits"]) == {"README.md", *hub.FILES}
    assert 'cr.load("someone/digits")' in server.repositories["someone/digits"]["README.md"].decode()
    assert python(program) == published[1]
    assert python(program, HF_HUB_OFFLINE="1") == published[1]


def test_refusals(server, python):
    """Each failure is a ModelError that says which: no repository, no model in it, no connection, no login."""
    server.repositories["someone/else"] = {"config.json": b"{}"}
    assert "ModelError: 'someone/nothing' is no folder here" in python("cr.load('someone/nothing')")
    assert "holds no model of chainrule's" in python("cr.load('someone/else')")
    assert "cannot be reached" in python("cr.load('someone/digits')", HF_ENDPOINT="http://127.0.0.1:9")
    assert "cannot be published" in python("cr.Histogram(4).push_to_hub('someone/digits')", HF_TOKEN="wrong")


def test_what_is_a_repository(tmp_path, monkeypatch):
    """Paths are never asked for on the network: neither odd ones, nor those whose parent exists here."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs").mkdir()
    assert hub.is_repository("someone/digits")
    for name in ("runs/digits", "digits", "a/b/c", "./runs", "/etc/x", "a b/c", "someone/", "../x", "é/x", ""):
        assert not hub.is_repository(name), name
    with pytest.raises(ModelError, match="no model 'runs/digits'"):
        __import__("chainrule").load("runs/digits")


@pytest.fixture
def run(tmp_path):
    """A finished run: a recorded one's files, with a small model of its kind."""
    folder = tmp_path / "run"
    PixelCNN((3, 28, 28), 4, filters=4, blocks=1).save_pretrained(folder / "model")
    for name in ("config.json", "result.json"):
        shutil.copy(RECORDED / name, folder)
    (folder / "samples.png").write_bytes(b"a picture")
    return folder


def test_a_run_is_published_with_its_record(server, python, run):
    """Card, record and samples go along; the card says what the run's files say, and its header is the Hub's."""
    python("cr.load('run').push_to_hub('someone/digits', licence='cc0-1.0')")
    files = server.repositories["someone/digits"]
    assert set(files) == {"README.md", "training.json", "samples.png", *hub.FILES}
    assert files["samples.png"] == b"a picture"
    result, config = (json.loads((run / f"{name}.json").read_text()) for name in ("result", "config"))
    assert json.loads(files["training.json"]) == {"result": result, **config}
    card = files["README.md"].decode()
    for said in (
        result["command"], config["commit"], "0.1491", "20,000 steps of 16 events with muon, seed 0", "7,705 s",
        "CPU, 2 threads (AVX2)", "59,000 training events", "![Samples](samples.png)", 'cr.load("someone/digits")',
        "independently of each other", "cc0-1.0.", f"begun from the weights of `{config['recipe']['init']}`",
    ):  # fmt: skip
        assert said in card, said
    [header] = server.validated
    assert header["license"] == "cc0-1.0"
    assert header["datasets"] == ["ylecun/mnist"]
    [measured] = header["model-index"][0]["results"]
    assert measured["dataset"]["type"] == "hopper-mnist"
    assert measured["metrics"][0]["value"] == pytest.approx(result["test_bits_per_dim"], abs=1e-5)


def test_no_folder_of_this_machine_is_published(run):
    """Where data and runs lay says nothing of the model: of absolute paths the last part is kept."""
    config = json.loads((run / "config.json").read_text())
    config["command"] = "chainrule train images --data '/home/somebody/my pictures/set' --out=~/secret/run"
    config["recipe"]["data"] = "/home/somebody/set"
    (run / "config.json").write_text(json.dumps(config))
    model = load(run)
    said = model_card.card_of(model, "mine") + model.record.files()["training.json"].decode()
    assert "--out=run" in said
    for secret in ("/home", "somebody", "secret", str(run)):
        assert secret not in said, secret


def test_a_record_goes_where_the_model_goes(run, tmp_path):
    """Saved, loaded and saved again, a model has the same record; with other weights it has none."""
    model = load(run)
    model.save_pretrained(tmp_path / "mine")
    again = load(tmp_path / "mine")
    again.save_pretrained(tmp_path / "yours")
    assert again.record.facts == model.record.facts
    mine, yours = (tmp_path / name for name in ("mine", "yours"))
    assert {path.name for path in mine.iterdir()} == {path.name for path in yours.iterdir()}
    assert (mine / "README.md").read_text().replace("mine", "yours") == (yours / "README.md").read_text()
    with torch.no_grad():
        next(again.parameters())[0] += 1
    again.save_pretrained(tmp_path / "other")
    assert {path.name for path in (tmp_path / "other").iterdir()} == set(hub.FILES)
    assert "Nothing is recorded" in model_card.card_of(again, "other")
    assert "0.1491" not in model_card.card_of(again, "other")


@pytest.mark.parametrize("name", ["colored-mnist", "photo"])
def test_a_card_written_by_hand_is_kept(name):
    """A shipped model's card is its own, credits and all, below a header that has its licence and its figure."""
    model = load(name)
    card = model_card.card_of(model, "someone/digits")
    assert model.record.written.strip() in card
    assert 'cr.load("someone/digits")' in card
    header = header_of(card)
    assert header["license"] == "mit"
    value = header["model-index"][0]["results"][0]["metrics"][0]["value"]
    assert value == pytest.approx(model.record.facts["result"]["test_bits_per_dim"], abs=1e-5)


@pytest.mark.parametrize(
    "damage",
    [
        "",
        "{",
        "[]",
        '{"test_bits_per_dim": "x", "steps": null, "data": [1], "train_events": NaN}',
        '{"data": "a: [b\\n---"}',
    ],
)
def test_a_damaged_record_spoils_no_model(run, damage):
    """Whatever lies in result.json, the model loads, and its card is one that the Hub takes."""
    (run / "result.json").write_text(damage)
    header_of(model_card.card_of(load(run), "someone/digits"))


def test_a_card_without_a_record():
    """Class, size, how to load it, what it cannot do, and that nothing is known of its training or its licence."""
    card = model_card.card_of(MADE((3,), 4, (8,)), "someone/digits")
    for said in ("`MADE`", "shape 3 and 4 levels", "Nothing is recorded", "None is stated"):
        assert said in card, said
    assert header_of(card) == {"library_name": "chainrule", "tags": ["autoregressive", "density-estimation", "MADE"]}
    card = model_card.card_of(PixelIQN((3, None, None), 4, filters=4, blocks=1), "mine")
    assert "It has no likelihood" in card
    assert "log_prob" not in card
    assert "model.sample(16, size=(64, 64))  # integers, (16, 3, 64, 64)" in card
