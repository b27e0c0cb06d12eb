"""The Hub, on a local server that speaks as much of its protocol as one model needs."""

from __future__ import annotations

import base64
import hashlib
import http.server
import json
import os
import re
import subprocess
import sys
import threading

import pytest

from chainrule import hub
from chainrule.errors import ModelError
from chainrule.models import MADE

COMMIT = "0" * 40


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
            assert json.loads(body)["content"].startswith("---\nlibrary_name: chainrule\n")
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
        made.repositories, made.address = {}, f"http://127.0.0.1:{made.server_address[1]}"
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


def test_a_card_names_the_model():
    """The short card says class, size and how to load it."""
    card = hub.card_of(MADE((3,), 4, (8,)), "someone/digits")
    assert "`MADE`" in card
    assert "shape (3,) and 4 levels" in card
