"""What many grades come to, and how far they agree with labels; counts only, so that a file of any length fits."""

from collections import Counter
from dataclasses import dataclass, field
from math import sqrt

from posttrain.graders.interface import Grade
from posttrain.statistics.intervals import Interval, share_interval, student_quantile, wilson


@dataclass
class Tally:
    """Running counts of grades.

    Attributes:
        count: grades so far.
        right, partial, unextracted: grades that are right, paid in part, without anything extracted.
        errors: how often each flag was raised.
        table: labelled grades by (label, verdict), both True for right.
    """

    count: int = 0
    right: int = 0
    partial: int = 0
    unextracted: int = 0
    errors: Counter[str] = field(default_factory=Counter)
    table: Counter[tuple[bool, bool]] = field(default_factory=Counter)
    _mean: float = 0.0
    _squares: float = 0.0
    _low: float = 0.0
    _high: float = 1.0
    _is_binary: bool = True

    def add(self, grade: Grade, label: bool | None = None) -> None:
        """Count one grade, and whether it agrees with its label where it has one."""
        self.count += 1
        self.right += grade.is_right
        self.partial += grade.is_partial
        self.unextracted += grade.extracted is None
        self.errors.update(grade.errors)
        if label is not None:
            self.table[label, grade.is_right] += 1
        step = grade.score - self._mean
        self._mean += step / self.count
        self._squares += step * (grade.score - self._mean)
        self._is_binary &= grade.score in (0.0, 1.0)
        self._low, self._high = min(self._low, grade.score), max(self._high, grade.score)

    def share(self, part: int) -> Interval:
        """Return a part of the grades as a share with Wilson's 95 % interval.

        Raises:
            ValueError: if nothing was graded.
        """
        return wilson(part, self.count)

    def mean_score(self) -> Interval | None:
        """Return the mean score with its 95 % interval; None where a single score says nothing of the spread.

        Where every score is 0 or 1 it is Wilson's; where all lie between them, `share_interval`; else Student's, x̄ ± t s/√n.
        """
        if self._is_binary:
            return wilson(min(max(self._mean, 0.0), 1.0) * self.count, self.count)
        if self.count < 2:
            return None
        error = sqrt(max(0.0, self._squares) / (self.count - 1) / self.count)
        if self._low >= 0 and self._high <= 1:
            return share_interval(min(max(self._mean, 0.0), 1.0), error=error, problems=self.count)
        half = student_quantile(0.95, self.count) * error
        return Interval(self._mean, self._mean - half, self._mean + half)

    @property
    def labelled(self) -> int:
        """How many grades had a label."""
        return self.table.total()

    @property
    def agreeing(self) -> int:
        """How many of them agree with it."""
        return self.table[True, True] + self.table[False, False]

    def kappa(self) -> float | None:
        """Return Cohen's kappa, (p_o − p_e) / (1 − p_e); None where it is undefined, one side having said the same throughout.

        Cohen 1960 (doi:10.1177/001316446002000104); p_o is the share that agrees, p_e what two independent markers with the same
        shares of right would reach.
        """
        count = self.labelled
        if not count:
            return None
        labels = (self.table[True, True] + self.table[True, False]) / count
        grades = (self.table[True, True] + self.table[False, True]) / count
        expected = labels * grades + (1 - labels) * (1 - grades)
        return None if expected >= 1 - 1e-12 else (self.agreeing / count - expected) / (1 - expected)
