"""GitHub's API, as far as the workflows ask it. Addresses are made here, never taken from an answer."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from typing import Any

import requests

from lib.errors import RefusedError, UserError

TIMEOUT_S = (10, 60)  # to connect; without a byte
_VARIABLES = ("GITHUB_API_URL", "GITHUB_REPOSITORY", "GITHUB_TOKEN")


class HubError(RefusedError):
    """The API, or an artifact, did not give what was asked for."""


def needed(environ: Mapping[str, str], *names: str) -> list[str]:
    """Values of variables that a job of GitHub Actions has.

    Raises:
        UserError: one is missing.
    """
    if missing := [name for name in names if not environ.get(name)]:
        raise UserError(f"no {', '.join(missing)}; this runs in a job of GitHub Actions, with a token in its env")
    return [environ[name] for name in names]


class Hub:
    """The requests to one repository, with the token of a job.

    Raises:
        UserError: a variable is missing.
    """

    def __init__(self, environ: Mapping[str, str]) -> None:
        api, self.repository, token = needed(environ, *_VARIABLES)
        self._api = api
        self._session = requests.Session()
        self._session.headers["Authorization"] = f"Bearer {token}"

    def runs(self, workflow: str) -> list[dict[str, Any]]:
        """The last successful runs on `main` that no pull request started, the newest first.

        Args:
            workflow: file name.
        """
        asked = {"branch": "main", "status": "success", "exclude_pull_requests": "true", "per_page": "100"}
        return [
            run
            for run in self.listed("workflow_runs", f"actions/workflows/{workflow}/runs", asked)
            if run["event"] != "pull_request"  # of a fork whose branch is called main too
            and (run["head_repository"] or {}).get("full_name") == self.repository
        ]

    def artifact_number(self, run: int, name: str) -> int | None:
        """Of a run's artifact, of its last attempt; None where it has none any more."""
        listed = self.listed("artifacts", f"actions/runs/{run}/artifacts", {"name": name, "per_page": "100"})
        return max((int(one["id"]) for one in listed if one["name"] == name and not one.get("expired")), default=None)

    def artifact(self, run: int, name: str) -> bytes | None:
        """The zip of such an artifact."""
        number = self.artifact_number(run, name)
        return None if number is None else self.ask("GET", f"actions/artifacts/{number}/zip").content

    def release(self, tag: str) -> dict[str, Any] | None:
        """The release of a tag, rather the published one than a draft, which is seen only with `contents: write`."""
        found: list[dict[str, Any]] = []
        for page in itertools.count(1):
            listed = self.listed("", "releases", {"per_page": "100", "page": str(page)})
            found += [one for one in listed if one["tag_name"] == tag]
            if len(listed) < 100:
                break
        return min(found, key=lambda one: bool(one["draft"]), default=None)

    def latest(self) -> dict[str, Any] | None:
        """The published release that is marked as the latest; None where there is none."""
        listed = self.listed("", "releases", {"per_page": "100"})
        marked = [one for one in listed if not (one["draft"] or one["prerelease"])]
        # GitHub answers 404 without any of these.
        found: dict[str, Any] | None = self.ask("GET", "releases/latest").json() if marked else None
        return found

    def listed(self, key: str, path: str, parameters: Mapping[str, str]) -> list[dict[str, Any]]:
        """The list in an answer; with an empty key the answer is the list.

        Raises:
            HubError: there is none, or GitHub did not answer.
        """
        answer = self.ask("GET", path, params=dict(parameters))
        try:
            listed: list[dict[str, Any]] = answer.json()[key] if key else [*answer.json()]
        except (ValueError, LookupError, TypeError):
            raise HubError(f"GitHub's answer to {path} has no {key or 'list'}") from None
        return listed

    def ask(self, method: str, path: str, *, uploads: bool = False, **options: Any) -> requests.Response:
        """One request.

        Args:
            uploads: to the host that takes files.
            options: of `requests`.

        Raises:
            HubError: GitHub cannot be reached, or refuses.
        """
        api = self._api.replace("//api.", "//uploads.") if uploads else self._api
        address = f"{api}/repos/{self.repository}/{path}"
        try:  # a redirect to another host, where artifacts are kept, does not get the token
            answer = self._session.request(method, address, timeout=TIMEOUT_S, **options)
        except requests.RequestException as error:
            raise HubError(f"GitHub cannot be reached ({type(error).__name__})") from None
        if not answer.ok:
            raise HubError(f"GitHub answered {answer.status_code} to {path}")
        return answer
