"""An engine that cannot draw responses here is refused before anything runs, with what to do."""

import re
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from pydantic import ValidationError

from flows import bases as subject
from flows.pipeline import check_settings
from posttrain.errors import RequestError
from posttrain.settings.config import merge
from posttrain.settings.ppo import PPOSettings
from tasks.workspace.paths import Paths
from tests.ports import free_port


def test_vllm_is_refused_without_a_gpu_before_anything_runs():
    for asks in (False, True):
        with pytest.raises(
            RequestError, match=r"^ppo\.engine=vllm needs a GPU, and this machine has none that can be used\. Say "
        ):
            subject.check_engine(PPOSettings(engine="vllm"), asks=asks)
        subject.check_engine(PPOSettings(engine="bfloat16"), asks=asks)


@pytest.mark.parametrize("method", ["reft", "grpo", "ppo"])
def test_a_pipeline_asks_whether_its_engine_is_there(method, tmp_path):
    for name, is_refused in ((method, True), ("sft", False)):
        config = merge({}, [f"method={name}", "ppo.engine=vllm"])
        try:
            check_settings(config, Paths(tmp_path))
            refused = ""
        except RequestError as error:
            refused = str(error)
        assert refused.startswith("ppo.engine=vllm needs a GPU") == is_refused, (name, refused)


class _Health(BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200 if self.path == "/health" else 404)
        self.end_headers()

    def log_message(self, *_):
        """Say nothing."""


def test_a_server_says_that_it_is_well_or_is_refused():
    with ThreadingHTTPServer(("127.0.0.1", 0), _Health) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        address = f"http://127.0.0.1:{server.server_port}"
        try:
            subject.check_answers(address)
            subject.check_answers(f"{address}/")
            with pytest.raises(RequestError, match=r"^ppo\.engine_url=.*/elsewhere: no vLLM server answers there \(.*404"):
                subject.check_answers(f"{address}/elsewhere")
        finally:
            server.shutdown()
            thread.join()
    with pytest.raises(
        RequestError, match=r"no vLLM server answers there \(.*refused.*\)\. Start one as docs/scale\.md says, or "
    ):
        subject.check_answers(f"http://127.0.0.1:{free_port()}")


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"engine_url": "http://127.0.0.1:8000"}, "engine_url names a vLLM server, and engine=transformers asks none. Say "),
        (
            {"engine": "vllm", "engine_url": "127.0.0.1:8000"},
            "engine_url must begin with http:// or https://, got 127.0.0.1:8000",
        ),
        ({"engine": "vllm", "engine_memory": 1.0}, "less than 1"),
    ],
)
def test_settings_of_an_engine_that_mean_nothing(settings, sentence):
    with pytest.raises(ValidationError, match=re.escape(sentence)):
        PPOSettings(**settings)
