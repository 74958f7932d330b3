"""The house's own certificate authority: it makes devices known to the broker, and unknown again.

All lies in one folder (0700): ``ca.pem``, ``ca.key``, ``crl.pem``, and every certificate that was issued, under the
name of whose it is and its serial number: ``issued/<name>.<serial>.pem``, and ``revoked/`` later. Keys are EC P-256
(RFC 5480). A device's certificate serves for clients alone and the broker's for servers alone (RFC 5280, 4.2.1.12),
so that no device can pass for the broker.
"""

from __future__ import annotations

import fcntl
import ipaddress
import re
import socket
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.types import CertificatePublicKeyTypes
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_private_key
from cryptography.x509.oid import ExtendedKeyUsageOID as Usage
from cryptography.x509.oid import NameOID

from roomtone.core.errors import RegistrationError
from roomtone.credentials import key_pem, new_key
from roomtone.durable import write_durably

CA_LIVES = timedelta(days=3652)
LIVES = timedelta(days=5 * 365)
"""Devices renew theirs (``RENEW`` before that), and one from a cupboard still joins; what is lost is revoked."""

BEGINNING = datetime(2020, 1, 1, tzinfo=UTC)
"""Certificates are valid from then on: a Pi without a clock that has not heard the time yet lives in the past."""

HUB = "hub"
HOME_ASSISTANT = "homeassistant"
BROKER = "broker"
RESERVED = (HUB, HOME_ASSISTANT, BROKER)
"""Names that have rights of their own: no device is called so."""

_NAME = re.compile(r"[a-z0-9_-]{1,64}")


@dataclass(frozen=True)
class Authority:
    """An opened authority; see ``open_authority``."""

    folder: Path
    ca: x509.Certificate
    key: ec.EllipticCurvePrivateKey

    @property
    def ca_pem(self) -> bytes:
        """The certificate that everyone in the house trusts."""
        return self.ca.public_bytes(Encoding.PEM)

    @property
    def crl_pem(self) -> bytes:
        """What was revoked, signed."""
        return (self.folder / "crl.pem").read_bytes()

    @property
    def number(self) -> int:
        """The number of that list; it grows."""
        return _number(x509.load_pem_x509_crl(self.crl_pem))

    def issued(self) -> set[str]:
        """Return the names that have a certificate which was not revoked."""
        return _names(self.folder / "issued")

    def shut_out(self) -> set[str]:
        """Return the names of which every certificate was revoked."""
        return _names(self.folder / "revoked") - self.issued()

    def keys(self, name: str) -> set[bytes]:
        """Return the public keys (DER) for which a name has certificates."""
        return {_public(x509.load_pem_x509_certificate(file.read_bytes()).public_key()) for file in self._of(name)}

    def newest(self, name: str, key: bytes) -> x509.Certificate | None:
        """Return the certificate of a name and its public key (DER) that ends last."""
        all_of = [x509.load_pem_x509_certificate(file.read_bytes()) for file in self._of(name)]
        fit = [cert for cert in all_of if _public(cert.public_key()) == key]
        return max(fit, key=lambda cert: cert.not_valid_after_utc, default=None)

    def issue(self, csr_pem: bytes, name: str, *, until: datetime | None = None) -> bytes:
        """Make a certificate (PEM) for the key that a CSR shows, by this ``name`` and nothing else of the CSR.

        Raises RegistrationError for a name that is none, and a CSR that cannot be read or was not signed by its key.
        """
        if not _NAME.fullmatch(name):
            raise RegistrationError(f"'{name[:64]}' is no device's id; use a-z, 0-9, _ and -")
        return self._sign(name, _key_of(csr_pem), Usage.CLIENT_AUTH, (), until)

    def serve(self, hosts: Iterable[str]) -> tuple[bytes, bytes]:
        """Make the broker's key and certificate (PEM), for the names and addresses it is called by."""
        key = new_key()
        return key_pem(key), self._sign(BROKER, key.public_key(), Usage.SERVER_AUTH, hosts, self._end)

    def pair(self, name: str, *, until: datetime | None = None) -> tuple[bytes, bytes]:
        """Make a key and its certificate (PEM) for a client that cannot make, nor renew, its own: Home Assistant."""
        key = new_key()
        return key_pem(key), self._sign(name, key.public_key(), Usage.CLIENT_AUTH, (), until or self._end)

    def revoke(self, name: str) -> int:
        """Revoke all that a name has, and write the list; return how many certificates that were.

        With none the list stays: the broker may be about to read it.
        """
        with _locked(self.folder):
            files = self._of(name)
            if files:
                self.relist([int(file.name.split(".")[1], 16) for file in files])
            for file in files:  # after the list: what a crash leaves here is revoked once more
                file.rename(self.folder / "revoked" / file.name)
        return len(files)

    def _of(self, name: str) -> list[Path]:
        return [file for file in (self.folder / "issued").glob("*.pem") if file.name.split(".")[0] == name]

    @property
    def _end(self) -> datetime:
        return self.ca.not_valid_after_utc

    def _sign(
        self, name: str, key: ec.EllipticCurvePublicKey, usage: x509.ObjectIdentifier, hosts: Iterable[str],
        until: datetime | None,
    ) -> bytes:  # fmt: skip
        end = min(until or datetime.now(UTC) + LIVES, self._end)
        names = [_host(host) for host in hosts]
        builder = (
            _begin(name, self.ca.subject, key, end)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_usage(signs=True), critical=True)
            .add_extension(x509.ExtendedKeyUsage([usage]), critical=False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(self.key.public_key()), critical=False)
        )
        if names:
            builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
        made = builder.sign(self.key, SHA256())
        pem = made.public_bytes(Encoding.PEM)
        with _locked(self.folder):
            write_durably(self.folder / "issued" / f"{name}.{made.serial_number:x}.pem", pem)
        return pem

    def relist(self, serials: Iterable[int]) -> None:
        """Write the list of the revoked, with these added. It has no end: an old list is better than no house."""
        builder = x509.CertificateRevocationListBuilder().issuer_name(self.ca.subject)
        builder = builder.last_update(BEGINNING).next_update(self._end)
        number = 1
        if (self.folder / "crl.pem").exists():
            old = x509.load_pem_x509_crl(self.crl_pem)
            number += _number(old)
            for entry in old:
                builder = builder.add_revoked_certificate(entry)
            serials = [serial for serial in serials if old.get_revoked_certificate_by_serial_number(serial) is None]
        for serial in serials:
            one = x509.RevokedCertificateBuilder().serial_number(serial).revocation_date(BEGINNING)
            builder = builder.add_revoked_certificate(one.build())
        identifier = x509.AuthorityKeyIdentifier.from_issuer_public_key(self.key.public_key())
        builder = builder.add_extension(x509.CRLNumber(number), critical=False)
        crl = builder.add_extension(identifier, critical=False).sign(self.key, SHA256())
        write_durably(self.folder / "crl.pem", crl.public_bytes(Encoding.PEM))


