"""KTO on the tiniest world: it starts at half of its weights, parts desirable from undesirable responses, and repeats itself."""

from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import load_file

from models.encoding import response_ids
from models.load import load_model, load_tokenizer
from models.logprobs import score_responses
from models.size import size_of
from posttrain.errors import ContractError
from posttrain.feedback.labels import Label, as_verdicts
from posttrain.records import Demonstration
from posttrain.settings.kto import KTOSettings
from posttrain.settings.model import ModelSettings
from tasks.feedback.labels import read_labels
from tasks.training import kto
from tasks.workspace.jsonl import read_records, write_rows

pytestmark = [
    pytest.mark.slow,
    # trl 1.16 and peft 0.21.2 ask transformers 5.23 by the name it had before
    pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning"),
]

KTO = KTOSettings(epochs=3, batch_size=16, learning_rate=1e-3, beta=0.3)


@pytest.fixture(scope="module")
def labels(tiny_world, tmp_path_factory):
    """Careful solutions over two careless ones each: 32 desirable responses and 64 undesirable ones."""
    folder = tmp_path_factory.mktemp("labels")
    rows = [
        Label(
            id=f"{one.id}-{ending}",
            prompt=one.prompt,
            question=one.id,
            group=one.id,
            first=one.completion,
            second=f"{one.completion.partition('. ')[0]}. So {ending}",
            preference=1.0,
            annotator="somebody",
            source="person",
        )
        for one in read_records(tiny_world.data / "demonstrations.jsonl", Demonstration)
        for ending in ("7 apples", "none")
    ]
    write_rows(folder / "labels.jsonl", (row.model_dump(mode="json") for row in rows))
    return folder


def run(out, tiny_world, labels, *, settings=KTO, seed=0):
    out.mkdir()
    points = []
    outcome = kto.train(
        out,
        lambda step, figures: points.append((step, figures)),
        labels=labels,
        start=tiny_world.base,
        tokenizer=tiny_world.tokenizer,
        model=ModelSettings(context=tiny_world.context),
        settings=settings,
        context=tiny_world.context,
        seed=seed,
    )
    return SimpleNamespace(outcome=outcome, points=points, model=out / "model")


@pytest.fixture(scope="module")
def after(tiny_world, labels, tmp_path_factory):
    return run(tmp_path_factory.mktemp("kto") / "out", tiny_world, labels)


def weights(folder):
    return load_file(folder / "model.safetensors")


def rewards(folder, tiny_world, labels):
    """Return log p over log q of each response, q being the base, and which are desirable."""
    verdicts, reader = as_verdicts(read_labels(labels)), load_tokenizer(tiny_world.tokenizer)
    asked = [f"{each.prompt}\n" for each in verdicts]
    ids = response_ids(reader, asked, [each.response for each in verdicts], ends=[reader.eos_token_id] * len(asked))
    one, other = (
        score_responses(
            load_model(path, ModelSettings(), on=torch.device("cpu")), reader, asked, ids, temperature=1.0, batch_size=16
        )
        for path in (folder, tiny_world.base / "model")
    )
    return one - other, torch.tensor([each.is_desirable for each in verdicts])


def test_kto_parts_desirable_from_undesirable_responses(after, tiny_world, labels):
    reward, is_desirable = rewards(after.model, tiny_world, labels)
    assert reward[is_desirable].mean() > reward[~is_desirable].mean() + 1
    told = after.outcome.metrics
    assert (told["desirable"], told["undesirable"], told["desirable_weight"], told["undesirable_weight"]) == (32, 64, 2.0, 1.0)
    assert told["margin"] > 0.3 and after.points[-1][1]["loss"] < after.points[0][1]["loss"]


def test_the_first_loss_is_half_the_mean_weight(tiny_world, labels, tmp_path):
    """Policy and reference are one model at first: rewards and KL term are 0, and λ (1 - σ(0)) is half of λ.

    All 96 responses in one batch: (32 × 2 + 64 × 1) / 96 / 2 = 2/3. Unweighted it would be 1/2.
    """
    at_once = KTOSettings(epochs=1, batch_size=96, device_batch_size=96, learning_rate=1e-3, warmup_ratio=0.0)
    first = run(tmp_path / "out", tiny_world, labels, settings=at_once).points[0][1]
    assert first["loss"] == pytest.approx(2 / 3, abs=1e-4)
    assert [first[name] for name in ("rewards/chosen", "rewards/rejected", "kl")] == pytest.approx([0, 0, 0], abs=1e-4)


def test_the_margin_told_is_beta_times_that_of_the_log_probabilities(tiny_world, labels, tmp_path):
    """Two epochs of one step each: the second step tells the margin that the first one has made."""
    how = {"batch_size": 96, "device_batch_size": 96, "learning_rate": 1e-3, "warmup_ratio": 0.0, "beta": 0.2}
    twice = run(tmp_path / "twice", tiny_world, labels, settings=KTOSettings(epochs=2, **how))
    once = run(tmp_path / "once", tiny_world, labels, settings=KTOSettings(epochs=1, **how))
    reward, is_desirable = rewards(once.model, tiny_world, labels)
    wanted = 0.2 * (reward[is_desirable].mean() - reward[~is_desirable].mean()).item()
    assert twice.points[1][1]["rewards/margins"] == pytest.approx(wanted, rel=1e-2)
    assert wanted > 0.01


def test_what_is_read_besides_is_paid_for(after, tiny_world):
    """The reference reads each response behind its prompt and behind another; the policy reads the latter in every step."""
    costs = after.outcome.costs
    size = size_of(load_model(after.model, ModelSettings(), on=torch.device("cpu"))).weights
    once = costs["trained_tokens"] / KTO.epochs
    assert costs["forward_tokens"] == 2 * once + costs["trained_tokens"] > 0
    assert costs["flops"] == 6 * size * costs["trained_tokens"] + 2 * size * costs["forward_tokens"]


def test_kto_repeats_itself_bit_for_bit_and_follows_its_seed(after, tiny_world, labels, tmp_path):
    again, other = (weights(run(tmp_path / str(seed), tiny_world, labels, seed=seed).model) for seed in (0, 1))
    assert all(torch.equal(weight, again[name]) for name, weight in weights(after.model).items())
    assert any(not torch.equal(weight, other[name]) for name, weight in again.items())


def test_a_training_that_moves_no_weight_is_refused(tiny_world, labels, tmp_path):
    still = KTOSettings(epochs=1, batch_size=96, learning_rate=1e-30)
    with pytest.raises(ContractError, match=r"kto ended with the very weights .* Raise kto\.learning_rate"):
        run(tmp_path / "out", tiny_world, labels, settings=still)
