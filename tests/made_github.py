"""GitHub's API as the release workflow asks it: runs, their artifacts, releases and their files. It answers here."""

from __future__ import annotations

import hashlib
import json
from typing import Any
from urllib.parse import parse_qs, urlsplit

from tests.rehearsal.api import REPOSITORY, Api, token_with

HOST = "github.test"  # where tests send what goes there through a proxy; elsewhere one address takes all requests


def made_workflow_run(number: int, commit: str, artifact: str = "release.arm64", **changes: Any) -> dict[str, Any]:
    """A run of `notebooks` as a push to `main` leaves it."""
    usual = {"status": "success", "branch": "main", "event": "push", "head_repository": {"full_name": REPOSITORY}}
    own = {"id": number, "workflow": "notebooks.yml", "head_sha": commit, "artifact": artifact}
    return {**own, **usual, **changes}


class MadeGithub(Api):
    """A repository with runs of `notebooks`, and releases of which the last one has files."""

    def __init__(self, *workflow_runs: dict[str, Any]) -> None:
        super().__init__({})
        self.workflow_runs = [*workflow_runs]
        self.releases: list[dict[str, Any]] = []
        self.issues: list[dict[str, Any]] = []
        self.assets: dict[int, dict[str, Any]] = {}  # by number, with their content
        self.failing = ""  # name of an asset whose upload breaks off

    def environ(self, tag: str, **rights: str) -> dict[str, str]:
        """What a job has that runs on a tag."""
        return {
            "GITHUB_API_URL": self.address,
            "GITHUB_REPOSITORY": REPOSITORY,
            "GITHUB_SERVER_URL": "https://github.com",
            "GITHUB_WORKFLOW_REF": f"{REPOSITORY}/.github/workflows/release.yml@refs/tags/{tag}",
            "GITHUB_TOKEN": token_with(rights or {"actions": "read", "contents": "write"}),
            "GITHUB_REF": f"refs/tags/{tag}",
        }

    def names(self) -> list[str]:
        """Of the files of its releases."""
        return sorted(asset["name"] for asset in self.assets.values())

    def respond(self, method: str, path: str, authorization: str, body: bytes) -> tuple[int, bytes]:
        """As far as the token goes. Of a list, the page that is asked for."""
        split = urlsplit(path)
        place, asked = split.path.removeprefix(f"/repos/{REPOSITORY}/"), parse_qs(split.query)
        uploads = (method, place.rpartition("/")[2]) == ("POST", "assets")
        if split.hostname not in (None, f"{'uploads' if uploads else 'api'}.{HOST}"):
            return 404, b'{"message": "Not Found"}'
        right = "issues" if place == "issues" else "contents"
        needed = f"{right}=write" if method != "GET" else "actions=read" if place.startswith("actions/") else ""
        if needed not in authorization:
            return 403, b'{"message": "Resource not accessible by integration"}'
        status, content = self._answer(method, place, asked, may_write="contents=write" in authorization, body=body)
        if isinstance(content, list):
            size, page = int(asked["per_page"][0]), int(asked.get("page", ["1"])[0])
            content = content[(page - 1) * size : page * size]
        if isinstance(content, bytes):
            return status, content
        return status, b"" if content is None else json.dumps(content).encode()

    def _answer(self, method: str, place: str, asked: dict[str, list[str]], may_write: bool, body: bytes) -> Any:
        match method, place.split("/"):
            case "GET", ["actions", "workflows", file, "runs"]:
                wanted = [(key, asked[key][0]) for key in ("status", "branch", "head_sha", "event") if key in asked]
                runs = [run for run in self.workflow_runs if run["workflow"] == file]
                runs = [run for run in runs if all(run[key] == value for key, value in wanted)]
                return 200, {"workflow_runs": sorted(runs, key=lambda run: -run["id"])}
            case "GET", ["actions", "runs", number, "artifacts"]:
                names = [run["artifact"] for run in self.workflow_runs if str(run["id"]) == number]
                return 200, {"artifacts": [{"id": 1, "name": name} for name in names if [name] == asked["name"]]}
            case "GET", ["releases"]:
                return 200, [self._with_assets(one) for one in self.releases if may_write or not one["draft"]]
            case "GET", ["releases", "latest"]:
                fit = [one for one in self.releases[::-1] if not (one["draft"] or one.get("prerelease"))]
                return (200, self._with_assets(fit[0])) if fit else (404, {"message": "Not Found"})
            case "GET", ["releases", "assets", number]:
                return 200, self.assets[int(number)]["content"]
            case "GET", ["issues"]:
                return 200, [one for one in self.issues if one["labels"] == asked["labels"]]
            case "POST", ["issues"]:
                address = f"https://github.com/{REPOSITORY}/issues/{len(self.issues) + 1}"
                self.issues.append({"html_url": address, **json.loads(body)})
                return 201, self.issues[-1]
            case "POST", ["releases"]:
                new = len(self.releases) + 1
                address = f"https://github.com/{REPOSITORY}/releases/{new}"
                self.releases.append({"id": new, "html_url": address, **json.loads(body)})
                return 201, self.releases[-1]
            case "PATCH", ["releases", number]:
                self.releases[int(number) - 1] |= json.loads(body)
                return 200, self.releases[int(number) - 1]
            case "GET", ["releases", _, "assets"]:
                return 200, self._with_assets({})["assets"]
            case "POST", ["releases", _, "assets"]:
                return self._upload(asked["name"][0], body)
            case "DELETE", ["releases", "assets", number]:
                del self.assets[int(number)]
                return 204, None
        return 404, {"message": "Not Found"}

    def _with_assets(self, release: dict[str, Any]) -> dict[str, Any]:
        kept = ("id", "name", "state", "digest")
        return {**release, "assets": [{key: one[key] for key in kept} for one in self.assets.values()]}

    def _upload(self, name: str, content: bytes) -> Any:
        if not self.releases[-1]["draft"] or name in self.names():
            return 422, {"message": "Validation Failed"}
        broken, number = name == self.failing, max(self.assets, default=0) + 1
        found = {
            "state": "starter" if broken else "uploaded",
            "digest": f"sha256:{hashlib.sha256(content).hexdigest()}",
        }
        self.assets[number] = {"id": number, "name": name, "content": content, **found}
        return (502, None) if broken else (201, {"id": number})
