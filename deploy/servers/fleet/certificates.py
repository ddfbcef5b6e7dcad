"""Certificates for a server on loopback and for its clients, made by openssl."""

import subprocess
from pathlib import Path

from . import gather


def make(home: Path) -> Path:
    """Makes the folder `home`/certificates, once, and returns it.

    `ca.pem` signed `server.pem` (127.0.0.1 and localhost) and `client.pem`; `other-ca.pem` signed neither. Keys are `*.key`, in
    PKCS 8 without a password.
    """
    folder = home / "certificates"
    if folder.is_dir():
        return folder
    unfinished = home / "certificates.new"
    unfinished.mkdir(exist_ok=True)
    with open(home / "log", "ab") as log:
        _issue(unfinished, log, "ca", "/CN=iotml test CA")
        _issue(unfinished, log, "other-ca", "/CN=another CA")
        names = ["-addext", "subjectAltName=IP:127.0.0.1,DNS:localhost"]
        _issue(unfinished, log, "server", "/CN=localhost", *_signed(), *names)
        _issue(unfinished, log, "client", "/CN=iotml", *_signed())
    return unfinished.rename(folder)


def _signed() -> list:
    return ["-CA", "ca.pem", "-CAkey", "ca.key", "-addext", "basicConstraints=critical,CA:FALSE"]


def _issue(folder: Path, log, name: str, subject: str, *more: str) -> None:
    command = [gather.tool("openssl", "openssl"), "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"]
    command += ["-nodes", "-days", "3650", "-subj", subject, "-keyout", f"{name}.key", "-out", f"{name}.pem", *more]
    subprocess.run(command, cwd=folder, stdin=subprocess.DEVNULL, stderr=log, check=True)
