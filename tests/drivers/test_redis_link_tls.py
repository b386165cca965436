"""The way to the server over TLS: the server is checked against the authority of the url."""

import asyncio
import datetime
import ipaddress
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from tests.drivers.redis_link_support import Proxy, linked, make_link, own_keys
from tests.support.servers.redis import RedisServer
from towline_broker.domain.errors import StoreRefused, StoreUnavailable


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of 127.0.0.1, signed by itself; the key is beside it."""
    path = tmp_path_factory.mktemp("tls") / "server.pem"
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "test")])
    now = datetime.datetime.now(datetime.UTC)
    alternative = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.IPv4Address("127.0.0.1"))])
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(alternative, critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    path.write_bytes(made.public_bytes(serialization.Encoding.PEM))
    path.with_suffix(".key").write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    return path


@asynccontextmanager
async def tls_server(certificate: Path) -> AsyncIterator[str]:
    """The url, without options, of a server behind TLS."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, certificate.with_suffix(".key"))
    with RedisServer("valkey") as server:
        async with Proxy(server.port, context) as proxy:
            yield proxy.url.replace("redis://", "rediss://")


async def test_calls_and_messages_go_over_tls(certificate: Path) -> None:
    async with tls_server(certificate) as url, linked(own_keys(url, ca=certificate)) as here:
        assert await asyncio.gather(*(here.count() for _ in range(20))) == list(range(1, 21))
        await here.shout("hello")
        await here.wait_message("hello")


async def test_a_server_that_the_authority_did_not_sign_is_refused(certificate: Path) -> None:
    async with tls_server(certificate) as url:
        with pytest.raises(StoreRefused, match="CERTIFICATE_VERIFY_FAILED"):
            await make_link(own_keys(url)).open(print, print)


async def test_a_server_without_tls_is_guessed_at() -> None:
    with RedisServer("redis") as server:
        url = own_keys(server.url.replace("redis://", "rediss://"), timeout=1)
        with pytest.raises(StoreUnavailable, match="does the server speak TLS"):
            await make_link(url).open(print, print)


async def test_an_answer_that_is_not_tls_is_guessed_at() -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)
        writer.write(b"-ERR unknown command\r\n")
        await writer.drain()
        writer.close()

    async with await asyncio.start_server(answer, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        with pytest.raises(StoreUnavailable, match="does the server speak TLS"):
            await make_link(own_keys(f"rediss://127.0.0.1:{port}")).open(print, print)


async def test_the_name_counts_unless_the_url_says_otherwise(certificate: Path) -> None:
    async with tls_server(certificate) as url:
        by_name = own_keys(url.replace("127.0.0.1", "localhost"), ca=certificate)
        with pytest.raises(StoreRefused, match="CERTIFICATE_VERIFY_FAILED"):
            await make_link(by_name).open(print, print)
        async with linked(by_name + "&check_hostname=no") as here:
            assert await here.count() == 1
