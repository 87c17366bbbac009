"""Who made a release: a signature over all of its files, by a key. Needs no network.

`verify` shows that a release is consistent; anyone could have made another one that is consistent too. The signature is
one file, `model.sig`, as the OpenSSF's model-signing makes it: its own command line reads and writes the same.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from lib.errors import RefusedError, UserError
from lib.files import project_path, write_atomic
from lib.release.reader import SIGNATURE, Release

_KEYS = "a PEM file with a key of the curve P-256, P-384 or P-521, which `openssl ecparam -genkey` makes"


def sign_release(release: Release, private_key: str | Path) -> Path:
    """Sign all files of a release; an earlier signature is replaced.

    Args:
        private_key: PEM file, without a password.

    Returns:
        The signature.

    Raises:
        UserError: model-signing is not installed, or the key cannot be used.
    """
    signing = _library().signing.Config()
    key = _key_file(private_key)
    try:
        signing.use_elliptic_key_signer(private_key=key)
    except (ValueError, TypeError, AttributeError, OSError) as error:
        raise UserError(f"{key} is not a private key without a password ({_first_line(error)}); give {_KEYS}") from None
    target = release.path / SIGNATURE
    signing.set_hashing_config(_library().hashing.Config().set_ignored_paths(paths=[target], ignore_git_paths=False))
    with tempfile.TemporaryDirectory() as folder:  # elsewhere, as every file of the release is signed
        signing.sign(release.path, Path(folder, SIGNATURE))
        write_atomic(target, Path(folder, SIGNATURE).read_bytes())
    return target


def check_signature(release: Release, public_key: str | Path) -> str:
    """Whether a release is what the owner of a key has signed.

    Args:
        public_key: PEM file.

    Returns:
        What was found to hold, in words.

    Raises:
        UserError: model-signing is not installed, or the key cannot be used.
        RefusedError: there is no signature, or it is of another key or of other files.
    """
    checking = _library().verifying.Config()
    key, signature = _key_file(public_key), release.path / SIGNATURE
    try:
        checking.use_elliptic_key_verifier(public_key=key)
    except (ValueError, TypeError, AttributeError, OSError) as error:
        raise UserError(f"{key} is not a public key ({_first_line(error)}); give {_KEYS}") from None
    if not signature.is_file():
        raise RefusedError(f"signature: {release.path} has no {SIGNATURE}; get the release again from its maker")
    checking.set_hashing_config(
        _library().hashing.Config().set_ignored_paths(paths=[signature], ignore_git_paths=False)
    )
    try:
        checking.verify(release.path, signature)
    except Exception as error:  # of several libraries, also for bytes that are no signature at all
        why = _first_line(error) or "the bytes are not those that this key signs"
        raise RefusedError(f"signature: it is not one of these files by the key {key} ({why})") from None
    return f"signature: all files are those that the key {key.name} signed"


def _library() -> Any:
    try:
        import model_signing
    except ModuleNotFoundError as error:
        raise UserError(
            f"{error.name} is not installed; `make EXTRAS=sign .venv` installs what signing needs"
        ) from None
    return model_signing


def _key_file(path: str | Path) -> Path:
    if not (file := project_path(path)).is_file():
        raise UserError(f"there is no key {file}; give {_KEYS}")
    return file


def _first_line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0].rstrip(". ")
