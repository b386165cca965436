"""Only a broker that is protected, or told to be open, can be reached from other machines."""

from itertools import product
from pathlib import Path

import pytest

from tests.support.broker_process import failed_start
from tests.support.certificates import Authority
from towline_broker.server.addresses import Address
from towline_broker.server.exits import ConfigError, ExitCode
from towline_broker.server.exposure import Protection, check_exposure

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


def test_a_broker_with_tls_and_no_identities_does_not_start_in_public(tmp_path: Path) -> None:
    cert, key = Authority().issue().write(tmp_path)
    arguments = ["--store", "memory:", "--listen", "0.0.0.0:0"]
    code, said = failed_start(
        [*arguments, "--tls-cert", str(cert), "--tls-key", str(key)], tmp_path
    )
    assert code == ExitCode.CONFIG
    assert "this broker has no identities: anyone who reaches" in said