def open_authority(folder: Path) -> Authority:
    """Open the authority in a folder. Raises RegistrationError where there is none, or it is broken."""
    try:
        ca = x509.load_pem_x509_certificate((folder / "ca.pem").read_bytes())
        key = load_pem_private_key((folder / "ca.key").read_bytes(), None)
    except FileNotFoundError:
        raise RegistrationError("this machine is not set up as a hub; run: roomtone hub setup") from None
    except (ValueError, OSError) as error:
        raise RegistrationError(f"{folder}: the hub's keys cannot be read: {error}") from error
    if not isinstance(key, ec.EllipticCurvePrivateKey) or key.public_key() != ca.public_key():
        raise RegistrationError(f"{folder}: ca.key is not the key of ca.pem; restore both from one backup")
    return Authority(folder, ca, key)


def make_authority(folder: Path, home: str) -> Authority:
    """Open the authority in a folder; make one where there is none."""
    for one in (folder, folder / "issued", folder / "revoked"):
        one.mkdir(mode=0o700, parents=True, exist_ok=True)
        one.chmod(0o700)
    with _locked(folder):
        if not (folder / "ca.pem").exists():
            key = new_key()
            write_durably(folder / "ca.key", key_pem(key))
            write_durably(folder / "ca.pem", _root(key, home))
    authority = open_authority(folder)
    if not (folder / "crl.pem").exists():
        authority.relist([])
    return authority


def own_names() -> list[str]:
    """Return the names and addresses by which this machine can be called in its network."""
    host = socket.gethostname().partition(".")[0]
    found = {"localhost", "127.0.0.1", "::1", host, f"{host}.local"}
    try:
        found |= {str(info[4][0]).partition("%")[0] for info in socket.getaddrinfo(host, None)}
    except OSError:
        return sorted(found)  # a name that nobody resolves
    return sorted(found)


def key_of(csr_pem: bytes) -> bytes:
    """Return the public key (DER) for which a certificate is wanted. Raises RegistrationError."""
    return _public(_key_of(csr_pem))


def _key_of(csr_pem: bytes) -> ec.EllipticCurvePublicKey:
    try:
        csr = x509.load_pem_x509_csr(csr_pem)
        sound, key = csr.is_signature_valid, csr.public_key()
    except Exception as error:  # it came over a wire: the library raises ValueError and others of its own
        raise RegistrationError("the certificate request cannot be read; try again") from error
    if not sound or not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, ec.SECP256R1):
        raise RegistrationError("the certificate request is not signed by its own EC key; try again")
    return key


def _public(key: CertificatePublicKeyTypes) -> bytes:
    return key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def _root(key: ec.EllipticCurvePrivateKey, home: str) -> bytes:
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"Roomtone house {home}"[:64])])
    builder = (
        _begin(None, name, key.public_key(), datetime.now(UTC) + CA_LIVES)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage(signs=False), critical=True)
    )
    return builder.sign(key, SHA256()).public_bytes(Encoding.PEM)


def _begin(
    name: str | None, issuer: x509.Name, key: ec.EllipticCurvePublicKey, end: datetime
) -> x509.CertificateBuilder:
    subject = issuer if name is None else x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    builder = x509.CertificateBuilder().subject_name(subject).issuer_name(issuer).public_key(key)
    builder = builder.serial_number(x509.random_serial_number())
    builder = builder.not_valid_before(min(BEGINNING, end - timedelta(days=1))).not_valid_after(end)
    return builder.add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)


def _usage(*, signs: bool) -> x509.KeyUsage:
    """Return what a key is for: signatures of its own (TLS), or else certificates and lists."""
    return x509.KeyUsage(
        digital_signature=signs, key_cert_sign=not signs, crl_sign=not signs,
        content_commitment=False, key_encipherment=False, data_encipherment=False, key_agreement=False,
        encipher_only=False, decipher_only=False,
    )  # fmt: skip


def _host(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)


def _number(crl: x509.CertificateRevocationList) -> int:
    return crl.extensions.get_extension_for_class(x509.CRLNumber).value.crl_number


def _names(folder: Path) -> set[str]:
    return {file.name.split(".")[0] for file in folder.glob("*.pem")}


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Let one process at a time change the folder: the hub may enroll while somebody revokes."""
    with open(folder / "lock", "w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
