"""The difference of two shares that were measured on independent samples."""

from math import hypot

from posttrain.statistics.intervals import Interval


def independent_difference(a: Interval, b: Interval) -> Interval:
    """Difference a - b of two shares of independent samples, from the intervals of both: Newcombe's interval.

        low  = d - √((a - a_low)² + (b_high - b)²)
        high = d + √((a_high - a)² + (b - b_low)²),   d = a - b

    Method 10 of Newcombe 1998 (Statistics in Medicine 17(8), pages 873 to 890), there with Wilson's bounds. Zou and Donner 2008
    (doi:10.1002/sim.3095) show that bounds of any kind will do, such as those of shares whose questions belong together. Models
    that were asked the same questions are compared pair by pair instead (`paired_gain`), which sees more.

    Args:
        a, b: with the same confidence, which is that of the difference.

    Returns:
        The difference and its bounds, in [-1, 1].
    """
    estimate = a.estimate - b.estimate
    return Interval(
        estimate=estimate,
        low=estimate - hypot(a.estimate - a.low, b.high - b.estimate),
        high=estimate + hypot(a.high - a.estimate, b.estimate - b.low),
    )
