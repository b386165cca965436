"""A journal that an earlier release wrote is read, and gone on with."""

import base64
import zlib
from pathlib import Path

from tests.drivers.file_support import opened
from towline_broker.domain.jobs import JobState
from towline_broker.drivers.file import segments
from towline_broker.drivers.interface import JobQuery
from towline_broker.testing.factories import new_id

#: One segment. Six jobs were pushed, three leased, one of those acknowledged.
EARLIER = Path(__file__).with_name("journal_of_version_1.txt")
IDS = [f"00000000-0000-7000-8000-00000000000{number}" for number in range(6)]


async def test_a_journal_of_version_1_goes_on_in_a_segment_of_this_version(tmp_path: Path) -> None:
    directory = tmp_path / "store"
    directory.mkdir()
    oldest = segments.path_of(directory, 1)
    oldest.write_bytes(zlib.decompress(base64.b64decode(EARLIER.read_bytes())))
    for _ in range(2):
        async with opened(directory) as driver:
            records = (await driver.list_jobs(JobQuery(10))).records
            assert [record.id for record in records] == IDS[1:]
            assert [record.state for record in records] == (
                [JobState.LEASED] * 2 + [JobState.READY] * 3
            )
            acknowledged, unknown = await driver.get(IDS[0]), await driver.get(new_id())
            assert acknowledged is not None
            assert acknowledged.state is JobState.SUCCEEDED
            assert unknown is None
    # An earlier release would pass over what it does not know, so it must refuse the store.
    headers = [
        segments.read_header(path, path.read_bytes())
        for path in (oldest, segments.path_of(directory, 2))
    ]
    assert [header.version for header in headers] == [1, segments.VERSION]
    assert len(segments.numbers_in(directory)) == 2
