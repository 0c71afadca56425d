"""Which of our modules a data stage runs. DVC looks at no more than what a stage names, so the stage must name all of them."""

import ast
from collections.abc import Callable, Iterator
from pathlib import Path

from posttrain.errors import RequestError
from tasks.workspace.keys import ROOMS, names_imported

ENTRY = "tasks.data"
"""`python -m tasks.data <stage>` runs a data stage, whether that is a module or a package with a `__main__`."""


def code_of(root: Path, stage: Callable[..., None]) -> tuple[str, ...]:
    """Return the files that `python -m tasks.data` imports below `root` to run one stage; as paths from there, sorted.

    They are found by reading import statements, beginning with the command's module: what a module imports whenever it is
    loaded, and what the stage's own function imports late. Nothing is run, so `root` need not hold the code that is asking.
    An `__init__.py` that says nothing but a docstring is left out.

    Args:
        root: of the repository.
        stage: the function that does the stage's work.

    Raises:
        RequestError: the command's own module is not there, so this is no checkout.
    """
    if not _file_of(root, ENTRY):
        raise RequestError(
            f"the code that makes data ({ENTRY.replace('.', '/')}) is not in {root}: start from the repository's root"
        )
    found: set[Path] = set()
    waiting = [ENTRY, f"{ENTRY}.__main__", stage.__module__, *_late_imports(root, stage)]
    while waiting:
        name = waiting.pop()
        file = _file_of(root, name)
        if file is None or file in found:
            continue
        found.add(file)
        waiting += names_imported(_loaded(ast.parse(file.read_bytes())))
        if "." in name:  # a package's own __init__ runs before its modules
            waiting.append(name.rpartition(".")[0])
    return tuple(sorted(str(file.relative_to(root)) for file in found if not _is_bare(file)))


def packages_of(code: tuple[str, ...]) -> tuple[str, ...]:
    """Return the `__init__.py` of each package that these files lie in, bare ones as well, as paths from the root; sorted."""
    folders = {folder for file in code for folder in Path(file).parents if folder != Path()}
    return tuple(sorted(str(folder / "__init__.py") for folder in folders))


def _file_of(root: Path, name: str) -> Path | None:
    """Return the source of one of our modules; None for anything else, a name inside a module included."""
    room, *parts = name.split(".")
    if room not in ROOMS:
        return None
    place = root.joinpath(room, *parts)
    return next((file for file in (place / "__init__.py", place.with_name(f"{place.name}.py")) if file.is_file()), None)


def _late_imports(root: Path, stage: Callable[..., None]) -> list[str]:
    """Return the dotted names that the stage's function imports when it runs."""
    file = _file_of(root, stage.__module__)
    body = ast.parse(file.read_bytes()).body if file else []
    functions = (node for node in body if isinstance(node, ast.FunctionDef) and node.name == stage.__name__)
    return names_imported(node for function in functions for node in ast.walk(function))


def _loaded(tree: ast.AST) -> Iterator[ast.AST]:
    """Yield the nodes that run when a module is loaded: everything but the bodies of functions."""
    for node in ast.iter_child_nodes(tree):
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            yield node
            yield from _loaded(node)


def _is_bare(file: Path) -> bool:
    return file.name == "__init__.py" and len(ast.parse(file.read_bytes()).body) <= 1
