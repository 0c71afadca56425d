"""What KTO is told: which responses of which kind, at which weights, with EOS where they ended, and company in every batch."""

from types import SimpleNamespace

import pytest

from models.load import load_tokenizer
from posttrain.errors import DataError, RequestError
from posttrain.feedback.labels import Label
from posttrain.settings.config import merge
from posttrain.settings.kto import KTOSettings
from posttrain.settings.model import ModelSettings
from tasks.training import kto
from tasks.workspace.jsonl import write_rows

# trl 1.16 and peft 0.21.2 ask transformers 5.23 by the name it had before
pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")


def label(first, second, preference, *, prompt="1 + 1?", **more):
    return Label(
        id=f"{prompt}/{first}/{second}",
        prompt=prompt,
        question=prompt,
        group=prompt,
        first=first,
        second=second,
        preference=preference,
        annotator="somebody",
        source="person",
        **more,
    )


def run(folder, tiny_world, labels, *, seed=0, **settings):
    """Train on the labels; return the stage's outcome."""
    (folder / "out").mkdir()
    write_rows(folder / "labels.jsonl", (each.model_dump(mode="json") for each in labels))
    return kto.train(
        folder / "out",
        lambda *_: None,
        labels=folder,
        start=tiny_world.base,
        tokenizer=tiny_world.tokenizer,
        model=ModelSettings(context=tiny_world.context),
        settings=KTOSettings(**{"epochs": 1, "learning_rate": 1e-3, "warmup_ratio": 0.0, **settings}),
        context=tiny_world.context,
        seed=seed,
    )


@pytest.fixture
def seen(monkeypatch):
    """The rows that the trainer was given, and its configuration, as it begins."""
    found = SimpleNamespace()
    trained, tokenised = kto.EndsAsSampled.train, kto.tokenised

    def given(reader, examples):
        found.examples = examples
        return tokenised(reader, examples)

    monkeypatch.setattr(kto, "tokenised", given)

    def train(trainer):
        texts = [{"prompt": prompt, "completion": response} for prompt, response, _ in found.examples]
        texts += texts[: len(trainer.train_dataset) - len(texts)]  # the company of a last row
        found.rows = [{**row, **text} for row, text in zip(trainer.train_dataset, texts, strict=True)]
        found.told = trainer.args
        return trained(trainer)

    monkeypatch.setattr(kto.EndsAsSampled, "train", train)
    return found


# --- settings ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("desirable_weight", "undesirable_weight", "weights"),
    [
        (None, None, (3.0, 1.0)),  # 10 desirable against 30: 3 × 10 = 1 × 30
        (None, 2.0, (6.0, 2.0)),
        (1.5, None, (1.5, 0.5)),
        (1.0, 1.0, (1.0, 1.0)),  # what is given stands
    ],
)
def test_weights_balance_the_counts_by_hand(tmp_path, desirable_weight, undesirable_weight, weights):
    settings = KTOSettings(beta=0.3, desirable_weight=desirable_weight, undesirable_weight=undesirable_weight)
    told = kto.arguments(tmp_path, settings, model=ModelSettings(), epochs=1, ratio=30 / 10, context=77, seed=5)
    assert (told.desirable_weight, told.undesirable_weight) == pytest.approx(weights)
    assert (told.beta, told.max_length, told.seed, told.loss_type) == (0.3, 77, 5, "kto")


def test_where_desirable_responses_abound_the_others_weigh_more(tmp_path):
    told = kto.arguments(tmp_path, KTOSettings(), model=ModelSettings(), epochs=1, ratio=10 / 30, context=77, seed=5)
    assert (told.desirable_weight, told.undesirable_weight) == pytest.approx((1.0, 3.0))


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ("kto.batch_size=1", "kto.batch_size must be at least 2, got 1"),
        ("kto.desirable_weight=0", "kto.desirable_weight must be greater than 0.0, got 0"),
        (
            "kto.batch_size=7 kto.device_batch_size=4",
            "kto: batch_size must have a divisor from 2 to device_batch_size, got 7: make it even",
        ),
    ],
)
def test_a_batch_without_company_is_refused_before_anything_runs(words, sentence):
    """The KL term is estimated on other responses of the same device's batch, so a device takes two at least."""
    with pytest.raises(RequestError) as caught:
        merge({}, words.split())
    assert str(caught.value) == sentence


@pytest.mark.parametrize(("asked", "on_device", "a_device"), [(7, 7, 7), (9, 4, 3), (10, 4, 2), (2, 64, 2)])
def test_a_device_takes_two_responses_at_least(tmp_path, asked, on_device, a_device):
    settings = KTOSettings(batch_size=asked, device_batch_size=on_device)
    told = kto.arguments(tmp_path, settings, model=ModelSettings(), epochs=1, ratio=1, context=77, seed=5)
    assert told.per_device_train_batch_size == a_device


