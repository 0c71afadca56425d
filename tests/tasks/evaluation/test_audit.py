"""The stage `audit` on a tiny reward model, and its picture."""

import json
from io import BytesIO

import pytest
import torch
from matplotlib.image import imread
from transformers import AutoModelForSequenceClassification, LlamaConfig

from models.load import load_tokenizer, prompt_text
from posttrain.evaluation.overoptimisation import Point, Scale, best_of_n, scale_of
from posttrain.feedback.bias import label_figures
from posttrain.feedback.labels import Label
from posttrain.graders.answer import grade
from posttrain.settings.ppo import PPOSettings
from tasks.evaluation.audit import audit
from tasks.evaluation.audit_picture import Drawing, draw
from tasks.rewards.sources.table import reward_source
from tasks.workspace.jsonl import write_rows

PNG = b"\x89PNG"


def log(step, metrics):
    raise AssertionError("an audit has no curve")


@pytest.fixture(scope="module")
def artifacts(tmp_path_factory, tiny_world, world_records):
    """Artifacts of the stages that an audit reads: four samples of eight questions, of which two were learnt from."""
    root = tmp_path_factory.mktemp("artifacts")
    for name in ("samples", "labels", "reward", "ppo"):
        (root / name).mkdir()
    questions = world_records["questions"][:8]
    rows = [
        {
            "question": question.model_dump(mode="json"),
            "responses": [
                [f"Answer: {question.answers[0]}", True],
                ["Answer: 5000", True],
                ["Answer: 5000", True],
                [f"1 + {number} = 6", False],
            ],
        }
        for number, question in enumerate(questions)
    ]
    open_ended = {"question": {"id": "poem", "prompt": "Write a poem."}, "responses": [["Roses", True]]}
    write_rows(root / "samples" / "samples.jsonl", [*rows, open_ended])
    labels = [
        Label(
            id=str(number),
            question=row["question"]["id"],
            group=row["question"]["id"],
            prompt=row["question"]["prompt"],
            first=row["responses"][3 * (number % 2)][0],
            second=row["responses"][3 * (1 - number % 2)][0],
            preference=float(number % 3 > 0),
            gold=float(number % 2 == 0),
            annotator="simulated-0",
            source="simulated",
            first_model="sft",
            second_model="sft",
        )
        for number, row in enumerate(rows)
    ]
    write_rows(root / "labels" / "labels.jsonl", (one.model_dump(mode="json") for one in labels))
    reader = load_tokenizer(tiny_world.tokenizer)
    torch.manual_seed(0)
    shape = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
    config = LlamaConfig(vocab_size=len(reader), pad_token_id=reader.pad_token_id, num_labels=1, initializer_range=0.4, **shape)
    AutoModelForSequenceClassification.from_config(config).save_pretrained(root / "reward" / "model")
    reader.save_pretrained(root / "reward" / "model")
    (root / "reward" / "trained_on.json").write_text(json.dumps([question.id for question in questions[:2]]))
    pairs = [(1.0, 1.0, 1.0), (-1.0, 0.0, 1.0), (2.0, 1.0, 1.0), (0.5, 1.0, 1.0), (3.0, 1.0, None)]
    write_rows(
        root / "reward" / "pairs.jsonl",
        ({"first_score": gap, "second_score": 0.0, "preference": said, "gold": gold} for gap, said, gold in pairs),
    )
    curve = [{"step": n, "ppo/reward": 0.1 * n, "ppo/gold": 0.5 - 0.02 * n, "ppo/kl": 0.3 * (n - 1)} for n in range(1, 9)]
    write_rows(root / "ppo" / "curves.jsonl", curve)
    return root


def audited(out, artifacts, tiny_world, *, has_reward=True, has_labels=True, **changes):
    out.mkdir()
    given = {
        "title": "rlhf on world, seed 0",
        "proxy_name": "reward model of simulated annotators",
        "samples": artifacts / "samples",
        "labels": artifacts / "labels" if has_labels else None,
        "reward": artifacts / "reward" if has_reward else None,
        "ppo": artifacts / "ppo",
        "tokenizer": tiny_world.tokenizer,
        "settings": PPOSettings(patience=2),
        "max_questions": 0,
        "seed": 0,
    }
    outcome = audit(out, log, **(given | changes))
    assert (out / "audit.png").read_bytes().startswith(PNG)
    return outcome, json.loads((out / "audit.json").read_text())


