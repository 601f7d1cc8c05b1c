"""A certificate of this machine's own, made once and kept, for `--tls`."""

from __future__ import annotations

import hashlib
import ipaddress
import ssl
import subprocess
import tempfile
from collections.abc import Iterable
from pathlib import Path

from qprompt_runtime.errors import OutputError
from qprompt_runtime.text import printable

_DAYS = 3650
_PLAIN = frozenset("abcdefghijklmnopqrstuvwxyz0123456789-.")


def certificate(folder: Path, names: Iterable[str]) -> tuple[Path, Path]:
    """The certificate and its key; those that lie in the folder already, or new ones by the program openssl.

    Args:
        folder: Where `cert.pem` and `key.pem` are kept; a certificate of one's own may be put there.
        names: Host names and addresses that it is made for.

    Raises:
        OutputError: It cannot be made or read.
    """
    cert, key = folder / "cert.pem", folder / "key.pem"
    if not (cert.is_file() and key.is_file()):
        _make(folder, cert, key, names)
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(cert, key)
    except (OSError, ssl.SSLError) as error:
        raise OutputError(
            f"cannot use the certificate {printable(cert)}: {error}; delete it to have another made"
        ) from error
    return cert, key


def fingerprint(cert: Path) -> str:
    """The SHA-256 fingerprint of a certificate, as browsers show it."""
    der = ssl.PEM_cert_to_DER_cert(cert.read_text(encoding="ascii"))
    digest = hashlib.sha256(der).hexdigest().upper()
    return ":".join(digest[i : i + 2] for i in range(0, len(digest), 2))


def _make(folder: Path, cert: Path, key: Path, names: Iterable[str]) -> None:
    """Make both beside their places, and put the certificate there last."""
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    alternatives = ",".join(sorted({_alternative(name) for name in names if set(name) <= _PLAIN | {":"}}))
    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        command = [
            "openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes",
            "-days", str(_DAYS), "-subj", "/CN=qprompt-edge", "-addext", f"subjectAltName={alternatives}",
            "-keyout", "key.pem", "-out", "cert.pem",
        ]  # fmt: skip
        try:
            subprocess.run(command, cwd=scratch, check=True, capture_output=True, text=True)
        except FileNotFoundError:
            raise OutputError(
                f"--tls needs the program openssl to make a certificate (apt install openssl), or put one of yours into "
                f"{printable(folder)} as cert.pem and key.pem"
            ) from None
        except subprocess.CalledProcessError as error:
            said = error.stderr.strip().splitlines()
            raise OutputError(
                f"openssl could not make a certificate: {printable(said[-1]) if said else error}"
            ) from error
        (Path(scratch) / "key.pem").chmod(0o600)
        (Path(scratch) / "key.pem").replace(key)
        (Path(scratch) / "cert.pem").replace(cert)


def _alternative(name: str) -> str:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return f"DNS:{name}"
    return f"IP:{name}"
