"""Secrets: made once, never shown, not removed while a port is served with them; certificates are checked."""

from __future__ import annotations

import datetime

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import BestAvailableEncryption, Encoding, NoEncryption
from cryptography.hazmat.primitives.serialization import PrivateFormat as Format
from cryptography.x509.oid import NameOID

from swarmd.api.secrets import view
from swarmd.control.secrets import LARGEST, Secrets
from swarmd.model.errors import Conflict, Invalid, NotFound, Refused
from swarmd.model.objects import Secret, Service
from swarmd.model.spec import PortSpec
from swarmd.security import serving
from tests.unit.test_control_bed import Bed, a_spec

DAY = 86400.0


@pytest.fixture
def bed() -> Bed:
    return Bed()


@pytest.fixture
def secrets(bed: Bed) -> Secrets:
    return Secrets(bed.store, bed.new_id)


def key_pem(key: ec.EllipticCurvePrivateKey, password: bytes = b"") -> bytes:
    sealing = BestAvailableEncryption(password) if password else NoEncryption()
    return key.private_bytes(Encoding.PEM, Format.PKCS8, sealing)


def certificate(
    key: ec.EllipticCurvePrivateKey, *hosts: str, begins: float = 0.0, ends: float = 4e9, issuer: str = "self"
) -> bytes:
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, hosts[0] if hosts else "app")])
    by = name if issuer == "self" else x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, issuer)])
    built = (
        x509.CertificateBuilder(by, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(datetime.datetime.fromtimestamp(begins, datetime.UTC))
        .not_valid_after(datetime.datetime.fromtimestamp(ends, datetime.UTC))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(host) for host in hosts]), critical=False)
        .sign(key, hashes.SHA256())
    )
    return built.public_bytes(Encoding.PEM)


KEY = ec.generate_private_key(ec.SECP256R1())
OTHER = ec.generate_private_key(ec.SECP256R1())


async def serve(bed: Bed, tls: str, host: str = "app.example.com") -> tuple[Service, list[str]]:
    port = PortSpec(target=80, published=443, host=host, tls=tls)
    return await bed.services.create(a_spec("web", ports=(port,)), resolve_image=False)


async def test_a_secret_is_found_by_name_and_id_and_its_view_has_no_data(bed: Bed, secrets: Secrets) -> None:
    created = await secrets.create("db_password", b"hunter2", {"team": "a"})
    assert secrets.get("db_password").id == created == secrets.get(created).id
    shown = view(secrets.get(created))
    assert (shown.name, dict(shown.labels)) == ("db_password", {"team": "a"})
    assert b"hunter2" not in shown.SerializeToString()


@pytest.mark.parametrize("name", ["", "-a", "a-", "a b", "a/b", "a" * 65, "ä"])
async def test_a_name_that_docker_refuses_is_refused(secrets: Secrets, name: str) -> None:
    with pytest.raises(Invalid, match="invalid name, only 64"):
        await secrets.create(name, b"x", {})


async def test_sizes_and_taken_names_are_refused(secrets: Secrets) -> None:
    for data in (b"", b"x" * (LARGEST + 1)):
        with pytest.raises(Invalid, match="secret data must be larger than 0 and at most 512000"):
            await secrets.create("one", data, {})
    await secrets.create("one", b"x" * LARGEST, {})
    with pytest.raises(Conflict, match="secret ONE already exists"):
        await secrets.create("ONE", b"x", {})


async def test_a_secret_in_use_stays_until_its_service_has_gone(bed: Bed, secrets: Secrets) -> None:
    await secrets.create("cert", certificate(KEY, "app.example.com") + key_pem(KEY), {})
    _, warnings = await serve(bed, "cert")
    assert warnings == []
    with pytest.raises(Refused, match="secret 'cert' is in use by the following service: web"):
        await secrets.remove("cert")
    await bed.services.remove("web")
    await secrets.remove("cert")
    with pytest.raises(NotFound, match="secret cert not found"):
        secrets.get("cert")