def expected_scores(artifacts, tiny_world, *, skipped):
    """Return proxy and gold of each question's samples, scored one question at a time."""
    reader = load_tokenizer(tiny_world.tokenizer)
    score = reward_source(f"model:{artifacts / 'reward' / 'model'}", partial_credit=0.0, registered=None).load()
    rows = [json.loads(line) for line in (artifacts / "samples" / "samples.jsonl").read_text().splitlines()][skipped:8]
    proxy, gold = [], []
    for row in rows:
        texts = [text for text, _ in row["responses"]]
        prompt = prompt_text(reader, row["question"]["prompt"])
        proxy.append(list(score([prompt] * 4, texts, [row["question"]] * 4).values))
        gold.append([float(grade(text, row["question"]["answers"]).is_right) for text in texts])
    return proxy, gold


def test_samples_of_questions_that_the_reward_model_did_not_learn_from_are_scored(tmp_path, artifacts, tiny_world):
    outcome, told = audited(tmp_path / "out", artifacts, tiny_world)
    proxy, gold = expected_scores(artifacts, tiny_world, skipped=2)
    expected = best_of_n(proxy, gold)
    assert [row["n"] for row in told["best_of_n"]] == [1, 2, 3, 4]
    for row, one in zip(told["best_of_n"], expected, strict=True):
        assert row["proxy"]["estimate"] == pytest.approx(one.proxy.estimate, abs=1e-5)
        assert row["gold"] == pytest.approx(one.gold.as_dict())
        assert row["gold_gain"] == pytest.approx(one.gold_gain.as_dict())
    assert told["best_of_n"][0]["gold"]["estimate"] == pytest.approx(1 / 4), "one of four is right"
    assert told["scales"]["proxy"]["deviation"] == pytest.approx(scale_of(proxy).deviation, abs=1e-5)
    everyone = best_of_n(*expected_scores(artifacts, tiny_world, skipped=0))
    assert everyone[0].proxy.estimate != pytest.approx(expected[0].proxy.estimate, abs=1e-4), "the test could not tell"
    assert outcome.metrics["best_of_n"] == 4
    assert outcome.metrics["best_of_n_gold"] == pytest.approx(expected[-1].gold.estimate)
    assert told["left_out"] == {}


def test_the_end_of_ppo_is_the_mean_of_its_last_updates_on_the_samples_scale(tmp_path, artifacts, tiny_world):
    outcome, told = audited(tmp_path / "out", artifacts, tiny_world)
    proxy, gold = (scale_of(scores) for scores in expected_scores(artifacts, tiny_world, skipped=2))
    end = told["end"]
    assert (end["kl"], end["proxy"], end["gold"]) == pytest.approx((0.3 * 6.5, 0.75, 0.35)), "the mean of updates 7 and 8"
    assert (end["proxy_start"], end["gold_start"]) == pytest.approx((proxy.mean, gold.mean), abs=1e-5)
    assert end["proxy_gain"] == pytest.approx((0.75 - proxy.mean) / proxy.deviation, abs=1e-4)
    assert end["gold_gain"] == pytest.approx((0.35 - gold.mean) / gold.deviation)
    assert end["gap"] == pytest.approx(end["proxy_gain"] - end["gold_gain"]) == outcome.metrics["end_gap"]
    assert [point["sqrt_kl"] ** 2 for point in told["ppo"]] == pytest.approx([0.3 * n for n in range(8)])


def test_labels_are_told(tmp_path, artifacts, tiny_world):
    outcome, told = audited(tmp_path / "out", artifacts, tiny_world)
    reader = load_tokenizer(tiny_world.tokenizer)
    labels = [Label.model_validate_json(line) for line in (artifacts / "labels" / "labels.jsonl").read_text().splitlines()]
    assert told["labels"] == label_figures(labels, length=lambda text: len(reader(text)["input_ids"])) != label_figures(labels)
    assert outcome.metrics["labels_agreement_gold"] == told["labels"]["agreement_gold"] == 3 / 8


