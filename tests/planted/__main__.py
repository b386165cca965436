"""Plants one bug after the other in a copy of the code, and sees whether the fault suite finds it.

    python -m tests.planted                       all of them, after the detectors were found green
    python -m tests.planted 'sqlite-*' --seed 7   some, with the seed of an earlier run

The exit code is 1 if a bug was missed or the sound code was blamed, 0 otherwise.
"""

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path

from tests.faults.harness.figures import drawn_seed, record
from tests.planted.catalogue import Bug, load
from tests.planted.detectors import DETECTORS, Finding, Verdict
from tests.planted.workshop import Workshop


@dataclass(frozen=True, slots=True)
class Trial:
    bug: Bug
    #: By the name of the detector, in the order in which they were tried.
    findings: dict[str, Finding]

    @property
    def caught_by(self) -> str | None:
        names = [name for name, each in self.findings.items() if each.verdict is Verdict.FOUND]
        return names[0] if names else None

    @property
    def tried(self) -> bool:
        return any(each.verdict is not Verdict.SKIPPED for each in self.findings.values())

    @property
    def missed(self) -> bool:
        return self.tried and self.caught_by is None

    def __str__(self) -> str:
        seconds = sum(each.seconds for each in self.findings.values())
        if self.caught_by is None:
            what = "MISSED" if self.tried else "NOT TRIED"
            tried = ", ".join(f"{name} {each.verdict}" for name, each in self.findings.items())
            return (
                f"{what:9} {self.bug.name:42} {self.bug.breaks:5} after {seconds:5.1f} s: {tried}"
            )
        named = " ".join(self.findings[self.caught_by].promises) or "-"
        return (
            f"{'CAUGHT':9} {self.bug.name:42} {self.bug.breaks:5} after {seconds:5.1f} s by "
            f"{self.caught_by}: {named}"
        )


def main(arguments: Sequence[str]) -> int:
    options = _parsed(arguments)
    bugs = [bug for bug in load() if any(fnmatch(bug.name, name) for name in options.names)]
    if not bugs:
        say(f"no bug is named {' or '.join(options.names)}")
        return 2
    if options.list:
        for bug in bugs:
            say(f"{bug.name:42} {bug.breaks:5} {bug.what}")
        return 0
    say(f"{len(bugs)} bugs, seed {options.seed}")
    with Workshop() as workshop:
        blamed = [] if options.trust else _blamed(workshop, bugs, options.seed)
        if blamed:
            say(f"the sound code is blamed by {', '.join(blamed)}: no bug was planted")
            return 1
        trials = []
        for bug in bugs:
            trial = _try(workshop, bug, options.seed)
            trials.append(trial)
            say(str(trial))
            _keep(options.keep, trial)
    return _summary(trials, options.seed)


def _parsed(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser("python -m tests.planted", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("names", nargs="*", default=["*"], help="of bugs; patterns may be used")
    parser.add_argument("--seed", type=int, default=drawn_seed(), help="default: TOWLINE_SEED")
    parser.add_argument("--list", action="store_true", help="say what there is, and do nothing")
    parser.add_argument("--trust", action="store_true", help="do not try the sound code first")
    parser.add_argument("--keep", type=Path, help="a folder for all that the detectors say")
    return parser.parse_args(arguments)


def _blamed(workshop: Workshop, bugs: Sequence[Bug], seed: int) -> list[str]:
    """Detectors that do not find the sound code in order."""
    blamed = []
    for name in dict.fromkeys(name for bug in bugs for name in bug.found_by):
        finding = DETECTORS[name].run(workshop, seed)
        say(f"{finding.verdict:9} {name:42} sound after {finding.seconds:5.1f} s")
        if finding.verdict not in (Verdict.GREEN, Verdict.SKIPPED):
            say(finding.output)
            blamed.append(name)
    return blamed


def _try(workshop: Workshop, bug: Bug, seed: int) -> Trial:
    findings: dict[str, Finding] = {}
    with workshop.planted(bug):
        for name in bug.found_by:
            findings[name] = DETECTORS[name].run(workshop, seed)
            if findings[name].verdict is Verdict.FOUND:
                break
    return Trial(bug, findings)


def _keep(folder: Path | None, trial: Trial) -> None:
    if folder is not None:
        folder.mkdir(parents=True, exist_ok=True)
        for name, finding in trial.findings.items():
            (folder / f"{trial.bug.name}.{name}.txt").write_text(finding.output)


def _summary(trials: Sequence[Trial], seed: int) -> int:
    caught = [trial for trial in trials if trial.caught_by is not None]
    missed = [trial for trial in trials if trial.missed]
    untried = [trial for trial in trials if not trial.tried]
    say(f"\n{len(caught)} of {len(trials)} planted bugs were caught, seed {seed}")
    counts = {"caught": len(caught), "missed": len(missed), "not_tried": len(untried)}
    record("tests.planted", "planted bugs", seed, counts)
    for trial in untried:
        say(f"not tried, for what it needs is missing here: {trial.bug.name}")
    for trial in missed:
        say(f"\nMISSED {trial.bug.name} ({trial.bug.breaks}): {trial.bug.what}")
        say(f"again: python -m tests.planted {trial.bug.name} --seed {seed}")
    return 1 if missed else 0


def say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
