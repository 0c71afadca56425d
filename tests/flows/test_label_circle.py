"""The whole circle, as people go it: samples of a model, their labels on the page, a new version of the data, RLHF on it."""

import json
import os
import re
import signal
import time
from pathlib import Path
from random import Random

import httpx
import pytest

from tests.flows.houses import fork, new_house, report, run
from tests.flows.ready import Fork
from tests.flows.test_feedback import LENIENT
from tests.flows.test_label_verb import LINK
from tests.ports import free_port

pytestmark = pytest.mark.slow

PEOPLE = ("ada", "ben")
TURN = re.compile(r'data-turn="(\w+)"')
KNOWS = 0.9
"""Share of the answers that an annotator knows; of the others he says the opposite."""
ALLOWED = ("reward_model.max_calibration_error=1", "reward_model.max_length_correlation=1", "ppo.min_finished=0")
"""What a model this small is allowed: it has seen little but that some responses end and others do not."""
NUMBERS = """
says: a judge in words that a base knows which has read no review
pairwise: {question: "{prompt} 1: {first} 2: {second}", ending: " Better:", options: ["1", "2"]}
pointwise: {question: "{prompt} {response}", ending: " Marks:", options: {"1": 1, "2": 2}}
"""
LONGEST_START = 600
"""Seconds that a busy machine may take to train the small models and to open the page."""


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = new_house(tmp_path_factory.mktemp("house"))
    params = folder / "params.yaml"
    params.write_text(params.read_text().replace("questions: 40,", "questions: 100,"))
    (folder / "data" / "judges" / "numbers.yaml").write_text(NUMBERS)
    return folder


class Annotator:
    """Somebody who labels on the page: his browser, and how well he knows the answers.

    He is simulated, of course; it is the page that must not notice.
    """

    def __init__(self, browser: httpx.Client, token: str, folder: Path, *, seed: int) -> None:
        self.browser = browser
        self.folder, self.random = folder, Random(seed)
        self.items = {item["id"]: item for item in map(json.loads, (folder / "items.jsonl").read_text().splitlines())}
        csrf = self.browser.post("/session", json={"token": token}).raise_for_status().json()["csrf"]
        self.browser.headers["X-CSRF-Token"] = csrf

    def label_all(self, *, most: int = 10_000) -> int:
        """Answer whatever is shown, and return how many that was; what the last one is followed by stays in `seen`."""
        html, answered = self.browser.get("/").raise_for_status().text, 0
        while answered < most and (found := TURN.search(html)) and found.group(1):
            asked = {"turn": found.group(1), "choice": self._choice(found.group(1)), "seconds": 3.5}
            html = self.browser.post("/api/answer", json=asked).raise_for_status().json()["html"]
            answered += 1
        self.seen = html
        return answered

    def _choice(self, turn: str) -> float:
        """Return what he says of the pair of a turn: what gold says of it as it is shown, or the opposite."""
        events = map(json.loads, (self.folder / "events.jsonl").read_text().splitlines())
        lease = next(event for event in events if event["turn"] == turn)
        gold = self.items[lease["item"]]["gold"]
        shown = gold if lease["order"][0] == 0 else 1 - gold
        return shown if self.random.random() < KNOWS else 1 - shown


def links_of(page: Fork, count: int) -> list[tuple[str, str, str]]:
    """Return name, port and token of each link; they are printed once the page is open."""
    deadline = time.monotonic() + LONGEST_START
    while len(links := LINK.findall(page.out.read_text())) < count:
        assert page.poll(0.2) is None and time.monotonic() < deadline, page.err.read_text()
    return links


