"""A promise that a history shows to be broken."""

from dataclasses import dataclass

from tests.faults.harness.history import Call, History


@dataclass(frozen=True, slots=True)
class Violation:
    #: "P1" to "P10", or "Stats".
    promise: str
    #: What kind of breach, in a few words.
    rule: str
    #: The jobs that it is about.
    job_ids: tuple[str, ...]
    #: This breach.
    text: str
    #: The calls that contradict each other, if it takes no more to see it.
    witnesses: tuple[Call, ...] = ()

    def told(self, history: History) -> str:
        """The shortest history that shows it: the calls at odds, then all about the job."""
        ids = frozenset(self.job_ids)
        lines = [f"{self.promise}: {self.rule}: {self.text}"]
        lines += [f"  ! {call.about(ids)}" for call in self.witnesses]
        whole = list(history.about(ids))
        if whole and len(whole) > len(self.witnesses):
            lines.append(f"  all about {', '.join(self.job_ids)}:")
            lines += [f"    {call}" for call in whole]
        lines += [f"  at the end: {job}" for job in history.final.jobs if job.job_id in ids]
        return "\n".join(lines)
