"""Signed folders and packages, by keys and by certificates: without a network.

`make test-signing` runs this in an environment that has model-signing.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from importlib.util import find_spec
from pathlib import Path

import pytest

import pocketgpt
from pocketgpt import ModelFolderError, OptionError
from pocketgpt.folder.signing import check_signature

from ..conftest import Cli, contents

if find_spec("model_signing") is None:
    pytest.skip("model-signing is not installed: make test-signing", allow_module_level=True)

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa

PEM = serialization.Encoding.PEM


def save_key(
    path: Path, key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey, secret: bytes = b""
) -> Path:
    form = serialization.PrivateFormat.PKCS8
    lock = serialization.BestAvailableEncryption(secret) if secret else serialization.NoEncryption()
    path.write_bytes(key.private_bytes(PEM, form, lock))
    public = serialization.PublicFormat.SubjectPublicKeyInfo
    path.with_suffix(".pub").write_bytes(key.public_key().public_bytes(PEM, public))
    return path


@pytest.fixture(scope="session")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Keys: `ours`, `theirs`, `locked` by "secret"; `rsa` and `k1`, of kinds that are not taken."""
    folder = tmp_path_factory.mktemp("keys")
    for name in ("ours", "theirs"):
        save_key(folder / f"{name}.pem", ec.generate_private_key(ec.SECP256R1()))
    save_key(folder / "locked.pem", ec.generate_private_key(ec.SECP384R1()), b"secret")
    save_key(folder / "k1.pem", ec.generate_private_key(ec.SECP256K1()))
    save_key(folder / "rsa.pem", rsa.generate_private_key(65537, 2048))
    (folder / "none.pem").write_text("no key", "utf-8")
    return folder


@pytest.fixture(params=["small", "one.pocketgpt"])
def signed(request: pytest.FixtureRequest, tiny_folder: Path, keys: Path, tmp_path: Path) -> Path:
    """A folder, or one file, signed by `ours`."""
    path = tmp_path / str(request.param)
    made = pocketgpt.package(tiny_folder, path, ["q4"], sign=keys / "ours.pem")
    assert made.signature is not None
    assert Path(made.signature).is_file()
    return path


def test_what_was_signed_holds(signed: Path, keys: Path) -> None:
    check_signature(signed, keys / "ours.pub")
    assert pocketgpt.load(signed, verify=True).generate("A", max_new_tokens=2).token_ids
    moved = signed.rename(signed.with_name(f"moved-{signed.name}"))
    signature = signed.with_name(f"{signed.name}.sig")
    given = signature if moved.is_file() else None
    check_signature(moved, keys / "ours.pub", given)


def test_another_key_does_not(signed: Path, keys: Path) -> None:
    with pytest.raises(ModelFolderError, match=r"is not what .* was made for, or by another key"):
        check_signature(signed, keys / "theirs.pub")


def test_what_was_changed_is_named(signed: Path, keys: Path) -> None:
    name = "onnx/model_q4.onnx_data" if signed.is_dir() else "."
    path = signed / name if signed.is_dir() else signed
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1  # of the weights
    path.write_bytes(content)
    with pytest.raises(ModelFolderError, match=f"Hash mismatch for '{name}'") as caught:
        check_signature(signed, keys / "ours.pub")
    assert "\n" not in str(caught.value)
    assert "digest_value" not in str(caught.value)


