"""What is typed behind ask, chat, export and serve, and what is loaded for each of them."""

from collections.abc import Sequence

from flows.keep_verbs import Start
from flows.use_requests import ask_request, export_request
from posttrain.errors import RequestError
from tasks.workspace.paths import Paths

OWN = {
    "ask": ("prompt", "models", "version", "temperature", "file", "format", "map"),
    "chat": ("model", "temperature"),
    "ab": ("models", "name", "temperature"),
    "export": ("version", "format", "type", "to", "force"),
    "serve": ("version", "port"),
}
"""Words of a verb that are no settings."""


def run_using(verb: str, paths: Paths, words: Sequence[str], start: Start) -> None:
    """Run one of the verbs; what is typed wrong is told before anything is loaded."""
    given = {name: value for name, _, value in (word.partition("=") for word in words) if name in OWN[verb]}
    settings = [word for word in words if word.partition("=")[0] not in OWN[verb]]
    config = start.configuration(settings)
    port = _port(given.get("port", ""))
    if verb in ("ask", "chat"):
        asking = ask_request(given, settings, verb=verb)
        start.prepare(config)
        from flows import ask

        (ask.ask if verb == "ask" else ask.chat)(paths, config, asking, start.say)
    elif verb == "ab":
        from flows.ab import ab, ab_request

        comparing = ab_request(given, settings)
        start.prepare(config)
        ab(paths, config, comparing, start.say)
    elif verb == "export":
        exporting = export_request(paths, given)
        start.prepare(config)
        from flows.export import export

        export(paths, config, exporting, start.say)
    else:
        start.prepare(config)
        from flows.serve_model import serve

        serve(paths, config, start.say, version=given.get("version", "").strip(), port=port)


def _port(text: str) -> int | None:
    if text and not (text.isdecimal() and 1024 <= int(text) <= 65535):
        raise RequestError(f"PORT must be a whole number between 1024 and 65535, got {text}")
    return int(text) if text else None
