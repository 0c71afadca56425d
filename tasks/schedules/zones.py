"""Time zones by their names, from the system's database or the package tzdata."""

from zoneinfo import ZoneInfo, available_timezones

from posttrain.errors import RequestError, did_you_mean


def zone_of(name: str) -> ZoneInfo:
    """Return a time zone.

    Raises:
        RequestError: there is none of this name.
    """
    known = available_timezones()
    if name not in known:
        near = did_you_mean(name, known) or did_you_mean(name.title(), known)
        raise RequestError(f"TZ must be the name of a time zone, as Europe/Berlin or UTC, got {name!r}{near}")
    return ZoneInfo(name)
