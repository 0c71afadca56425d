"""Three annotators at once in a real browser: keys, a server that is killed, hostile answers, and every label counted."""

import re
from collections import defaultdict
from contextlib import contextmanager
from pathlib import Path
from statistics import mean

import pytest

from posttrain.feedback.agreement import agreement_of
from posttrain.labelling.answers import labels_of
from tasks.labelling.batches import read_events
from tasks.labelling.people import add_person
from tests.ports import free_port
from tests.tasks.label_batches import batch_of, item, server, serving

CHROMIUM = Path("/usr/bin/chromium")
playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed, so no browser is driven")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not CHROMIUM.exists(), reason="Debian's chromium is not installed, so no browser is driven"),
]
expect = playwright.expect
PATIENCE = 60_000
"""Milliseconds for which a condition of a page is waited for."""
PAIRS = 60
PER_ITEM = 2
NAMES = ("Ada", "Ben", "Cyd")
HOSTILE = {
    7: "<script>alert(1)</script>",
    17: '<img src="x" onerror="alert(1)"><iframe src="javascript:alert(1)"></iframe>',
    27: "[click](javascript:alert(1)) [other](https://evil.example) <a href='https://evil.example'>x</a>",
    37: "safe\u202egpj.exe\u202c \u2066abc\u2069",
    47: "</div></section></main><form action='https://evil.example'><button>1</button></form>",
}


def decision(name, number):
    """Return what a person says of a pair: which of the two is better, or that they are equal."""
    if name == "Ben" and number % 5 == 0:
        return "equal"
    return "wrong" if name == "Cyd" and number % 3 == 0 else "right"


class Annotator:
    """One person's page, driven by keys."""

    def __init__(self, browser, site, token, name):
        self.name = name
        self.context = browser.new_context(viewport={"width": 1280, "height": 800})
        self.page = self.context.new_page()
        self.page.set_default_timeout(PATIENCE)
        self.faults = []
        self.page.on("dialog", lambda dialog: (self.faults.append(f"dialog {dialog.message}"), dialog.dismiss()))
        self.page.on("pageerror", lambda error: self.faults.append(f"error {error}"))
        self.page.on("console", self._hear)
        self.page.goto(f"{site}/#{token}")
        expect(self.page.locator("body.at-work")).to_be_visible(timeout=PATIENCE)
        assert self.page.url == f"{site}/"
        assert token not in self.page.content()

    def _hear(self, message):
        if message.type == "error" and "Failed to load resource" not in message.text:  # the door's 403, and the killed server
            self.faults.append(f"console {message.text}")

    @property
    def turn(self):
        return self.page.locator("#item").get_attribute("data-turn")

    def texts(self):
        """Return the answers' texts as shown, each begins with Right or Wrong and the pair's number."""
        return self.page.locator(".answer .text").all_inner_texts()

    def number(self):
        return int(re.search(r"\d+", self.texts()[0])[0])

    def key(self, wanted):
        return "=" if wanted == "equal" else "12"[[text.split()[0].lower() for text in self.texts()].index(wanted)]

    def press(self, key):
        self.page.keyboard.press(key)

    def see_another(self, turn):
        expect(self.page.locator("#item")).not_to_have_attribute("data-turn", turn, timeout=PATIENCE)

    def do(self, key):
        """Press a key and wait for what it brings."""
        before = self.turn
        self.press(key)
        self.see_another(before)


@contextmanager
def browsing():
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=str(CHROMIUM), args=["--no-sandbox"])
        try:
            yield browser
        finally:
            browser.close()


def small_batch(folder):
    items = [
        item(f"pair-{number}", f"Right {number}. {HOSTILE.get(number, '')}", f"Wrong {number}.", prompt=f"Number {number}?")
        for number in range(PAIRS)
    ]
    batch = batch_of(folder, items, per_item=PER_ITEM)
    return items, batch, {name: add_person(batch, name).token for name in NAMES}