def test_what_was_added_or_taken_away_is_named(
    tiny_folder: Path, keys: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "small"
    pocketgpt.package(tiny_folder, folder, ["q4"], sign=keys / "ours.pem")
    (folder / "added.py").write_text("import os", "utf-8")
    with pytest.raises(ModelFolderError, match=r"Extra files .* added\.py"):
        check_signature(folder, keys / "ours.pub")
    (folder / "added.py").unlink()
    (folder / "README.md").unlink()
    with pytest.raises(ModelFolderError, match=r"Missing files .* README\.md"):
        check_signature(folder, keys / "ours.pub")


def test_the_verbs(cli: Cli, tiny_folder: Path, keys: Path, tmp_path: Path) -> None:
    one = tmp_path / "one.pocketgpt"
    done = cli("package", tiny_folder, one, "--variant", "q4", "--sign", keys / "ours.pem")
    assert done.returncode == 0, done.stderr
    assert f"signature {one}.sig" in done.stdout
    done = cli("verify", one, "--check-signature", keys / "ours.pub")
    assert done.returncode == 0, done.stderr
    assert f"signature {one}.sig: ok" in done.stdout
    done = cli("verify", one, "--check-signature", keys / "ours.pub", "--json")
    assert json.loads(done.stdout)["signature"] == f"{one}.sig"
    done = cli("verify", one, "--check-signature", keys / "theirs.pub")
    assert done.returncode == 1
    assert "sha256 of q4: ok" in done.stdout
    assert "signature FAILED" in done.stdout
    shutil.move(f"{one}.sig", tmp_path / "elsewhere.sig")
    done = cli("verify", one, "--check-signature", keys / "ours.pub")
    assert done.returncode == 1
    assert "one.pocketgpt.sig is missing" in done.stderr
    given = ("--signature", tmp_path / "elsewhere.sig")
    assert cli("verify", one, "--check-signature", keys / "ours.pub", *given).returncode == 0
    assert cli("verify", one, *given).returncode == 2
    done = cli("verify", one, "--check-signature", keys / "ours.pem", *given)
    assert done.returncode == 2
    assert "is neither a public elliptic key nor certificates" in done.stderr


def test_a_password_comes_from_the_environment(
    cli: Cli, tiny_folder: Path, keys: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    arguments = ("package", tiny_folder, tmp_path / "small", "--sign", keys / "locked.pem")
    done = cli(*arguments)
    assert done.returncode == 2
    assert "locked.pem cannot sign: " in done.stderr
    assert not (tmp_path / "small").exists()
    monkeypatch.setenv("POCKETGPT_KEY_PASSWORD", "wrong")
    assert cli(*arguments).returncode == 2
    monkeypatch.setenv("POCKETGPT_KEY_PASSWORD", "secret")
    assert cli(*arguments).returncode == 0
    check_signature(tmp_path / "small", keys / "locked.pub")


@pytest.mark.parametrize("name", ["rsa.pem", "k1.pem", "none.pem", "missing.pem", "ours.pub"])
def test_keys_that_cannot_sign(tiny_folder: Path, keys: Path, tmp_path: Path, name: str) -> None:
    with pytest.raises(OptionError, match=f"{name} cannot sign: .*openssl ecparam") as caught:
        pocketgpt.package(tiny_folder, tmp_path / "small", sign=keys / name)
    assert "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_a_new_package_leaves_no_old_signature(
    tiny_folder: Path, keys: Path, tmp_path: Path
) -> None:
    for name in ("small", "one.pocketgpt"):
        target = tmp_path / name
        pocketgpt.package(tiny_folder, target, ["q4"], sign=keys / "ours.pem")
        pocketgpt.package(tiny_folder, target, ["q4"], overwrite=True)
        with pytest.raises(ModelFolderError, match=r"is missing: .* is not signed"):
            check_signature(target, keys / "ours.pub")
    assert not [name for name in contents(tmp_path) if name.endswith(".sig")]


@pytest.mark.parametrize("content", [b"", b"{}", b"\xff", b'{"verificationMaterial": {}}', b"[]"])
def test_what_is_no_signature(signed: Path, keys: Path, tmp_path: Path, content: bytes) -> None:
    (tmp_path / "no.sig").write_bytes(content)
    with pytest.raises(ModelFolderError, match=r"is not what .*no.sig was made for") as caught:
        check_signature(signed, keys / "ours.pub", tmp_path / "no.sig")
    assert "\n" not in str(caught.value)


def test_a_folder_in_the_hubs_cache(tiny_folder: Path, keys: Path, tmp_path: Path) -> None:
    """Whose files are links to where the cache keeps them; a link elsewhere is refused."""
    pocketgpt.package(tiny_folder, tmp_path / "small", ["q4"], sign=keys / "ours.pem")
    blobs, snapshot = tmp_path / "hub" / "blobs", tmp_path / "hub" / "snapshots" / "0123"
    blobs.mkdir(parents=True)
    for number, path in enumerate(sorted((tmp_path / "small").rglob("*.*"))):
        if path.is_file():
            shutil.copyfile(path, blobs / str(number))
            link = snapshot / path.relative_to(tmp_path / "small")
            link.parent.mkdir(parents=True, exist_ok=True)
            link.symlink_to(blobs / str(number))
    check_signature(snapshot, keys / "ours.pub")
    (snapshot / "README.md").unlink()
    (snapshot / "README.md").symlink_to(tmp_path / "small" / "README.md")
    with pytest.raises(ModelFolderError, match="is a link that leaves the folder"):
        check_signature(snapshot, keys / "ours.pub")


def certificate(
    name: str,
    key: ec.EllipticCurvePrivateKey,
    issuer: tuple[x509.Certificate, ec.EllipticCurvePrivateKey] | None,
    authority: bool,
) -> x509.Certificate:
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
    now = datetime.now(UTC)
    usage = x509.KeyUsage(
        digital_signature=not authority,
        key_cert_sign=authority,
        crl_sign=False,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer[0].subject if issuer else subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.BasicConstraints(authority, None), critical=True)
        .add_extension(usage, critical=True)
    )
    return builder.sign(issuer[1] if issuer else key, hashes.SHA256())


