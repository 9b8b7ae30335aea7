"""A private image registry on the bridge: TLS by a certificate authority of its own, a password."""

import base64
import os
import ssl
import subprocess
import urllib.request
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path
from typing import Self
from urllib.response import addinfourl

import bcrypt
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from fleet import machine
from fleet.machine import CONTAINER, GATEWAY, WORKSPACE, FleetError, root, until

PORT = 5000
# Kept between runs, or each would compress and push the base image again; without a tag.
LAYERS = Path("/var/tmp/bikecast-fleet-layers")
MOST_LAYERS = 4 << 30  # bytes
USERNAME = "releases"
PASSWORD = "geheim-registry-0815"  # pragma: allowlist secret: searched for where none may be

CONFIG = """
version: 0.1
storage: {{filesystem: {{rootdirectory: {layers}}}, delete: {{enabled: true}}}}
auth: {{htpasswd: {{realm: fleet, path: {folder}/htpasswd}}}}
http:
  addr: {host}:{port}
  secret: fleet
  tls: {{certificate: {folder}/server.crt, key: {folder}/server.key}}
"""


SIGNS = x509.KeyUsage(
    digital_signature=True,
    content_commitment=False,
    key_encipherment=False,
    data_encipherment=False,
    key_agreement=False,
    key_cert_sign=True,
    crl_sign=True,
    encipher_only=False,
    decipher_only=False,
)


