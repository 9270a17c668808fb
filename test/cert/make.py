#!/usr/bin/python3
"""Makes the certificates of the unit tests here. They are committed, since RSA with 8192 bits takes
long; all but expired.pem are valid from 2024-06-01 to 2049-01-01. Needs python3-cryptography."""
import datetime
import ipaddress
import os

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.x509.oid import NameOID

START, END = datetime.datetime(2024, 6, 1), datetime.datetime(2049, 1, 1)


def name(cn):
    return x509.Name([x509.NameAttribute(NameOID.ORGANIZATION_NAME, 'pbsmap test'),
                      x509.NameAttribute(NameOID.COMMON_NAME, cn)])


def make(file, key, cn, issuer=None, ca=None, names=(), end=END, pathlen=None):
    """issuer: (certificate, key) or None for self-signed; ca: None leaves basic constraints out."""
    b = (x509.CertificateBuilder().subject_name(name(cn))
         .issuer_name(issuer[0].subject if issuer else name(cn)).public_key(key.public_key())
         .serial_number(x509.random_serial_number()).not_valid_before(START).not_valid_after(end))
    if ca is not None:
        b = b.add_extension(x509.BasicConstraints(ca=ca, path_length=pathlen), critical=True)
    if names:
        b = b.add_extension(x509.SubjectAlternativeName(
            [x509.IPAddress(ipaddress.ip_address(n[3:])) if n.startswith('IP:') else x509.DNSName(n)
             for n in names]), critical=False)
    signer = issuer[1] if issuer else key
    cert = b.sign(signer, None if isinstance(signer, ed25519.Ed25519PrivateKey) else hashes.SHA256())
    with open(file + '.pem', 'wb') as f:
        f.write(cert.public_bytes(serialization.Encoding.PEM))
    return cert, key


def main():
    os.chdir(os.path.dirname(os.path.abspath(__file__)))
    p256 = lambda: ec.generate_private_key(ec.SECP256R1())
    bits = lambda n: rsa.generate_private_key(65537, n)
    ca = make('ca', p256(), 'EC authority', ca=True)
    rsaca = make('rsaca', bits(2048), 'RSA authority', ca=True)
    inter = make('inter', bits(2048), 'between', rsaca, ca=True, pathlen=0)
    make('deep', ec.generate_private_key(ec.SECP384R1()), 'deep.example', inter, ca=False, names=['deep.example'])
    make('notca', p256(), 'below a server', make('middle', p256(), 'no authority', ca, ca=False), names=['localhost'])
    leaf = make('leaf', p256(), 'pbs.example', ca, ca=False,
                names=['pbs.example', '*.wild.example', 'localhost', 'IP:192.0.2.1', 'IP:127.0.0.1', 'IP:2001:db8::1'])
    with open('leaf.key', 'wb') as f:
        f.write(leaf[1].private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.TraditionalOpenSSL,
                                      serialization.NoEncryption()))
    make('expired', p256(), 'localhost', ca, names=['localhost'], end=datetime.datetime(2024, 7, 1))
    make('cn', p256(), 'cn.example', ca)
    make('self', bits(2048), 'localhost', ca=False, names=['localhost'])
    make('weak', bits(1024), 'localhost', ca, names=['localhost'])
    make('ed25519', ed25519.Ed25519PrivateKey.generate(), 'localhost', names=['localhost'])
    make('rsa8192', bits(8192), 'localhost', names=['localhost'])


main()