# --- rows -------------------------------------------------------------------------------------------------------------


def test_each_response_is_learnt_from_once_a_prompt(tiny_world, tmp_path, seen):
    """a beats b and c, b beats c, d and e are even; the same text under another prompt is another response."""
    labels = [label("a", "b", 1.0), label("c", "a", 0.0), label("b", "c", 0.9), label("d", "e", 0.5)]
    told = run(tmp_path, tiny_world, [*labels, label("b", "a", 1.0, prompt="2 + 2?")]).metrics
    rows = sorted((row["prompt"].strip(), row["completion"].split("<")[0], row["label"]) for row in seen.rows)
    assert rows == [("1 + 1?", "a", True), ("1 + 1?", "c", False), ("2 + 2?", "a", False), ("2 + 2?", "b", True)]
    assert (told["desirable"], told["undesirable"], told["equal_pairs"], told["cut_off"]) == (2, 2, 1, 0)


def test_eos_stands_behind_what_ended_in_the_mismatched_rows_too(tiny_world, tmp_path, seen):
    flags = [(True, False), (False, True), (None, None), (False, False)]
    labels = [
        label(f"1 + {n} = 3", f"2 + {n} = 4. So 4", 1.0, prompt=f"{n}?", first_finished=one, second_finished=other)
        for n, (one, other) in enumerate(flags)
    ]
    told = run(tmp_path, tiny_world, labels, batch_size=4)
    eos = load_tokenizer(tiny_world.tokenizer).eos_token_id
    ended = {f"{n}?{which}": flag is not False for n, pair in enumerate(flags) for which, flag in zip("+-", pair, strict=True)}
    for row in seen.rows:
        wanted = ended[f"{row['prompt'].strip()}{'+' if row['label'] else '-'}"]
        assert (row["completion_ids"][-1] == eos, row["completion_ids"].count(eos)) == (wanted, int(wanted))
    for first in (0, 4):  # TRL estimates the KL term in each batch of 4 on its own responses, each moved on by one
        batch = [row["completion_ids"] for row in seen.rows[first : first + 4]]
        assert [row["KL_completion_ids"] for row in seen.rows[first : first + 4]] == [batch[-1], *batch[:-1]]
    assert told.metrics["cut_off"] == 4


def test_a_last_batch_of_one_gets_company(tiny_world, tmp_path, seen):
    """Alone it would stand behind its own prompt, and the KL term would be its reward."""
    labels = [label(*pair, 1.0) for pair in ("12", "23", "24", "51", "53")]
    run(tmp_path, tiny_world, labels, batch_size=3)  # 2 and 5 won, 3 and 4 lost, 1 won as often as it lost
    assert len(seen.rows) == 5 and seen.rows[4]["completion_ids"] == seen.rows[0]["completion_ids"]
    assert seen.rows[3]["KL_completion_ids"] == seen.rows[0]["completion_ids"] != seen.rows[3]["completion_ids"]


def test_another_seed_reads_in_another_order(tiny_world, tmp_path, seen):
    labels = [label("a", "b", 1.0, prompt=f"{n}?") for n in range(8)]
    orders = []
    for name, seed in (("one", 0), ("again", 0), ("other", 1)):
        (tmp_path / name).mkdir()
        run(tmp_path / name, tiny_world, labels, seed=seed, batch_size=16)
        orders.append([(row["prompt"], row["label"]) for row in seen.rows])
    assert orders[0] == orders[1] != orders[2] and sorted(orders[0]) == sorted(orders[2])
    assert orders[0] != sorted(orders[0]), "neighbours of one prompt would estimate the KL term on each other"


@pytest.mark.parametrize(
    ("labels", "pairs", "equal"),
    [
        ([label("a", "b", 0.5), label("c", "d", 1.0), label("d", "c", 1.0)], 2, 2),
        ([label("a", "b", 1.0), label("b", "c", 1.0), label("c", "a", 1.0)], 3, 0),  # in a circle, each wins once
    ],
)
def test_labels_that_decide_nothing_are_refused(tiny_world, tmp_path, labels, pairs, equal):
    with pytest.raises(DataError) as caught:
        run(tmp_path, tiny_world, labels)
    assert str(caught.value) == (
        f"KTO has nothing to learn from: of the {pairs} pairs that were labelled, {equal} have no better response (labels "
        "average to 0.5); in others a response wins as often as it loses. Ask more annotators or another judge (labels.*)"
    )
