"""What changes cost the requests of everybody else: the latency of a steady load while the
configuration changes, beside that of the same load while it does not.

One load runs all the time, and one writer beside it. Short windows without and with changes take
turns, in the order quiet, changing, changing, quiet, so that whatever else the machine does falls
upon both kinds alike. Neighbours are compared: the ratio of a pair of windows is that of their 99th
percentiles, and what counts is the middle of all ratios, with the middle half of them beside it.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from bench.origins import EmbeddedOrigin
from bench.paced import Sample, paced
from bench.scenarios import Edge, backend, say
from bench.writer import StoreWriter

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

CHANGES_A_SECOND = 10
_ORDER = (False, True, True, False)
_GUARD_SECONDS = 0.1
"""So much at the beginning of a window is not counted: it may pay for the window before."""
_WARM_UP_SECONDS = 2.0
_WRITER_START_SECONDS = 1.0


@dataclass
class ChangeImpact:
    """The 99th percentile of everybody's latency, seconds, without and with changes.

    ``quiet``, ``changing``: of the middle window. ``ratio``: of the middle pair of windows;
    ``ratio_low``, ``ratio_high``: half of all pairs are between these.
    """

    quiet: float
    changing: float
    ratio: float
    ratio_low: float
    ratio_high: float
    changes: int


def is_changing(window: int) -> bool:
    """Tell whether the configuration changes in the window of this number."""
    return _ORDER[window % len(_ORDER)]


def compare(
    samples: Iterable[Sample], start: float, pairs: int, seconds: float
) -> tuple[Sequence[float], Sequence[float]]:
    """Return the 99th percentiles of quiet and of changing windows, those of a pair side by side.

    ``start``: time at which the first of twice ``pairs`` windows of ``seconds`` began. Raises
    ValueError when there is a window without a request.
    """
    windows: list[list[float]] = [[] for _ in range(2 * pairs)]
    for sample in samples:
        number, within = divmod(sample.due - start, seconds)
        if 0 <= number < len(windows) and within >= min(_GUARD_SECONDS, seconds / 2):
            windows[int(number)].append(sample.latency)
    if not all(windows):
        raise ValueError("there is a window without a request")
    quiet, changing = [], []
    for number, latencies in enumerate(windows):
        (changing if is_changing(number) else quiet).append(percentile_99(latencies))
    return quiet, changing


def impact_of(quiet: Sequence[float], changing: Sequence[float], changes: int) -> ChangeImpact:
    """Sum up what `compare` found."""
    ratios = sorted(after / before for before, after in zip(quiet, changing, strict=True))
    return ChangeImpact(
        quiet=statistics.median(quiet),
        changing=statistics.median(changing),
        ratio=statistics.median(ratios),
        ratio_low=ratios[len(ratios) // 4],
        ratio_high=ratios[-1 - len(ratios) // 4],
        changes=changes,
    )


def percentile_99(latencies: Sequence[float]) -> float:
    """Return the 99th percentile."""
    return sorted(latencies)[int(len(latencies) * 0.99)]


def measure(
    counts: Sequence[int], pairs: int, seconds: float, *, own_backends: bool = False
) -> dict[int, ChangeImpact]:
    """Measure with so many frontends; one row takes little more than twice ``pairs * seconds``."""
    result = {}
    for count in counts:
        with (
            tempfile.TemporaryDirectory() as temporary,
            backend(Path(temporary), 2) as ports,
            Edge(
                Path(temporary),
                count,
                ports,
                2,
                EmbeddedOrigin(Path(temporary), own_backends=own_backends),
            ) as edge,
        ):
            paced(edge.port, time.monotonic(), _WARM_UP_SECONDS)
            start = time.monotonic() + _WRITER_START_SECONDS
            # In a process of its own: the load measures time and must not wait for the writer.
            command = [sys.executable, "-m", "bench.impact", str(edge.database)]
            command += [str(start), str(2 * pairs), str(seconds)]
            with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as writer:
                samples = paced(edge.port, start, 2 * pairs * seconds)
                changes = int(writer.communicate(timeout=30)[0])
            quiet, changing = compare(samples, start, pairs, seconds)
            result[count] = found = impact_of(quiet, changing, changes)
            say(
                f"  {count:7} frontends p99 quiet {found.quiet * 1e3:6.2f} ms changing "
                f"{found.changing * 1e3:6.2f} ms ratio {found.ratio:.2f} "
                f"({found.ratio_low:.2f} to {found.ratio_high:.2f})"
            )
    return result


def write_in_turns(database: Path, start: float, windows: int, seconds: float) -> int:
    """Change one entry again and again in the windows that are for it; returns how often."""
    count = 0
    with StoreWriter(database) as writer:
        for number in filter(is_changing, range(windows)):
            for turn in range(round(CHANGES_A_SECOND * seconds)):
                due = start + number * seconds + turn / CHANGES_A_SECOND
                time.sleep(max(0.0, due - time.monotonic()))
                writer.put("kvproxy/frontends/f0/backend", f"b{count % 2}")
                count += 1
    return count


if __name__ == "__main__":
    print(
        write_in_turns(Path(sys.argv[1]), float(sys.argv[2]), int(sys.argv[3]), float(sys.argv[4]))
    )
