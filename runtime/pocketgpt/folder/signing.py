"""Signatures of folders and packages, by OpenSSF's `model-signing`: made, and checked.

A signature lies in a folder as `model.sig`, beside a package as `FILE.sig`. It covers every file,
in the format that the tool `model_signing` writes and checks too. Keys are elliptic (P-256, P-384,
P-521) in PEM, with or without a certificate. Neither way asks a network.
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path

from ..errors import ModelFolderError, OptionError
from ..extras import needs_extra
from .files import model_files
from .paths import check_inside

IN_FOLDER, BESIDE = "model.sig", ".sig"
_CHANGED = re.compile(r"""Hash mismatch for \\*['"](.*?)\\*['"]:""")  # then come digests, as bytes
_LONGEST = 400  # characters of a reason


def signature_path(signed: Path) -> Path:
    """Return where the signature of a folder or a package lies."""
    return signed / IN_FOLDER if signed.is_dir() else signed.with_name(f"{signed.name}{BESIDE}")


class Signer:
    """Signs with one key."""

    def __init__(
        self,
        key: str | os.PathLike[str],
        certificates: Sequence[str | os.PathLike[str]] = (),
        password: str | None = None,
    ) -> None:
        """Read the key.

        Args:
            key: a private elliptic key, PEM.
            certificates: the key's own, PEM, and those that lead from it to the root.
            password: the key's; only where there are no certificates.

        Raises:
            OptionError: one cannot be read, or they do not belong together.
            MissingExtraError: model-signing is not installed.
        """
        with needs_extra("signing"):
            from model_signing import hashing, signing
        self._hashing = hashing
        try:
            config = signing.Config()
            if certificates:
                if password is not None:
                    raise ValueError("a key with a password goes without certificates")
                own, *chain = map(Path, certificates)
                config.use_certificate_signer(
                    private_key=Path(key), signing_certificate=own, certificate_chain=chain
                )
            else:
                secret = None if password is None else password.encode()
                config.use_elliptic_key_signer(private_key=Path(key), password=secret)
        except Exception as error:  # of OpenSSL, of PEM, of the system: they share no base
            raise OptionError(
                f"{os.fspath(key)} cannot sign: {_line(error)}; sign by a private elliptic key in "
                "PEM: openssl ecparam -genkey -name prime256v1 -noout -out FILE"
            ) from None
        self._config = config

    def sign(self, signed: Path) -> Path:
        """Sign a folder or a package as it is; return where the signature lies.

        Raises:
            ModelFolderError: it holds links, or something that is no file.
        """
        target = signature_path(signed)
        hashing = self._hashing.Config().set_ignored_paths(paths=[IN_FOLDER])
        try:
            self._config.set_hashing_config(hashing).sign(signed, target)
        except OSError:
            raise
        except Exception as error:
            raise ModelFolderError(f"{signed} cannot be signed: {_line(error)}") from None
        return target


def check_signature(
    signed: str | os.PathLike[str],
    trusted: str | os.PathLike[str],
    signature: str | os.PathLike[str] | None = None,
) -> Path:
    """Check that a folder or a package is, file by file, what somebody signed.

    Args:
        signed: the folder or the package.
        trusted: a file in PEM: the signer's public key, or the certificates at the root that are
            trusted.
        signature: where the signature lies; None for `model.sig` in a folder, `FILE.sig` beside a
            package.

    Returns:
        Where the signature lies.

    Raises:
        ModelFolderError: it is not, or there is no signature.
        OptionError: `trusted` cannot be read.
        MissingExtraError: model-signing is not installed.
    """
    with needs_extra("signing"):
        from model_signing import hashing, verifying
    signed = model_files(signed).root
    path = signature_path(signed) if signature is None else Path(signature)
    config = verifying.Config()
    try:
        if b"CERTIFICATE" in Path(trusted).read_bytes():
            config.use_certificate_verifier(certificate_chain=[Path(trusted)])
        else:
            config.use_elliptic_key_verifier(public_key=Path(trusted))
    except Exception as error:  # as in `Signer`
        raise OptionError(
            f"{os.fspath(trusted)} is neither a public elliptic key nor certificates in PEM: "
            f"{_line(error)}"
        ) from None
    if not path.is_file():
        raise ModelFolderError(
            f"{path} is missing: {signed} is not signed, or its signature lies elsewhere "
            "(--signature FILE)"
        )
    if _has_links(signed):
        config.set_hashing_config(hashing.Config().set_allow_symlinks(True))
    try:
        config.verify(signed, path)
    except Exception as error:  # what is not a signature at all fails in many ways
        raise ModelFolderError(
            f"{signed} is not what {path} was made for, or by another key: {_line(error)}"
        ) from None
    return path


def _has_links(folder: Path) -> bool:
    """Whether there are links in a folder: those that the hub's cache makes.

    Raises:
        ModelFolderError: one leads elsewhere.
    """
    links = [path for path in folder.rglob("*") if path.is_symlink()]
    for link in links:
        check_inside(folder, link.relative_to(folder).as_posix())
    return bool(links)


def _line(error: Exception) -> str:
    """Return what an error says in a line; its kind where it says nothing."""
    changed = _CHANGED.findall(str(error))
    said = "; ".join(f"Hash mismatch for '{name}'" for name in changed)
    said = said or " ".join(str(error).split())
    return said[:_LONGEST] or type(error).__name__
