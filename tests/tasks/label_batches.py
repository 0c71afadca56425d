"""Batches for tests of the labelling page, and its server in a process of its own."""

import signal
import subprocess
import sys
import threading
from contextlib import contextmanager
from pathlib import Path

from posttrain.labelling.items import Item, Response
from tasks.labelling.batches import make_batch
from tasks.labelling.desk import Desk
from tasks.labelling.serve import serve_page
from tasks.workspace.paths import Paths

ROOT = Path(__file__).resolve().parents[2]
SERVE = """
import sys
from pathlib import Path
from tasks.labelling.batches import open_batch
from tasks.labelling.desk import Desk
from tasks.labelling.serve import serve_page
from tasks.workspace.paths import Paths

serve_page(Desk(open_batch(Paths(Path(sys.argv[1])), "small")), port=int(sys.argv[2]), begun=lambda: print("open", flush=True))
print("closed", flush=True)
"""


def item(name, *texts, kind="pair", prompt="What is 2 + 2?", **more):
    responses = tuple(Response(text=text) if isinstance(text, str) else text for text in texts)
    return Item(id=name, kind=kind, question=f"of {name}", prompt=prompt, responses=responses, selection="random", **more)


def pairs(count):
    return [item(f"item-{number}", f"It is {number}.", f"It is not {number}.") for number in range(count)]


def batch_of(root, items, *, per_item=1, instructions="# What to decide\n\nThe better one.\n"):
    given = {"method": "dpo", "data_md5": "0" * 32, "models": [], "seed": 0, "settings": {}}
    return make_batch(
        Paths(Path(root)),
        dataset="small",
        kind=items[0].kind,
        items=items,
        per_item=per_item,
        instructions=instructions,
        **given,
    )


@contextmanager
def server(root, port):
    """Serve the newest batch of a folder in a process of its own until the block ends; `kill` and `again` are for tests."""
    one = Server(root, port)
    try:
        one.again()
        yield one
    finally:
        one.end()


class Server:
    def __init__(self, root, port):
        self.command = [sys.executable, "-c", SERVE, str(root), str(port)]
        self.site = f"http://127.0.0.1:{port}"
        self.process = None

    def again(self):
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
        self.process = subprocess.Popen(self.command, cwd=ROOT, text=True, start_new_session=True, **pipes)
        line = self.process.stdout.readline()
        assert line == "open\n", line + self.process.stdout.read()

    def kill(self):
        self.process.kill()
        self.process.wait()
        self.process.stdout.close()

    def end(self, number=signal.SIGINT):
        """End the process with a signal, and return its exit code and what it printed."""
        if self.process is None or self.process.returncode is not None:
            return None
        self.process.send_signal(number)
        try:
            told, _ = self.process.communicate(timeout=60)
        except subprocess.TimeoutExpired:
            self.process.kill()
            raise
        return self.process.returncode, told


@contextmanager
def serving(batch, port):
    """Serve a batch in a thread of this process until the block ends, and yield its address."""
    began, over = threading.Event(), threading.Event()
    given = {"port": port, "begun": began.set, "ended": over.is_set}
    thread = threading.Thread(target=serve_page, args=(Desk(batch),), kwargs=given)
    thread.start()
    try:
        assert began.wait(60)
        yield f"http://127.0.0.1:{port}"
    finally:
        over.set()
        thread.join(60)
    assert not thread.is_alive()
