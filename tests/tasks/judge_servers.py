"""OpenAI-compatible servers on loopback for tests: one that misbehaves as it is told, one that answers with a real model."""

import json
import threading
import time
from collections import Counter
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


def completion(text, *, logprobs=None):
    """Return the body of a chat completion."""
    choice = {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}
    if logprobs:
        top = [{"token": token, "logprob": logprob, "bytes": None} for token, logprob in logprobs.items()]
        choice["logprobs"] = {"content": [{**top[0], "top_logprobs": top}]}
    usage = {"prompt_tokens": 11, "completion_tokens": 1, "total_tokens": 12}
    return {"id": "1", "object": "chat.completion", "created": 1, "model": "m", "choices": [choice], "usage": usage}


class Faulty:
    """A server whose answer to each request is what `behave(body, number)` says.

    `behave` returns (status, body), (status, body, headers), one of the words `slow`, `drop`, `half`, `nonsense`, or a function
    that writes the bytes of an answer itself: it is given the file to write to. Whoever asks for its models is told `models`,
    or 404 where that is None.
    """

    def __init__(self, behave, models=("m",)):
        self.requests = []
        self.authorizations = []
        self.headers = []
        self.models_asked = 0
        self.models = models
        self.released = threading.Event()
        self._lock = threading.Lock()
        self._behave = behave
        faulty = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self):
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                with faulty._lock:
                    number = len(faulty.requests)
                    faulty.requests.append(body)
                    faulty.authorizations.append(self.headers.get("Authorization"))
                    faulty.headers.append({name.lower(): value for name, value in self.headers.items()})
                faulty.answer(self, faulty._behave(body, number))

            def do_GET(self):
                with faulty._lock:
                    faulty.models_asked += 1
                    faulty.headers.append({name.lower(): value for name, value in self.headers.items()})
                models = faulty.models() if callable(faulty.models) else faulty.models
                if isinstance(models, tuple) and all(isinstance(one, str) for one in models):
                    models = (200, {"object": "list", "data": [{"id": one, "object": "model"} for one in models]})
                faulty.answer(self, models or (404, {"detail": "Not Found"}))

            def log_message(self, *_):
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
        self._thread.start()
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}/v1"

    def answer(self, handler, told):
        if callable(told):
            handler.close_connection = True
            with suppress(OSError):  # the client gave up waiting
                told(handler.wfile)
            return
        if told == "slow":
            self.released.wait(30)
            told = (200, completion("A"))
        if told == "drop":
            handler.close_connection = True
            handler.connection.close()
            return
        if told == "nonsense":
            told = (200, "<html>it works</html>")
        headers = {}
        if told == "half":
            text, length = json.dumps(completion("A"))[:40], 500
            status = 200
        else:
            status, payload, *more = told
            headers = more[0] if more else {}
            text = payload if isinstance(payload, str | bytes) else json.dumps(payload)
            length = len(text if isinstance(text, bytes) else text.encode())
        try:
            handler.send_response(status)
            handler.send_header("Content-Type", "application/json")
            handler.send_header("Content-Length", str(length))
            for name, value in headers.items():
                handler.send_header(name, value)
            handler.end_headers()
            handler.wfile.write(text if isinstance(text, bytes) else text.encode())
        except OSError:
            pass  # the client gave up waiting
        if told == "half":
            handler.close_connection = True
            handler.connection.close()

    def count(self):
        """Return how often each question was asked."""
        return Counter(request["messages"][-1]["content"] for request in self.requests)

    def close(self):
        self.released.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


@contextmanager
def faulty(behave, **how):
    server = Faulty(behave, **how)
    try:
        yield server
    finally:
        server.close()


@contextmanager
def real(model, tokenizer):
    """Serve chat completions with log-probabilities of a transformers model through FastAPI and uvicorn."""
    import torch
    import uvicorn
    from fastapi import FastAPI

    app = FastAPI()
    seen = []

    @app.post("/v1/chat/completions")
    def complete(body: dict):
        seen.append(body)
        text = "".join(message["content"] for message in body["messages"])
        ids = tokenizer(text, return_tensors="pt", return_token_type_ids=False)["input_ids"]
        with torch.inference_mode():
            logprobs = model(input_ids=ids).logits[0, -1].float().log_softmax(-1)
        top = logprobs.topk(body["top_logprobs"])
        told = {tokenizer.decode([token]): value for value, token in zip(top.values.tolist(), top.indices.tolist(), strict=True)}
        return completion(next(iter(told)), logprobs=told)

    server = uvicorn.Server(uvicorn.Config(app, host="127.0.0.1", port=0, log_level="error", lifespan="off", ws="none"))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not (server.started and server.servers):
        assert thread.is_alive(), "the server ended before it started"
        time.sleep(0.01)
    port = server.servers[0].sockets[0].getsockname()[1]
    try:
        yield f"http://127.0.0.1:{port}/v1", seen
    finally:
        server.should_exit = True
        thread.join()
