"""Signing a release with a key: what the signature proves, and what is refused."""

from __future__ import annotations

import importlib.metadata
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from lib.cli import main
from lib.release import Release
from lib.release.writer import write_sums
from tests.conftest import Refused
from tests.served import made_release
from tests.test_project import pins

pytest.importorskip("model_signing", reason="signing is not installed: make EXTRAS=sign .venv")

from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)

SIGN = "requirements-sign.txt"
Change = Callable[[Path, Path], None]


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the keys of the maker and of a stranger, and with some that cannot be used."""
    folder, locked = tmp_path_factory.mktemp("keys"), BestAvailableEncryption(b"secret")
    made: dict[str, tuple[Any, Any]] = {
        name: (ec.generate_private_key(ec.SECP256R1()), NoEncryption()) for name in ("maker", "stranger")
    }
    made |= {"locked": (made["maker"][0], locked), "other-kind": (ed25519.Ed25519PrivateKey.generate(), NoEncryption())}
    for name, (key, encryption) in made.items():
        private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, encryption)
        (folder / f"{name}.pem").write_bytes(private)
        public = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
        (folder / f"{name}.pub.pem").write_bytes(public)
    (folder / "text.pem").write_text("no key")
    return folder


@pytest.fixture(scope="module")
def signed(keys: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A release that its maker has signed; tests leave it as it is."""
    release = made_release(tmp_path_factory.mktemp("run"))
    digest = Release.load(release).digest
    for name in ("stranger", "maker"):  # the second signature replaces the first
        assert main(["sign", str(release), "--key", str(keys / f"{name}.pem")]) == 0
    assert Release.load(release).digest == digest and not list(release.glob("*.part"))
    return release


@pytest.fixture
def copy(signed: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(signed, tmp_path / "elsewhere"))


def test_signed_release_is_authentic_for_who_has_the_makers_public_key(
    copy: Path, keys: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    key = str(keys / "maker.pub.pem")
    assert main(["verify", str(copy), "--key", key]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[-3] == "ok  signature: all files are those that the key maker.pub.pem signed"
    assert lines[-1] == f"consistent, and signed by the key {key}"


def test_signature_holds_for_the_command_line_of_model_signing(copy: Path, keys: Path) -> None:
    command: list[str | Path] = [sys.executable, "-m", "model_signing", "verify", "key", copy]
    command += ["--signature", copy / "model.sig", "--public_key", keys / "maker.pub.pem"]
    ended = subprocess.run(command, capture_output=True, check=False)
    assert ended.returncode == 0, ended.stderr


def test_packages_that_sign_need_nothing_that_is_not_pinned() -> None:
    pinned = {canonicalize_name(name): version for name, version in {**pins(SIGN), **pins("requirements.lock")}.items()}
    for name in pins(SIGN):
        for needed in map(Requirement, importlib.metadata.requires(name) or ()):
            if needed.marker is None or needed.marker.evaluate({"extra": ""}):
                assert pinned[canonicalize_name(needed.name)] in needed.specifier, f"{name} needs {needed}"


def changed(name: str, old: str = "", new: str = "") -> Change:
    """One file with other content; without `old` it is gone."""

    def change(release: Path, _: Path) -> None:
        text = (release / name).read_text()
        assert old in text
        (release / name).unlink()
        if old:
            (release / name).write_text(text.replace(old, new))

    return change


def another_release(release: Path, other: Path) -> None:
    """Consistent, under the signature of the one before."""
    signature = (release / "model.sig").read_bytes()
    shutil.rmtree(release)
    (made_release(other, seed=1)).rename(release)
    (release / "model.sig").write_bytes(signature)


def unchanged(_release: Path, _other: Path) -> None:
    pass


NOT_OF_THIS_KEY = "signature: it is not one of these files by the key"


@pytest.mark.parametrize(
    ("change", "key", "status", "message"),
    [
        (unchanged, "stranger.pub.pem", 1, NOT_OF_THIS_KEY),
        (another_release, "maker.pub.pem", 1, NOT_OF_THIS_KEY),
        (changed("model.sig", '"payload":"', '"payload":"AAAA'), "maker.pub.pem", 1, NOT_OF_THIS_KEY),
        (changed("model.sig", "dsseEnvelope", "envelope"), "maker.pub.pem", 1, NOT_OF_THIS_KEY),
        (changed("model.sig"), "maker.pub.pem", 1, "has no model.sig; get the release again from its maker"),
        (changed("README.md", "Teaching", "Driving"), "maker.pub.pem", 2, "README.md is not the file that SHA256SUMS"),
        (unchanged, "missing.pem", 2, "there is no key"),
        (unchanged, "text.pem", 2, "text.pem is not a public key"),
        (unchanged, "other-kind.pub.pem", 2, "other-kind.pub.pem is not a public key"),
        (unchanged, "maker.pem", 2, "maker.pem is not a public key"),
    ],
)
def test_release_that_is_not_what_the_key_signed_is_found_in_one_line(
    copy: Path, keys: Path, tmp_path: Path, change: Change, key: str, status: int, message: str,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    change(copy, tmp_path / "other")
    assert main(["verify", str(copy), "--key", str(keys / key)]) == status
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ") and message in line


@pytest.mark.parametrize("key", ["missing.pem", "text.pem", "locked.pem", "other-kind.pem", "maker.pub.pem"])
def test_signing_with_what_is_no_key_leaves_the_signature_as_it_was(
    copy: Path, keys: Path, key: str, refused: Refused
) -> None:
    before = (copy / "model.sig").read_bytes()
    assert key in refused("sign", copy, "--key", keys / key)
    assert (copy / "model.sig").read_bytes() == before


def test_release_whose_chain_does_not_hold_is_not_signed(
    copy: Path, keys: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    changed("README.md", "Teaching", "Driving")(copy, copy)
    write_sums(copy)
    before = (copy / "model.sig").read_bytes()
    assert main(["sign", str(copy), "--key", str(keys / "maker.pem")]) == 1
    assert "README.md: the card does not say" in capsys.readouterr().err
    assert (copy / "model.sig").read_bytes() == before
