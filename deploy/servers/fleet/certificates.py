"""Certificates for a server on loopback and for its clients, made by openssl."""

import subprocess
from pathlib import Path

from . import gather


def make(home: Path) -> Path:
    """Makes the folder `home`/certificates, once, and returns it.

    `ca.pem` signed `server.pem` (127.0.0.1 and localhost), `elsewhere.pem` (the same for another host), `expired.pem` (the same
    as it was in 2020) and `client.pem`; `other-ca.pem` signed `stranger.pem`. Keys are `*.key`, in PKCS 8 without a password.
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
        _issue(unfinished, log, "server", "/CN=localhost", *_signed("ca"), *names)
        _issue(unfinished, log, "elsewhere", "/CN=elsewhere", *_signed("ca"), "-addext", "subjectAltName=DNS:elsewhere.example")
        _issue(unfinished, log, "client", "/CN=iotml", *_signed("ca"))
        _issue(unfinished, log, "stranger", "/CN=stranger", *_signed("other-ca"))
        _issue_of_2020(unfinished, log, "expired", "server")
    return unfinished.rename(folder)


def _signed(authority: str) -> list:
    return ["-CA", f"{authority}.pem", "-CAkey", f"{authority}.key", "-addext", "basicConstraints=critical,CA:FALSE"]


def _issue(folder: Path, log, name: str, subject: str, *more: str) -> None:
    command = [gather.tool("openssl", "openssl"), "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"]
    command += ["-nodes", "-days", "3650", "-subj", subject, "-keyout", f"{name}.key", "-out", f"{name}.pem", *more]
    subprocess.run(command, cwd=folder, stdin=subprocess.DEVNULL, stderr=log, check=True)


def _issue_of_2020(folder: Path, log, name: str, model: str) -> None:
    """Signs the names and the key of `model` once more, for January of 2020: `req` cannot choose when."""
    config = """\
[ca]
default_ca = test
[test]
new_certs_dir = .
database = issued.txt
rand_serial = yes
default_md = sha256
policy = any
copy_extensions = copy
[any]
commonName = supplied
"""
    (folder / "ca.cnf").write_text(config, encoding="utf-8")
    (folder / "issued.txt").touch()
    openssl = gather.tool("openssl", "openssl")
    authority = ["-cert", "ca.pem", "-keyfile", "ca.key"]
    dates = ["-startdate", "20200101000000Z", "-enddate", "20200201000000Z"]
    for command in (
        ["x509", "-x509toreq", "-copy_extensions", "copyall", "-in", f"{model}.pem", "-signkey", f"{model}.key"]
        + ["-out", f"{name}.csr"],
        ["ca", "-batch", "-notext", "-config", "ca.cnf", *authority, "-in", f"{name}.csr", "-out", f"{name}.pem", *dates],
    ):
        subprocess.run([openssl, *command], cwd=folder, stdin=subprocess.DEVNULL, stdout=log, stderr=log, check=True)
    (folder / f"{name}.key").write_bytes((folder / f"{model}.key").read_bytes())
