"""`python -m tasks.data world` and `python -m tasks.data split <name>`: the data stages as DVC starts them."""

import sys
from collections.abc import Sequence
from pathlib import Path

from posttrain.errors import PosttrainError, RequestError
from tasks.data.stages import make_world, split_dataset
from tasks.workspace.paths import Paths


def main(arguments: Sequence[str]) -> int:
    """Run a stage; return its exit code."""
    paths = Paths(Path.cwd())
    try:
        match list(arguments):
            case ["world"]:
                make_world(paths)
            case ["split", name]:
                split_dataset(paths, name)
            case _:
                raise RequestError(f"{' '.join(arguments)!r} is no data stage: say world, or split <name>")
    except PosttrainError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
