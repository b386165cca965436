"""The url of a store in Redis: what it says, and that a wrong one is told what is wrong with it."""

import pytest

from towline_broker.domain.errors import StoreRefused
from towline_broker.drivers.redis.link.url import Address, Settings, parse_url

SECRET = "s3cr3t"


def test_a_server_of_its_own() -> None:
    found = parse_url("redis://tow:s3cr3t%40/%3F@db.example:6380/3?prefix=jobs&timeout=2.5")
    assert found == Settings(
        "standalone",
        (Address("db.example", 6380),),
        user="tow",
        password="s3cr3t@/?",
        db=3,
        prefix="jobs",
        timeout=2.5,
    )
    assert str(found) == "redis://db.example:6380/3"


def test_what_may_be_left_out() -> None:
    found = parse_url("redis://:pw@localhost")
    assert (found.addresses, found.user, found.password, found.db) == (
        (Address("localhost", 6379),),
        None,
        "pw",
        0,
    )
    assert parse_url("redis://[::1]:7000").addresses == (Address("::1", 7000),)
    assert str(parse_url("redis://[::1]:7000")) == "redis://[::1]:7000/0"


def test_servers_behind_sentinel() -> None:
    found = parse_url(
        "redis+sentinel://u:p@s1,s2:26380/mymaster/2?sentinel_user=su&sentinel_password=sp"
    )
    assert found.addresses == (Address("s1", 26379), Address("s2", 26380))
    assert (found.topology, found.service, found.db) == ("sentinel", "mymaster", 2)
    assert (found.sentinel_user, found.sentinel_password) == ("su", "sp")
    assert str(found) == "redis+sentinel://s1:26379,s2:26380/mymaster/2"


def test_a_cluster() -> None:
    found = parse_url("redis+cluster://a:1,b:2?partitions=64&wait_replicas=1")
    assert (found.topology, found.partitions, found.wait_replicas) == ("cluster", 64, 1)
    assert str(found) == "redis+cluster://a:1,b:2"


def test_tls_in_every_topology() -> None:
    for url in ("rediss://a", "rediss+cluster://a", "rediss+sentinel://a/m"):
        context = parse_url(url + "?check_hostname=no").tls
        assert context is not None
        assert not context.check_hostname
        assert str(parse_url(url)).startswith(url.partition(":")[0] + "://")
    assert parse_url("redis://a").tls is None


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("redis:", "redis://host:port/db"),
        ("redis://", "redis://host:port/db"),
        ("redis+mirror://a", "redis+sentinel://"),
        ("redis://a,b", "one host"),
        ("redis://a:70000", "host number 1"),
        ("redis://a:x", "host number 1"),
        ("redis+cluster://a:1,:2", "host number 2"),
        ("redis://u:s3cr3t?1@a/0", "%2F"),
        ("redis://s3cr3t@a", "user:password"),
        ("redis://u:s3cr3t@a/one", "database"),
        ("redis://u:s3cr3t@a/1/2", "database"),
        ("redis+cluster://u:s3cr3t@a/1", "no databases"),
        ("redis+sentinel://u:s3cr3t@a", "service is missing"),
        ("redis+sentinel://u:s3cr3t@a/m/x", "database"),
        ("redis://u:s3cr3t@a?colour=red", "'colour' is no option"),
        ("redis://u:s3cr3t@a?prefix", "?name=value"),
        ("redis://u:s3cr3t@a?prefix=", "'prefix' needs one value"),
        ("redis://u:s3cr3t@a?prefix=x&prefix=y", "'prefix' needs one value"),
        ("redis://u:s3cr3t@a?prefix={x}", "'prefix' has up to 64"),
        ("redis://u:s3cr3t@a?timeout=0", "'timeout' is a number of seconds"),
        ("redis://u:s3cr3t@a?partitions=8", "'partitions' is for redis+cluster://"),
        ("redis+cluster://u:s3cr3t@a?partitions=0", "'partitions' is a whole number"),
        ("redis://u:s3cr3t@a?wait_replicas=9", "'wait_replicas' is a whole number from 1 to 5"),
        ("redis://u:s3cr3t@a?sentinel_password=s3cr3t", "is for redis+sentinel://"),
        ("redis://u:s3cr3t@a?check_hostname=no", "'check_hostname' is for TLS"),
        ("rediss://u:s3cr3t@a?check_hostname=maybe", "'check_hostname' is yes or no"),
        ("rediss://u:s3cr3t@a?ca=/no/such/file", "'ca' is the path of a file"),
    ],
)
def test_a_wrong_url_is_told_what_is_wrong_and_never_the_password(url: str, says: str) -> None:
    with pytest.raises(StoreRefused) as refused:
        parse_url(url)
    assert says in str(refused.value)
    assert SECRET not in str(refused.value)
    assert SECRET not in repr(refused.value.__context__)


def test_settings_do_not_show_the_password() -> None:
    settings = parse_url("redis+sentinel://u:s3cr3t@a/m?sentinel_password=s3cr3t")
    assert SECRET not in f"{settings} {settings!r}"
