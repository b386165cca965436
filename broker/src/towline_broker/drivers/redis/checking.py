"""Whether what is kept in Redis holds together, while brokers are at work.

Each job is looked for wherever one of its state has to be, some hundreds in one script; and of each
partition one script compares the lengths of its lists with its counts. Both together leave no room
for a list that holds what it should not.
"""

from towline_broker.domain.words import many
from towline_broker.drivers.findings import Finding, Report
from towline_broker.drivers.redis import scripts
from towline_broker.drivers.redis.driver import RedisDriver

#: Jobs that one script looks at: it holds the server for some milliseconds.
_PAGE = 500
_REBUILD = (
    "export the store and import it into a new one, which makes all of this anew; or restore the "
    "server from a backup"
)


async def check(driver: RedisDriver) -> Report:
    """Of an open store. Changes nothing. Raises StoreUnavailable."""
    total, findings = 0, list[Finding]()
    for partition in range(driver.link.partitions):
        stored, *wrong = await driver.link.run(scripts.CHECK_SIZES, partition)
        total += stored
        findings += [Finding(what.decode(), _REBUILD) for what in wrong]
        findings += await _jobs(driver, partition)
    sealed = {
        queue.name: queue.moving_to
        for queue in await driver.queues()
        if queue.moving_to and not queue.moved
    }
    return Report(many(total, "job"), findings, sealed=sealed)


async def _jobs(driver: RedisDriver, partition: int) -> list[Finding]:
    findings: list[Finding] = []
    after = b"0"
    while after:
        _, after, *wrong = await driver.link.run(scripts.CHECK_JOBS, partition, [after, _PAGE])
        findings += [
            Finding(f"job {job_id.decode()} {what.decode()}", _REBUILD)
            for job_id, what in zip(wrong[::2], wrong[1::2], strict=True)
        ]
    return findings
