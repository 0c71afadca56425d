"""Our code as if somebody had edited one of its modules, without touching a file."""

from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def edit(monkeypatch, module):
    """Let every reader of the module's source find a further line at its end."""
    file = ROOT / f"{module.replace('.', '/')}.py"
    assert file.is_file(), f"there is no module {module}"
    read = Path.read_bytes
    monkeypatch.setattr(Path, "read_bytes", lambda path: read(path) + (b"# edited\n" if path == file else b""))