def test_three_annotators_and_a_server_that_is_killed(tmp_path):
    items, batch, tokens = small_batch(tmp_path)
    said = {}
    with server(tmp_path, free_port()) as one, browsing() as browser:
        people = [Annotator(browser, one.site, tokens[name], name) for name in NAMES]
        label_until(30, people, batch, said)
        undo_and_skip(people, said)
        kill_in_the_middle(people, one, said)
        label_until(PAIRS * PER_ITEM, people, batch, said)
        for person in people:
            person.page.reload()
            expect(person.page.get_by_role("heading", name="Every item of this batch has its answers")).to_be_visible(
                timeout=PATIENCE
            )
            assert not person.faults
        shown = {person.name: person.page.locator(".agreement").inner_text() for person in people}
    events = read_events(batch)
    labels = labels_of(items, events, prompt_version=batch.prompt_version)
    # nothing is lost and nothing counts twice: what was said is what is there, by person and pair
    assert len(labels) == PAIRS * PER_ITEM == len(said)
    right = {1.0: "right", 0.0: "wrong", 0.5: "equal"}
    counted = {}
    for label in labels:
        preference = label.preference if label.first.startswith("Right") else 1 - label.preference
        counted[label.annotator, int(label.first.split()[1].strip("."))] = right[preference]
    assert counted == said
    check_agreement(said, labels, shown)


def label_until(wanted, people, batch, said):
    """Let all press keys at once, until the batch has as many answers."""
    for _ in range(4 * PAIRS):
        if len(said) >= wanted:
            return
        pressed = []
        for person in people:
            before = person.turn
            if not before or len(said) >= wanted:
                continue
            number = person.number()
            if number in HOSTILE:
                see_only_text(person, number)
            said[person.name, number] = decision(person.name, number)
            person.press(person.key(said[person.name, number]))
            pressed.append((person, before))
        for person, before in pressed:
            person.see_another(before)
        if not pressed:  # what others had before them may have come back
            for person in people:
                person.page.reload()
    raise AssertionError(f"only {len(said)} of {wanted} answers were given: {batch.folder}")


def see_only_text(person, number):
    """Check that an answer that holds a page's language is shown as text and made no element."""
    found = person.page.locator("#item").locator("script, img, iframe, a, form, button")
    assert found.count() == 0
    told = " ".join(person.texts())
    shown = re.sub("[\u202c\u202e\u2066\u2069]", lambda hidden: f"U+{ord(hidden[0]):04X}", HOSTILE[number])
    assert shown in told
    assert not re.search("[\u202a-\u202e\u2066-\u2069]", person.page.content())


def undo_and_skip(people, said):
    """Ada answers wrongly and takes it back, twice in a row; Ben skips an item; Cyd reads the help and changes nothing."""
    ada, ben, cyd = people
    first, numbers = ada.texts(), []
    for _ in range(2):
        numbers.append(ada.number())
        ada.do(ada.key("wrong"))
    ada.do("u")
    assert ada.number() == numbers[1]
    ada.do("u")
    assert sorted(ada.texts()) == sorted(first)
    for number in numbers:
        assert ada.number() == number
        said[ada.name, number] = decision(ada.name, number)
        ada.do(ada.key(said[ada.name, number]))
    skipped = ben.number()
    ben.do("s")
    assert ben.number() != skipped
    before = cyd.turn
    cyd.press("?")
    expect(cyd.page.get_by_role("heading", name="What to decide")).to_be_visible(timeout=PATIENCE)
    cyd.press("1")  # the keys of the page behind it do nothing
    cyd.press("Escape")
    expect(cyd.page.get_by_role("dialog")).to_be_hidden(timeout=PATIENCE)
    assert cyd.turn == before


def kill_in_the_middle(people, one, said):
    """Kill the server while answers are under way; each page keeps its answer and sends it again under the same turn."""
    turns = {}
    for person in people:
        turns[person] = person.turn
        number = person.number()
        said[person.name, number] = decision(person.name, number)
        person.press(person.key(said[person.name, number]))
    one.kill()
    for person in people:
        state = person.page.locator("#state.unsaved")
        settled = person.page.locator(f"#state.unsaved, #item:not([data-turn='{turns[person]}'])")
        expect(settled).to_be_visible(timeout=PATIENCE)
        if person.turn != turns[person]:  # whoever has the next item already answers that one
            number = person.number()
            said[person.name, number] = decision(person.name, number)
            turns[person] = person.turn
            person.press(person.key(said[person.name, number]))
        expect(state).to_contain_text("Not saved", timeout=PATIENCE)
        assert person.turn == turns[person]
        person.press("1")  # what is kept is not replaced
        person.press("?")  # and nothing else is blocked
        expect(person.page.get_by_role("dialog")).to_be_visible(timeout=PATIENCE)
        person.press("Escape")
    ada, ben, cyd = people
    with pytest.raises(playwright.Error, match="ERR_CONNECTION_REFUSED"):
        cyd.page.reload()
    one.again()
    cyd.page.goto(one.site)  # the page that is loaded anew sends what was not saved
    ben.page.evaluate("document.getElementById('again').click()")  # unless it has been sent again already
    for person in people:
        person.see_another(turns[person])
        expect(person.page.locator("#state.unsaved")).to_have_count(
            0, timeout=PATIENCE
        )  # "Saved." stands there for a moment only
    before = ada.turn, ada.texts()
    ada.page.reload()
    assert (ada.turn, ada.texts()) == before