def test_what_people_label_on_the_page_is_learnt_from(house: Path) -> None:
    before = run(house, "data").splitlines()[-2:]
    port = free_port()
    asked = (f"PORT={port}", "BATCH=150", "PER_ITEM=2", f"PEOPLE={' '.join(PEOPLE)}", "SET=labelling.known_share=0.1")
    page = fork(house, "label", *asked)
    links = links_of(page, len(PEOPLE))
    (folder,) = (house / "labelling" / "world").iterdir()
    answered = {}
    for seed, (name, _, token) in enumerate(links):
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=60) as browser:
            answered[name] = Annotator(browser, token, folder, seed=seed).label_all()
    out, err = page.communicate(timeout=LONGEST_START)
    assert page.returncode == 0, err

    # the end of the batch is a version of the dataset, with every label that was given
    labels = [json.loads(line) for line in (house / "data" / "world" / "labels.jsonl").read_text().splitlines()]
    assert sum(answered.values()) == len(labels) >= 250 and {label["annotator"] for label in labels} == set(PEOPLE)
    assert all(label["source"] == "person" and label["seconds"] == 3.5 for label in labels)
    assert {label["selection"] for label in labels} == {"random", "known"}
    version = re.search(r"^version: (\w{32}) \(data/world/labels.jsonl\)$", out, flags=re.MULTILINE)
    assert version and version.group(1) not in "".join(before)
    share = r"\d+\.\d%"
    assert re.search(rf"^agreement: {share} \[{share}, {share}\] on \d+ pairs that two people or more label", out, re.MULTILINE)
    assert run(house, "data").splitlines()[0].split()[1] == version.group(1)

    # RLHF takes them without being told to, and its report says whose they are
    out = run(house, "pipeline", "method=rlhf", "reward_model.ensemble=2", *ALLOWED)
    told = report(house)
    assert told["audit"]["source"] == "people"
    assert told["metrics"]["cost/labels"] == len(labels) == told["audit"]["labels"]["labels"]
    assert told["audit"]["labels"]["annotators"] == 2 and 0.5 < told["audit"]["labels"]["agreement"] <= 1
    notes = " ".join(told["notes"])
    assert "simulated annotators" not in notes and "simulated annotators" not in out
    trained = [stage["name"] for stage in told["stages"] if not stage["cached"]]
    assert {"label", "reward_model", "ppo"} <= set(trained) and not {"base", "sft", "tokenizer"} & set(trained)


@pytest.mark.parametrize("rule", ["uncertain", "spread", "disagreement"])
def test_the_next_batch_asks_what_its_rule_chooses(house: Path, rule: str) -> None:
    """It follows on the test above: of its labels are the reward model that is asked, and people's word against the judge's."""
    asked = {json.loads(line)["id"] for line in (house / "data" / "world" / "labels.jsonl").read_text().splitlines()}
    assert asked, "the circle has gone round"
    shares = ("labelling.random_share=0.25", "labelling.repeat_share=0", "labelling.show_judge=true")
    judge = ("judge.template=numbers", "judge.practice_steps=0")
    settings = " ".join((f"labelling.selection={rule}", *shares, *judge, *LENIENT))
    port = free_port()
    page = fork(house, "label", f"PORT={port}", "BATCH=20", "PEOPLE=eve", "NEW=1", f"SET={settings}")
    ((_, _, token),) = links_of(page, 1)
    folder = max((house / "labelling" / "world").iterdir(), key=lambda batch: batch.stat().st_ctime)
    items = [json.loads(line) for line in (folder / "items.jsonl").read_text().splitlines()]
    chosen = [item["selection"] for item in items if item["selection"] != "known"]
    assert set(chosen) == {"random", rule} and chosen.count("random") == pytest.approx(0.25 * len(chosen), abs=1)

    # the judge's word comes after the person's
    with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=60) as browser:
        eve = Annotator(browser, token, folder, seed=0)
        assert "the judge" not in browser.get("/").text
        assert eve.label_all(most=1) == 1
        assert "the judge prefers answer" in eve.seen or "the judge finds both equal" in eve.seen
    os.kill(page.pid, signal.SIGINT)
    page.communicate(timeout=LONGEST_START)
    assert not (folder / "closed.json").exists()