@pytest.mark.parametrize(("most", "asked", "scored"), [(3, 0, 3), (3, 4, 3), (2_000, 3, 3), (2_000, 6, 6), (2_000, 0, 6)])
def test_of_more_questions_than_are_asked_for_the_seed_decides_which_are_scored(
    tmp_path, artifacts, tiny_world, monkeypatch, most, asked, scored
):
    counted = []
    monkeypatch.setattr("tasks.evaluation.audit.MOST_QUESTIONS", most)
    monkeypatch.setattr("tasks.evaluation.audit.best_of_n", lambda *scores: counted.append(len(scores[0])) or best_of_n(*scores))
    first, again, other = (
        audited(tmp_path / str(n), artifacts, tiny_world, seed=n // 2, max_questions=asked)[1] for n in range(3)
    )
    assert counted == [scored] * 3
    assert first == again and (first == other) == (scored == 6)


@pytest.mark.parametrize(
    ("changes", "left_out"),
    [
        ({"has_reward": False}, {"best_of_n": "PPO was not rewarded by a reward model made here, so none scored the samples"}),
        ({"samples": None}, {"best_of_n": "nothing was sampled from the model that PPO started from"}),
    ],
)
def test_what_cannot_be_measured_is_left_out_with_the_reason(tmp_path, artifacts, tiny_world, changes, left_out):
    outcome, told = audited(tmp_path / "out", artifacts, tiny_world, has_labels=False, **changes)
    assert told["left_out"] == left_out
    assert told["best_of_n"] is told["scales"] is told["labels"] is None
    assert not {"end_gap", "best_of_n_gold", "labels_labels"} & set(outcome.metrics)
    assert outcome.metrics["end_gold"] == pytest.approx(0.35) and outcome.metrics["end_gold_start"] == pytest.approx(0.48)


def altered(tmp_path, artifacts, rows=None, **files):
    """Return the reward model's artifact with other files beside the model, or samples with other rows."""
    if rows is not None:
        (tmp_path / "samples").mkdir()
        write_rows(tmp_path / "samples" / "samples.jsonl", rows)
        return tmp_path / "samples"
    folder = tmp_path / "reward"
    folder.mkdir()
    (folder / "model").symlink_to(artifacts / "reward" / "model")
    for name in ("trained_on.json", "pairs.jsonl"):
        (folder / name).write_text(files.get(name.partition(".")[0], (artifacts / "reward" / name).read_text()))
    return folder


def test_where_everything_was_learnt_from_nothing_is_scored(tmp_path, artifacts, tiny_world):
    rows = [json.loads(line) for line in (artifacts / "samples" / "samples.jsonl").read_text().splitlines()]
    reward = altered(tmp_path, artifacts, trained_on=json.dumps([row["question"]["id"] for row in rows[1:]]))
    _, told = audited(tmp_path / "out", artifacts, tiny_world, reward=reward)
    assert told["left_out"] == {"best_of_n": "fewer than two questions have answers and were kept from the reward model"}


def test_where_no_sample_is_better_than_another_there_is_no_scale(tmp_path, artifacts, tiny_world):
    rows = [json.loads(line) for line in (artifacts / "samples" / "samples.jsonl").read_text().splitlines()]
    wrong = [row | {"responses": row["responses"][1:]} for row in rows]
    outcome, told = audited(tmp_path / "out", artifacts, tiny_world, samples=altered(tmp_path, artifacts, rows=wrong))
    assert told["left_out"] == {
        "gap": "proxy or gold is the same for all samples of each question: there is no scale to compare on"
    }
    assert told["best_of_n"][1]["gold"]["estimate"] == 0 and "end_gap" not in outcome.metrics


# --- the picture --------------------------------------------------------------------------------------------------------

POINTS = [Point(update=n, kl=0.2 * n, proxy=0.1 * n, gold=0.4 + 0.01 * n) for n in range(1, 9)]
PICKED = best_of_n([[1, 2, 3, 4]] * 3, [[0, 1, 0, 1]] * 3)
SCALES = Scale(0.1, 0.5), Scale(0.4, 0.3)


def drawn(**changes):
    given = {"title": "t", "proxy_name": "a proxy", "points": POINTS, "smooth": POINTS, "best_of_n": PICKED, "scales": SCALES}
    return draw(Drawing(**(given | changes)))


def test_every_kind_of_run_has_a_picture_of_one_size():
    bare = [Point(update=one.update, kl=one.kl, proxy=one.proxy, gold=None) for one in POINTS]
    same = [Point(update=one.update, kl=one.kl, proxy=one.proxy, gold=one.proxy) for one in POINTS]
    alone = {"scales": None, "best_of_n": []}
    pictures = [
        drawn(),
        drawn(points=bare, smooth=bare),
        drawn(**alone),
        drawn(points=bare, smooth=bare, **alone),
        drawn(points=same, smooth=same, **alone),
        drawn(points=POINTS[:1], smooth=POINTS[:1]),
    ]
    assert {imread(BytesIO(png)).shape for png in pictures} == {(840, 1350, 4)}
    assert len(set(pictures)) == len(pictures)
    assert drawn() == drawn()
