"""Sections 2 and 11 of docs/protocol.md: hashes, signatures, HPKE."""

import hashlib
import hmac

import blake3
from cryptography.exceptions import InvalidSignature, InvalidTag
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat


class Refused(Exception):
    """Something that doesn't hold: a stable word, and what it is about."""

    def __init__(self, code, about=""):
        super().__init__(f"{code}: {about}")
        self.code = code


def u32(value):
    return value.to_bytes(4, "big")


def u64(value):
    return value.to_bytes(8, "big")


def sized(data):
    return u64(len(data)) + data


def prefixed(name):
    return bytes([len(name)]) + name.encode()


def H(domain, *pieces, key=None):
    hasher = blake3.blake3(key=key) if key is not None else blake3.blake3()
    hasher.update(prefixed("stallmesh/1/" + domain))
    for piece in pieces:
        hasher.update(piece)
    return hasher.digest()


P = 2**255 - 19
L = 2**252 + 27742317777372353535851937790883648493
# The y coordinates of the eight points of small order.
SMALL_ORDER = {
    0,
    1,
    P - 1,
    int.from_bytes(bytes.fromhex("26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05"), "little"),
    int.from_bytes(bytes.fromhex("c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a"), "little"),
}


def verify(public, context, message, signature):
    """Raises E_SIG where a signature doesn't hold by the strict rule."""

    def y_of(point):
        return int.from_bytes(point, "little") & (2**255 - 1)

    about = f"under {public.hex()[:8]}"
    if len(public) != 32 or len(signature) != 64:
        raise Refused("E_SIG", about)
    if y_of(public) >= P or y_of(public) in SMALL_ORDER or y_of(signature[:32]) in SMALL_ORDER:
        raise Refused("E_SIG", about)
    if int.from_bytes(signature[32:], "little") >= L:
        raise Refused("E_SIG", about)
    text = prefixed("stallmesh/1/sign/" + context) + message
    try:
        Ed25519PublicKey.from_public_bytes(public).verify(signature, text)
    except InvalidSignature:
        raise Refused("E_SIG", about) from None


def extract(salt, data):
    return hmac.new(salt or bytes(32), data, hashlib.sha256).digest()


def expand(secret, info, length):
    out, block, counter = b"", b"", 1
    while len(out) < length:
        block = hmac.new(secret, block + info + bytes([counter]), hashlib.sha256).digest()
        out, counter = out + block, counter + 1
    return out[:length]


def x25519_public(secret):
    return X25519PrivateKey.from_private_bytes(secret).public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)


def hpke_open(secret, encapsulated, info, associated, ciphertext):
    """RFC 9180, base mode, single shot."""
    kem, suite = b"KEM\x00\x20", b"HPKE\x00\x20\x00\x01\x00\x03"

    def labeled_extract(suite, salt, label, data):
        return extract(salt, b"HPKE-v1" + suite + label + data)

    def labeled_expand(suite, secret, label, info, length):
        return expand(secret, length.to_bytes(2, "big") + b"HPKE-v1" + suite + label + info, length)

    try:
        shared = X25519PrivateKey.from_private_bytes(secret).exchange(X25519PublicKey.from_public_bytes(encapsulated))
    except ValueError:
        raise Refused("E_SEAL", "no such key") from None
    prk = labeled_extract(kem, b"", b"eae_prk", shared)
    shared = labeled_expand(kem, prk, b"shared_secret", encapsulated + x25519_public(secret), 32)
    context = b"\x00" + labeled_extract(suite, b"", b"psk_id_hash", b"")
    context += labeled_extract(suite, b"", b"info_hash", info)
    secret = labeled_extract(suite, shared, b"secret", b"")
    key = labeled_expand(suite, secret, b"key", context, 32)
    nonce = labeled_expand(suite, secret, b"base_nonce", context, 12)
    try:
        return ChaCha20Poly1305(key).decrypt(nonce, ciphertext, associated)
    except (InvalidTag, ValueError):
        raise Refused("E_SEAL", "not sealed to this key, or altered") from None


def chacha20(key, data):
    # The counter's four bytes, then the nonce's twelve.
    return Cipher(algorithms.ChaCha20(key, bytes(16)), mode=None).encryptor().update(data)
