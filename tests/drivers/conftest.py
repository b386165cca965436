from tests.support.servers.fixtures import (
    mariadb_server,
    postgres_server,
    redis_cluster,
    redis_sentinels,
    redis_server,
    valkey_server,
)

__all__ = [
    "mariadb_server",
    "postgres_server",
    "redis_cluster",
    "redis_sentinels",
    "redis_server",
    "valkey_server",
]