def check_agreement(said, labels, shown):
    """Compare agreement with what is worked out from what each person said."""
    by_pair = defaultdict(dict)
    for (name, number), what in said.items():
        by_pair[number][name] = what
    alike = {number: len(set(given.values())) == 1 for number, given in by_pair.items()}
    assert all(len(given) == PER_ITEM for given in by_pair.values())
    assert agreement_of(labels).agreement.estimate == pytest.approx(mean(alike.values()), abs=1e-12)
    for name in NAMES:
        own = mean(alike[number] for number, given in by_pair.items() if name in given)
        assert f"with others: {own:.0%} " in shown[name]


def test_no_fault_of_accessibility_and_no_text_beyond_the_edge(tmp_path):
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="axe is not installed").Axe()
    long = " ".join(f"Step {number}: add {number}." for number in range(60)) + " x" + "y" * 400
    prompt = "שלום! ما هي عاصمة فرنسا؟"
    texts = [f"{long}\n\n```\ncode = '{'z' * 300}'\n```\n\n$x^2$ {HOSTILE[37]}", long]
    kinds = {"pair": texts, "ranking": [*texts, "c"], "rating": texts[:1]}
    port = free_port()
    with browsing() as browser:
        for kind, shown in kinds.items():
            folder = tmp_path / kind
            batch = batch_of(folder, [item("one", *shown, kind=kind, prompt=prompt)])
            token = add_person(batch, "Ada").token
            with serving(batch, port) as site:
                look(axe, browser, site, token, with_all=kind == "pair")


def look(axe, browser, site, token, *, with_all):
    """Look at an item, and at its help, the end and a page that lets nobody in; on a phone and a desk, dark and light."""

    def check(page, what):
        page.wait_for_load_state("load", timeout=PATIENCE)  # the style too
        wide = page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
        assert wide == 0, f"{what} is wider than the screen by {wide} pixels"
        told = axe.run(page).response
        assert len(told["passes"]) > 10  # it did look
        found = told["violations"]
        assert not found, f"{what}: {[(one['id'], [node['html'][:200] for node in one['nodes']]) for one in found]}"

    context = browser.new_context(reduced_motion="reduce")  # else a button is between two colours for a moment
    page = context.new_page()
    page.set_default_timeout(PATIENCE)
    screens = [(390, "dark"), (1440, "light"), *([(390, "light"), (1440, "dark")] if with_all else [])]
    if with_all:
        page.goto(site)
        expect(page.get_by_role("heading", name="This page needs your personal link")).to_be_visible(timeout=PATIENCE)
        check(page, "the door")
        page.goto(f"{site}/#{'w' * 32}")
        expect(page.get_by_role("heading", name="This link is not known")).to_be_visible(timeout=PATIENCE)
    page.goto(f"{site}/#{token}")
    expect(page.locator("body.at-work")).to_be_visible(timeout=PATIENCE)
    for width, scheme in screens:
        page.set_viewport_size({"width": width, "height": 844})
        page.emulate_media(color_scheme=scheme)
        check(page, f"an item at {width} {scheme}")
    page.keyboard.press("?")
    expect(page.get_by_role("dialog")).to_be_visible(timeout=PATIENCE)
    check(page, "the help")
    page.keyboard.press("Escape")
    page.keyboard.press("s")
    expect(page.locator("#item")).to_have_attribute("data-turn", "", timeout=PATIENCE)
    check(page, "the end")
    context.close()