async def test_a_service_that_comes_while_its_secret_is_removed_does_not_refer_to_nothing(
    bed: Bed, secrets: Secrets
) -> None:
    await secrets.create("cert", certificate(KEY, "app.example.com") + key_pem(KEY), {})
    bed.proposer.first = [lambda: secrets.remove("cert")]
    with pytest.raises(NotFound, match="secret cert not found"):
        await serve(bed, "cert")
    await secrets.create("cert", certificate(KEY, "app.example.com") + key_pem(KEY), {})
    bed.proposer.first = [lambda: serve(bed, "cert")]
    with pytest.raises(Refused, match="in use"):
        await secrets.remove("cert")
    assert [row.name for row in bed.store.all(Secret)] == ["cert"]


@pytest.mark.parametrize(
    ("pem", "reason"),
    [
        (b"password", "no certificate in PEM"),
        (certificate(KEY, "app.example.com"), "no private key in PEM"),
        (certificate(KEY, "app.example.com") + key_pem(OTHER), "is not that of its first certificate"),
        (certificate(KEY, "app.example.com") + key_pem(KEY, b"pw"), "sealed with a password"),
        (certificate(KEY, "a", issuer="Root") + certificate(OTHER, "b") + key_pem(KEY), "no chain"),
    ],
)
async def test_a_secret_that_is_no_certificate_with_its_key_cannot_serve(
    bed: Bed, secrets: Secrets, pem: bytes, reason: str
) -> None:
    await secrets.create("cert", pem, {})
    with pytest.raises(Invalid, match=reason):
        await serve(bed, "cert")


async def test_a_certificate_is_named_in_full_for_nodes_are_told_of_it_by_that(
    bed: Bed, secrets: Secrets
) -> None:
    created = await secrets.create("cert", certificate(KEY, "app.example.com") + key_pem(KEY), {})
    with pytest.raises(NotFound, match=f"secret {created[:-1]} not found: write its name or its whole id"):
        await serve(bed, created[:-1])
    await serve(bed, created)


async def test_a_missing_secret_is_named(bed: Bed) -> None:
    with pytest.raises(NotFound, match="secret nothing not found"):
        await serve(bed, "nothing")


@pytest.mark.parametrize(
    ("begins", "ends", "said"),
    [(-9, -1, "has expired at"), (1, 100, "is not valid before"), (-9, 3, "expires at"), (-9, 300, "")],
)
async def test_dates_that_matter_are_said(
    bed: Bed, secrets: Secrets, begins: float, ends: float, said: str
) -> None:
    now = bed.clock.now()
    pem = certificate(KEY, "app.example.com", begins=now + begins * DAY, ends=now + ends * DAY)
    await secrets.create("cert", pem + key_pem(KEY), {})
    _, warnings = await serve(bed, "cert")
    about = [one for one in warnings if "certificate" in one]
    assert (len(about), said in "".join(about)) == (1 if said else 0, True)


async def test_a_host_that_the_certificate_does_not_name_is_said(bed: Bed, secrets: Secrets) -> None:
    await secrets.create("cert", certificate(KEY, "*.example.org") + key_pem(KEY), {})
    _, warnings = await serve(bed, "cert")
    assert any("is for *.example.org, not for app.example.com" in one for one in warnings)


def test_a_wildcard_covers_one_level() -> None:
    found = serving.Serving(("*.example.com", "example.com"), 0, 1)
    assert [found.covers(host) for host in ("a.example.com", "EXAMPLE.com", "*.example.com")] == [True] * 3
    assert [found.covers(host) for host in ("a.b.example.com", "*.a.example.com")] == [False] * 2


def test_curve_parameters_before_a_key_are_passed_over() -> None:
    old = KEY.private_bytes(Encoding.PEM, Format.TraditionalOpenSSL, serialization.NoEncryption())
    parameters = b"-----BEGIN EC PARAMETERS-----\nBggqhkjOPQMBBw==\n-----END EC PARAMETERS-----\n"
    assert serving.read(certificate(KEY, "a.example.com") + parameters + old).names == ("a.example.com",)
