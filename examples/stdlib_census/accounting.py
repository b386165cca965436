"""The books of the demo: is every dispatched job accounted for exactly once?"""

from collections import Counter
from collections.abc import Iterable, Mapping


def problems(
    files: Mapping[str, str],
    ended: Iterable[tuple[str, str]],
    dead_letters: Iterable[str],
    completed: int,
) -> list[str]:
    """Return one line for each thing that does not add up; none when all is well.

    files         path by the id of the job that was dispatched for it
    ended         id and state of every job that the broker lists
    dead_letters  the ids in its dead-letter queue
    completed     how many successes it has counted, all told
    """
    found: list[str] = []
    listed = list(ended)
    times = Counter(job_id for job_id, _ in listed)
    dead_times = Counter(dead_letters)
    dead = {job_id for job_id, state in listed if state == "DEAD"}
    succeeded = {job_id for job_id, state in listed if state == "SUCCEEDED"}

    for path, count in Counter(files.values()).items():
        if count != 1:
            found.append(f"{path} was dispatched {count} times")
    for job_id, path in files.items():
        if times[job_id] != 1:
            found.append(f"{path} was listed {times[job_id]} times, not once")
        if dead_times[job_id] != (job_id in dead):
            found.append(f"{path} was {dead_times[job_id]} times in the dead-letter queue")
    for job_id, state in listed:
        if job_id not in files:
            found.append(f"job {job_id} was never dispatched")
        elif state not in ("SUCCEEDED", "DEAD"):
            found.append(f"{files[job_id]} has not ended: it is {state}")
    found.extend(
        f"dead letter {job_id} was never dispatched" for job_id in dead_times if job_id not in files
    )
    if completed != len(succeeded):
        found.append(f"{completed} successes were counted, but {len(succeeded)} jobs succeeded")
    return found
