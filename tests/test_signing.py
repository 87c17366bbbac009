"""Signing a release with a key: what the signature proves, and what is refused."""

from __future__ import annotations

import importlib.metadata
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from lib.cli import main
from lib.release import Release
from tests.conftest import Refused
from tests.served import made_release
from tests.test_project import pins

pytest.importorskip("model_signing", reason="signing is not installed: make EXTRAS=sign .venv")

from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    KeySerializationEncryption,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)

SIGN = "requirements-sign.txt"
Change = Callable[[Path, Path], None]


def write_key(
    folder: Path, name: str, key: ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey,
    encryption: KeySerializationEncryption | None = None,
) -> Path:  # fmt: skip
    """NAME.pem with the private key and NAME.pub.pem; returns the private one."""
    private = folder / f"{name}.pem"
    private.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, encryption or NoEncryption()))
    public = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    (folder / f"{name}.pub.pem").write_bytes(public)
    return private


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the keys of the maker and of a stranger, and with some that cannot be used."""
    folder = tmp_path_factory.mktemp("keys")
    for name in ("maker", "stranger"):
        write_key(folder, name, ec.generate_private_key(ec.SECP256R1()))
    write_key(folder, "locked", ec.generate_private_key(ec.SECP256R1()), BestAvailableEncryption(b"secret"))
    write_key(folder, "other-kind", ed25519.Ed25519PrivateKey.generate())
    (folder / "text.pem").write_text("no key")
    return folder


@pytest.fixture(scope="module")
def signed(keys: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A release that its maker has signed; tests leave it as it is."""
    release = made_release(tmp_path_factory.mktemp("run"))
    digest = Release.load(release).digest
    assert main(["sign", str(release), "--key", str(keys / "maker.pem")]) == 0
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


def test_signature_is_that_of_the_tool_of_others(copy: Path, keys: Path) -> None:
    command = [sys.executable, "-m", "model_signing", "verify", "key", copy, "--signature", copy / "model.sig"]
    ended = subprocess.run([*command, "--public_key", keys / "maker.pub.pem"], capture_output=True, text=True)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    command = [sys.executable, "-m", "model_signing", "sign", "key", copy, "--signature", copy / "model.sig"]
    subprocess.run([*command, "--private_key", keys / "stranger.pem"], capture_output=True, check=True)
    assert main(["verify", str(copy), "--key", str(keys / "stranger.pub.pem")]) == 0


def test_packages_that_sign_need_nothing_that_is_not_pinned() -> None:
    pinned = {canonicalize_name(name): version for name, version in {**pins(SIGN), **pins("requirements.lock")}.items()}
    for name in pins(SIGN):
        for needed in map(Requirement, importlib.metadata.requires(name) or ()):
            if needed.marker is None or needed.marker.evaluate({"extra": ""}):
                assert pinned[canonicalize_name(needed.name)] in needed.specifier, f"{name} needs {needed}"


def unsigned(release: Path, _other: Path) -> None:
    (release / "model.sig").unlink()


def another_release(release: Path, other: Path) -> None:
    """Consistent, under the signature of the one before."""
    signature = (release / "model.sig").read_bytes()
    shutil.rmtree(release)
    shutil.copytree(other, release)
    (release / "model.sig").write_bytes(signature)


def forged(release: Path, _other: Path) -> None:
    text = (release / "model.sig").read_text()
    place = text.index('"sig"') + 20
    (release / "model.sig").write_text(text[:place] + ("A" if text[place] != "A" else "B") + text[place + 1 :])


def no_signature_at_all(release: Path, _other: Path) -> None:
    (release / "model.sig").write_text("{}")


def changed_file(release: Path, _other: Path) -> None:
    (release / "README.md").write_text("another card")


def unchanged(_release: Path, _other: Path) -> None:
    pass


@pytest.mark.parametrize(
    ("change", "key", "status", "message"),
    [
        (unchanged, "stranger.pub.pem", 1, "signature: it is not one of these files by the key"),
        (unsigned, "maker.pub.pem", 1, "has no model.sig; get the release again from its maker"),
        (another_release, "maker.pub.pem", 1, "signature: it is not one of these files by the key"),
        (forged, "maker.pub.pem", 1, "signature: it is not one of these files by the key"),
        (no_signature_at_all, "maker.pub.pem", 1, "signature: it is not one of these files by the key"),
        (changed_file, "maker.pub.pem", 2, "README.md is not the file that SHA256SUMS names"),
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
    other = made_release(tmp_path / "other", seed=1) if change is another_release else tmp_path
    change(copy, other)
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
    from lib.release.writer import write_sums

    changed_file(copy, copy)
    (copy / "model.sig").unlink()
    write_sums(copy)
    assert main(["sign", str(copy), "--key", str(keys / "maker.pem")]) == 1
    assert "README.md: the card does not say" in capsys.readouterr().err and not (copy / "model.sig").exists()