class Authority:
    """A certificate authority that signs for addresses, and a file that says whom to trust."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.file = folder / "ca.crt"
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = _name("bikecast test authority")
        public = self._key.public_key()
        # From 3.13 on Python wants all that RFC 5280 wants of an authority.
        unsigned = (
            _certificate(self._name, self._name, public)
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
            .add_extension(SIGNS, critical=True)
        )
        _write(self.file, unsigned.sign(self._key, hashes.SHA256()))

    def sign(self, name: str, *addresses: str) -> tuple[Path, Path]:
        """A certificate for IP addresses and its key, as PEM files called after ``name``."""
        key = ec.generate_private_key(ec.SECP256R1())
        given = x509.SubjectAlternativeName([x509.IPAddress(ip_address(a)) for a in addresses])
        authority = x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key())
        unsigned = (
            _certificate(_name(name), self._name, key.public_key())
            .add_extension(given, critical=False)
            .add_extension(authority, critical=False)
        )
        certificate, secret = self.folder / f"{name}.crt", self.folder / f"{name}.key"
        _write(certificate, unsigned.sign(self._key, hashes.SHA256()))
        secret.write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.PKCS8,
                serialization.NoEncryption(),
            )
        )
        return certificate, secret


class Registry:
    """The registry for the time of a ``with`` block inside a fleet's; engines here trust it.

    It is Debian's ``docker-registry`` where that is installed, and else the image ``registry:2``.
    """

    address = f"{GATEWAY}:{PORT}"
    username = USERNAME
    password = PASSWORD

    def __init__(self) -> None:
        self.folder = WORKSPACE / "registry"
        self.ca_file = self.folder / "ca.crt"
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        self.folder.mkdir()
        _forget_images()
        self.authority = Authority(self.folder)
        self.authority.sign("server", GATEWAY)
        hashed = bcrypt.hashpw(PASSWORD.encode(), bcrypt.gensalt(5)).decode()
        (self.folder / "htpasswd").write_text(f"{USERNAME}:{hashed}\n")
        config = CONFIG.format(folder=self.folder, layers=LAYERS, host=GATEWAY, port=PORT)
        (self.folder / "config.yml").write_text(config)
        try:
            root("mkdir", "-p", machine.TRUST)
            root("cp", self.ca_file, machine.TRUST / "ca.crt")
            self.start()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
        root("rm", "-rf", machine.TRUST)

    @property
    def running(self) -> bool:
        """Whether it answers."""
        try:
            return self.ask("/v2/").status == 200
        except OSError:
            return False

    def start(self) -> None:
        """Start it, with the images that it had."""
        if machine.program("docker-registry") != "docker-registry":
            self._start_program()
        else:
            self._start_container()
        until(lambda: self.running, f"the registry does not answer: {self._log()}", 30)

    def stop(self) -> None:
        """Let nobody answer any more; images stay."""
        if self._process is not None:
            self._process.kill()
            self._process.wait(10)
            self._process = None
        else:
            subprocess.run(["docker", "rm", "-f", CONTAINER], capture_output=True, timeout=60)

    def ask(self, path: str, method: str = "GET") -> addinfourl:
        """Its answer to a request with the password.

        :raises OSError: for no answer, and for one of 400 or more.
        """
        token = base64.b64encode(f"{USERNAME}:{PASSWORD}".encode()).decode()
        request = urllib.request.Request(
            f"https://{self.address}{path}",
            method=method,
            headers={
                "Authorization": f"Basic {token}",
                "Accept": "application/vnd.docker.distribution.manifest.v2+json",
            },
        )
        context = ssl.create_default_context(cafile=str(self.ca_file))
        return urllib.request.urlopen(request, context=context, timeout=10)

    def login(self) -> dict[str, str]:
        """An environment in which this machine's ``docker`` may push, apart from the user's own."""
        folder = self.folder / "docker"
        own = {**os.environ, "DOCKER_CONFIG": str(folder)}
        words = ["docker", "login", "-u", USERNAME, "--password-stdin", self.address]
        done = subprocess.run(
            words, input=PASSWORD, env=own, capture_output=True, text=True, timeout=60
        )
        if done.returncode:
            raise FleetError(f"docker login: {done.stderr}")
        return own

    def push(self, local: str, name: str) -> str:
        """Push an image of this machine as ``name:tag``; its address by digest."""
        there = f"{self.address}/{name}"
        own = self.login()
        for words in (["tag", local, there], ["push", "-q", there]):
            done = subprocess.run(
                ["docker", *words], env=own, capture_output=True, text=True, timeout=300
            )
            if done.returncode:
                raise FleetError(f"docker {' '.join(words)}: {done.stderr}")
        repository, _, tag = name.rpartition(":")
        with self.ask(f"/v2/{repository}/manifests/{tag}") as answer:
            return f"{self.address}/{repository}@{answer.headers['Docker-Content-Digest']}"

    def _start_program(self) -> None:
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [machine.program("docker-registry"), "serve", str(self.folder / "config.yml")],
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                preexec_fn=machine.dies_with_us,
            )
        machine.remember("registry", self._process.pid)

    def _start_container(self) -> None:
        self.stop()
        words = ["docker", "run", "-d", "--name", CONTAINER, "--network", "host"]
        volume = [f"-v={folder}:{folder}" for folder in (self.folder, LAYERS)]
        serve = ["registry:2", "serve", str(self.folder / "config.yml")]
        done = subprocess.run([*words, *volume, *serve], capture_output=True, text=True)
        if done.returncode:
            raise FleetError(
                f"no registry: install docker-registry, or let Docker pull one: {done.stderr}"
            )

    def _log(self) -> str:
        log = self.folder / "log"
        return log.read_text()[-1000:] if log.exists() else ""


def _forget_images() -> None:
    """Leave the layers of earlier runs, but none of their images, and not more than fits."""
    size = sum(f.stat().st_size for f in LAYERS.glob("docker/registry/v2/blobs/*/*/*/data"))
    if size > MOST_LAYERS or (LAYERS.exists() and not os.access(LAYERS, os.W_OK)):
        root("rm", "-rf", LAYERS)
    for images in LAYERS.glob("docker/registry/v2/repositories/**/_manifests"):
        root("rm", "-rf", images)
    LAYERS.mkdir(exist_ok=True)


def _name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


def _certificate(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey
) -> x509.CertificateBuilder:
    now = datetime.now(UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(days=2))
    )


def _write(path: Path, certificate: x509.Certificate) -> None:
    path.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
