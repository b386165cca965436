"""Only a broker that is protected, or told to be open, can be reached from other machines."""

from itertools import product
from pathlib import Path

import pytest

from tests.support.certificates import Authority
from towline_broker.server.addresses import Address
from towline_broker.server.configuration.auth_settings import AuthSettings
from towline_broker.server.configuration.settings import Settings
from towline_broker.server.configuration.tls_settings import TlsSettings
from towline_broker.server.exits import ConfigError
from towline_broker.server.exposure import Protection, check_exposure
from towline_broker.server.serving import BrokerServer

LOOPBACK = ("127.0.0.1", "127.9.9.9", "::1")
PUBLIC = ("0.0.0.0", "::", "10.0.0.5", "192.0.2.1", "2001:db8::1", "fe80::1%eth0")
EITHER = (False, True)


@pytest.mark.parametrize("host", [*LOOPBACK, *PUBLIC])
def test_every_combination_of_tls_identity_and_insecure(host: str) -> None:
    for tls, identity, insecure in product(EITHER, EITHER, EITHER):
        allowed = host in LOOPBACK or insecure or (tls and identity)
        protection = Protection(tls=tls, identity=identity)
        if allowed:
            check_exposure(f"{host}:1", Address(host, 1), protection, insecure)
            continue
        with pytest.raises(ConfigError, match=f"listen: {host}:1 can be reached") as caught:
            check_exposure(f"{host}:1", Address(host, 1), protection, insecure)
        said = str(caught.value)
        assert ("tls.cert" in said) == (not tls)
        assert ("token create" in said) == (not identity)
        assert "127.0.0.1" in said
        assert "--insecure" in said


@pytest.mark.parametrize(
    ("with_tls", "with_identities", "missing"),
    [
        (False, False, "neither TLS nor identities: anyone who reaches"),
        (True, False, "no identities: anyone who reaches"),
        (False, True, "no TLS: whoever is between a client and"),
    ],
)
async def test_a_broker_that_lacks_one_does_not_start_in_public(
    with_tls: bool, with_identities: bool, missing: str, tmp_path: Path
) -> None:
    cert, key = Authority().issue().write(tmp_path)
    tokens = tmp_path / "tokens.json"
    tokens.write_text('{"version": 1, "tokens": []}')
    tokens.chmod(0o600)
    settings = Settings(
        store="memory:",
        listen="0.0.0.0:0",
        tls=TlsSettings(cert=cert, key=key) if with_tls else TlsSettings(),
        auth=AuthSettings(tokens=tokens) if with_identities else AuthSettings(),
    )
    with pytest.raises(ConfigError, match=f"this broker has {missing}"):
        await BrokerServer(settings).start()
