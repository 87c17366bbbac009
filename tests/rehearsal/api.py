"""GitHub's REST API as far as the workflow asks it: the runs on `main`, their artifacts, the zip of one.

It answers on this machine. A token carries the permissions of its job, so that a right that is missing shows.
"""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

REPOSITORY = "owner/repository"
_RUNS = re.compile(rf"/repos/{REPOSITORY}/actions/workflows/[\w.-]+\.yml/runs")
_ARTIFACTS = re.compile(rf"/repos/{REPOSITORY}/actions/runs/(\d+)/artifacts")
_ZIP = re.compile(rf"/repos/{REPOSITORY}/actions/artifacts/(\d+)/zip")


def token_with(permissions: Mapping[str, str]) -> str:
    """A token as `github.token` gives it to a job with these permissions."""
    return "rehearsal_" + "_".join(f"{scope}={level}" for scope, level in sorted(permissions.items()))


class Api:
    """Answers for the earlier runs of a workflow, given as the zips of their artifacts by run and name."""

    def __init__(self, runs: Mapping[int, Mapping[str, bytes]]) -> None:
        self.runs = runs
        self.address = ""  # while it serves

    @contextmanager
    def serving(self) -> Iterator[None]:
        """Answer requests meanwhile."""
        api = self

        class Handler(BaseHTTPRequestHandler):
            def reply(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                status, content = api.respond(self.command, self.path, self.headers.get("Authorization", ""), body)
                self.send_response(status)
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            do_GET = do_POST = do_PATCH = do_DELETE = reply  # noqa: N815  # the names are the server's

            def log_message(self, *arguments: object) -> None:
                """The log of the walk is for the workflow."""

        with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
            threading.Thread(target=server.serve_forever, daemon=True).start()
            self.address = f"http://127.0.0.1:{server.server_address[1]}"
            try:
                yield
            finally:
                server.shutdown()

    def respond(self, method: str, path: str, authorization: str, _body: bytes) -> tuple[int, bytes]:
        """Status and content for a request; this one is only read."""
        return self.answer(path, authorization) if method == "GET" else (405, b"")

    def answer(self, path: str, authorization: str) -> tuple[int, bytes]:
        """Status and content for a request."""
        if not re.fullmatch(r"Bearer rehearsal_\S*actions=(read|write)\S*", authorization):
            return 403, b'{"message": "Resource not accessible by integration"}'
        place, asked = urlsplit(path).path, parse_qs(urlsplit(path).query)
        artifacts = [(run, name, content) for run, named in self.runs.items() for name, content in named.items()]
        if _RUNS.fullmatch(place):
            newest = [{"id": run, "event": "push", "head_repository": {"full_name": REPOSITORY}}
                      for run in sorted(self.runs, reverse=True)]  # fmt: skip
            return 200, json.dumps({"total_count": len(newest), "workflow_runs": newest}).encode()
        if match := _ARTIFACTS.fullmatch(place):
            named = [{"id": number, "name": name, "expired": False} for number, (run, name, _) in enumerate(artifacts)
                     if run == int(match[1]) and asked.get("name", [name]) == [name]]  # fmt: skip
            return 200, json.dumps({"total_count": len(named), "artifacts": named}).encode()
        if (match := _ZIP.fullmatch(place)) and int(match[1]) < len(artifacts):
            return 200, artifacts[int(match[1])][2]
        return 404, b'{"message": "Not Found"}'
