"""Keys and certificates as files, and those by which this room is known to the house's broker.

``roomtone hub join`` leaves them in ``<state_dir>/hub``: ``ca.pem``, ``cert.pem``, ``key.pem``, and ``house.json``
with the broker's address and the home's name. The key was made here and never leaves.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey


RENEW = timedelta(days=180)
"""A certificate that ends sooner is renewed: a room may be off for months."""


def new_key() -> EllipticCurvePrivateKey:
    """Make an EC key on P-256, which every TLS library knows."""
    from cryptography.hazmat.primitives.asymmetric import ec

    return ec.generate_private_key(ec.SECP256R1())


def key_pem(key: EllipticCurvePrivateKey) -> bytes:
    """Write a key as PEM (PKCS 8), without a password: the file's mode guards it."""
    from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def read_key(path: Path) -> EllipticCurvePrivateKey:
    """Read a key that ``key_pem`` wrote. Raises OSError, and ValueError where it is none."""
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    key = load_pem_private_key(path.read_bytes(), None)
    if not isinstance(key, EllipticCurvePrivateKey):
        raise ValueError(f"{path} holds no EC key")
    return key


def request(key: EllipticCurvePrivateKey, name: str) -> bytes:
    """Write the request (CSR, PEM) for a certificate of a key."""
    from cryptography import x509
    from cryptography.hazmat.primitives.hashes import SHA256
    from cryptography.hazmat.primitives.serialization import Encoding
    from cryptography.x509.oid import NameOID

    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    csr = x509.CertificateSigningRequestBuilder().subject_name(subject).sign(key, SHA256())
    return csr.public_bytes(Encoding.PEM)


def certifies(cert_pem: bytes, key: EllipticCurvePrivateKey) -> bool:
    """Say whether a certificate is one, and of this key."""
    from cryptography import x509

    try:
        return x509.load_pem_x509_certificate(cert_pem).public_key() == key.public_key()
    except ValueError:
        return False


def was_issued_by(cert_pem: bytes, ca_pem: bytes) -> bool:
    """Say whether one certificate signed the other."""
    from cryptography import x509
    from cryptography.exceptions import InvalidSignature

    try:
        ca = x509.load_pem_x509_certificate(ca_pem)
        x509.load_pem_x509_certificate(cert_pem).verify_directly_issued_by(ca)
    except (ValueError, TypeError, InvalidSignature):
        return False
    return True


def expires(cert: Path) -> datetime:
    """Return when a certificate's file ends to be valid (UTC). Raises OSError and ValueError."""
    from cryptography import x509

    return x509.load_pem_x509_certificate(cert.read_bytes()).not_valid_after_utc


def holder(cert: Path) -> str:
    """Return whom a certificate's file is for: its common name. Raises OSError and ValueError."""
    from cryptography import x509
    from cryptography.x509.oid import NameOID

    names = x509.load_pem_x509_certificate(cert.read_bytes()).subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    return str(names[0].value) if names else ""