@pytest.fixture(scope="session")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of a key with its certificate, what signed that, the root, and another root."""
    folder = tmp_path_factory.mktemp("certificates")
    made = {name: ec.generate_private_key(ec.SECP256R1()) for name in ("root", "middle", "own")}
    root = certificate("root", made["root"], None, True)
    middle = certificate("middle", made["middle"], (root, made["root"]), True)
    own = certificate("own", made["own"], (middle, made["middle"]), False)
    stranger = certificate("stranger", made["own"], None, True)
    named = {"root": root, "middle": middle, "own": own, "stranger": stranger}
    for name, one in named.items():
        (folder / f"{name}.crt").write_bytes(one.public_bytes(PEM))
    save_key(folder / "own.pem", made["own"])
    return folder


def test_certificates(cli: Cli, tiny_folder: Path, certificates: Path, tmp_path: Path) -> None:
    one = tmp_path / "one.pocketgpt"
    chain = [certificates / "own.crt", certificates / "middle.crt"]
    made = pocketgpt.package(
        tiny_folder, one, ["q4"], sign=certificates / "own.pem", certificates=chain
    )
    assert made.signature == f"{one}.sig"
    check_signature(one, certificates / "root.crt")
    with pytest.raises(ModelFolderError, match="or by another key"):
        check_signature(one, certificates / "stranger.crt")
    given = [part for path in chain for part in ("--certificate", path)]
    sign = ("--sign", certificates / "own.pem", *given)
    assert cli("package", tiny_folder, tmp_path / "small", *sign).returncode == 0
    check_signature(tmp_path / "small", certificates / "root.crt")
    with pytest.raises(OptionError, match="does not match"):
        pocketgpt.package(
            tiny_folder,
            tmp_path / "other",
            sign=certificates / "own.pem",
            certificates=[certificates / "root.crt"],
        )


def test_their_own_tool_checks_and_makes_the_same(
    tiny_folder: Path, keys: Path, tmp_path: Path
) -> None:
    """`model_signing` reads our signatures, and we read its own."""

    def tool(*arguments: object) -> None:
        command = [sys.executable, "-m", "model_signing", *map(str, arguments)]
        done = subprocess.run(command, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr

    one, small = tmp_path / "one.pocketgpt", tmp_path / "small"
    for target, signature in ((one, f"{one}.sig"), (small, small / "model.sig")):
        pocketgpt.package(tiny_folder, target, ["q4"], sign=keys / "ours.pem")
        given = ("--signature", signature, "--public_key", keys / "ours.pub")
        tool("verify", "key", target, *given)
        given = ("--signature", signature, "--private_key", keys / "theirs.pem")
        tool("sign", "key", target, *given)
        check_signature(target, keys / "theirs.pub")
