"""GitHub's API as the release workflow asks it: runs of a commit, releases and their files. It answers here."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

from tests.rehearsal.api import REPOSITORY, token_with

Answer = tuple[int, Any]


class MadeGithub:
    """A repository with successful runs on `main`, by number the commit of each, and with one release at most."""

    def __init__(self, runs: dict[int, str]) -> None:
        self.runs = runs
        self.releases: list[dict[str, Any]] = []
        self.assets: dict[int, dict[str, Any]] = {}  # by number, with their content
        self.failing = ""  # name of an asset whose upload breaks off
        self.address = ""  # while it serves

    def environ(self, tag: str, commit: str, **rights: str) -> dict[str, str]:
        """What a job has that runs on a tag."""
        return {
            "GITHUB_API_URL": self.address,
            "GITHUB_REPOSITORY": REPOSITORY,
            "GITHUB_SERVER_URL": "https://github.com",
            "GITHUB_WORKFLOW_REF": f"{REPOSITORY}/.github/workflows/release.yml@refs/tags/{tag}",
            "GITHUB_TOKEN": token_with(rights or {"actions": "read", "contents": "write"}),
            "GITHUB_REF": f"refs/tags/{tag}",
            "GITHUB_SHA": commit,
        }

    def names(self) -> list[str]:
        """Of the files of its releases."""
        return sorted(asset["name"] for asset in self.assets.values())

    @contextmanager
    def serving(self) -> Iterator[None]:
        """Answer requests meanwhile."""
        github = self

        class Handler(BaseHTTPRequestHandler):
            def answer(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                status, content = github.answer(self.command, self.path, self.headers.get("Authorization", ""), body)
                text = b"" if content is None else json.dumps(content).encode()
                self.send_response(status)
                self.send_header("Content-Length", str(len(text)))
                self.end_headers()
                self.wfile.write(text)

            do_GET = do_POST = do_PATCH = do_DELETE = answer  # noqa: N815  # the names are the server's

            def log_message(self, *arguments: object) -> None:
                """The log is for the workflow."""

        with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
            threading.Thread(target=server.serve_forever, daemon=True).start()
            self.address = f"http://127.0.0.1:{server.server_address[1]}"
            try:
                yield
            finally:
                server.shutdown()

    def answer(self, method: str, path: str, authorization: str, body: bytes) -> Answer:
        """Status and content, as far as the token goes."""
        split = urlsplit(path)
        place, asked = split.path.removeprefix(f"/repos/{REPOSITORY}/"), parse_qs(split.query)
        may_write = "contents=write" in authorization
        if method != "GET" and not may_write:
            return 403, {"message": "Resource not accessible by integration"}
        if (method, place) == ("GET", "actions/workflows/notebooks.yml/runs"):
            runs = [run for run, commit in self.runs.items() if [commit] == asked["head_sha"]]
            own = {"event": "push", "head_repository": {"full_name": REPOSITORY}}
            return 200, {"workflow_runs": [{"id": run, **own} for run in sorted(runs, reverse=True)]}
        if (method, place) == ("GET", "releases"):
            return 200, [one for one in self.releases if may_write or not one["draft"]]
        if (method, place) == ("POST", "releases"):
            address = f"https://github.com/{REPOSITORY}/releases/1"
            self.releases.append({"id": 1, "html_url": address, **json.loads(body)})
            return 201, self.releases[-1]
        if (method, place) == ("PATCH", "releases/1"):
            self.releases[0] |= json.loads(body)
            return 200, self.releases[0]
        if (method, place) == ("GET", "releases/1/assets"):
            return 200, [{key: one[key] for key in ("id", "name", "state", "digest")} for one in self.assets.values()]
        if (method, place) == ("POST", "releases/1/assets"):
            return self._upload(asked["name"][0], body)
        number = place.removeprefix("releases/assets/")
        if method == "DELETE" and number.isdecimal():
            del self.assets[int(number)]
            return 204, None
        return 404, {"message": "Not Found"}

    def _upload(self, name: str, content: bytes) -> Answer:
        if not self.releases[0]["draft"] or name in self.names():
            return 422, {"message": "Validation Failed"}
        broken, number = name == self.failing, max(self.assets, default=0) + 1
        found = {
            "state": "starter" if broken else "uploaded",
            "digest": f"sha256:{hashlib.sha256(content).hexdigest()}",
        }
        self.assets[number] = {"id": number, "name": name, "content": content, **found}
        return (502, None) if broken else (201, {"id": number})
