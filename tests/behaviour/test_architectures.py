"""Every method on small models of many architectures, full and LoRA: it runs, and what it saves is the model it trained."""

import json
from itertools import cycle
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForSequenceClassification

from models.generate import generate
from models.load import check_base, load_model, load_tokenizer
from models.reward import load_reward_model, score_texts
from models.scorer import saved_class
from posttrain.errors import RequestError
from posttrain.feedback.labels import Label
from posttrain.settings.dpo import DPOSettings
from posttrain.settings.model import ModelSettings, PretrainSettings, TinySettings
from posttrain.settings.ppo import PPOSettings
from posttrain.settings.reward_model import RewardModelSettings
from posttrain.settings.sft import SFTSettings
from tasks.base_model import pretrain
from tasks.base_model import tokenizer as tokenizer_stage
from tasks.feedback.agreement import write_labels
from tasks.rewards.sources.model import ModelReward
from tasks.training import dpo, loop, ppo, reward_model, sft, sharded
from tests.architectures import CONTEXT, MATRIX, TOKENIZERS, save_base

pytestmark = [
    pytest.mark.usefixtures("one_thread"),
    # trl 1.16 and peft 0.21.2 ask transformers 5.23 by the name it had before
    pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning"),
    # peft 0.21.2 says that it turns GPT-2's layers round
    pytest.mark.filterwarnings("ignore:fan_in_fan_out is set to False:UserWarning"),
    # peft 0.21.2 looks for the experts of a mixture, which are no layers of their own
    pytest.mark.filterwarnings("ignore:The following (rank|alpha)_pattern keys did not match:RuntimeWarning"),
]

ALWAYS = ("jamba", "granite")
"""Run beside the slow ones: an own cache with experts, and no head in transformers."""
OWN_TOKENIZER = {"qwen2"}
"""transformers loads any tokenizer beside these as byte-level BPE, whatever it was saved as."""
CASES = [
    pytest.param(
        architecture,
        "bytes" if architecture in OWN_TOKENIZER else kind,
        rank,
        marks=[] if architecture in ALWAYS and rank == 0 else [pytest.mark.slow],
    )
    for architecture, kind in zip(MATRIX, cycle(TOKENIZERS), strict=False)
    for rank in (0, 2)
]
NO_LORA = {"mamba"}
"""peft takes none of what adapters are put on."""

STEPS = {"max_steps": 2, "batch_size": 4, "device_batch_size": 4, "learning_rate": 1e-3}
PPO = {"updates": 2, "episodes": 4, "mini_batch_size": 4, "epochs": 1, "max_new_tokens": 5, "min_finished": 0.0}
REWARD = {"max_steps": 2, "batch_size": 4, "learning_rate": 1e-3, "train_share": 0.5}


@pytest.fixture(autouse=True)
def quality_is_not_asked_for(monkeypatch):
    """Two steps teach a reward model nothing, and this is not about what it has learnt."""
    monkeypatch.setattr(reward_model, "check", lambda *_, **__: None)


@pytest.fixture
def saved(monkeypatch):
    """The logits of each model at the moment that it was saved, by stage."""
    logits = {}

    def watched(save):
        @torch.no_grad()
        def saving(model, tokenizer, folder):
            model.eval()
            # a stage saves into its own folder
            logits[folder.parent.name] = model(input_ids=ids(len(tokenizer))).logits
            save(model, tokenizer, folder)

        return saving

    for module in (sharded, loop):
        monkeypatch.setattr(module, "save", watched(module.save))
    return logits


def ids(vocabulary):
    return torch.randint(vocabulary, (2, 7), generator=torch.Generator().manual_seed(3))


@pytest.fixture
def world(tiny_world, world_records, tmp_path):
    """Stages on a base of some architecture."""

    def begin(architecture, kind, rank):
        folder = tmp_path / "given"
        save_base(folder, architecture, kind, (one.text for one in world_records["corpus"]))
        model = ModelSettings(base=str(folder), context=CONTEXT, lora_rank=rank, dtype="float32")
        check_base(model.source)
        out = stage_folder(tmp_path, "tokenizer")
        how = {"data": tiny_world.data, "model": model}
        tokenizer_stage.make_tokenizer(out, lambda *_: None, dataset="world", settings=TinySettings(), **how)
        tokenizer = out / "tokenizer"
        base = stage_folder(tmp_path, "base")
        pretrain.make_base(
            base,
            lambda *_: None,
            tokenizer=tokenizer,
            tiny_settings=TinySettings(),
            settings=PretrainSettings(),
            seed=0,
            **how,
        )
        shared = {"tokenizer": tokenizer, "model": model, "context": CONTEXT, "seed": 0}
        return SimpleNamespace(base=base, shared=shared, data=tiny_world.data, root=tmp_path, records=world_records)

    return begin


def stage_folder(root, name):
    (root / name).mkdir()
    return root / name


def run(world, name, train, **given):
    """Run a stage; return its folder."""
    out = stage_folder(world.root, name)
    train(out, lambda *_: None, **given, **world.shared)
    return out


def labels(world):
    """Write labels of a right and a wrong solution a question."""
    given = []
    for number, question in enumerate(world.records["questions"][:16]):
        sides = [f"Answer: {question.answers[0]}", "So 1"]
        given.append(
            Label(
                id=question.id,
                prompt=question.prompt,
                question=question.id,
                group=question.id,
                first=sides[number % 2],
                second=sides[1 - number % 2],
                preference=float(number % 2 == 0),
                annotator="simulated-0",
                source="simulated",
                gold=float(number % 2 == 0),
            )
        )
    folder = stage_folder(world.root, "labels")
    write_labels(folder, given)
    return folder


@torch.no_grad()
def reloaded_logits(out):
    plain = AutoModelForCausalLM.from_pretrained(out / "model", dtype=torch.float32).eval()
    return plain(input_ids=ids(len(load_tokenizer(out / "model")))).logits


@pytest.mark.parametrize(("architecture", "kind", "rank"), CASES)
def test_every_method_runs_or_the_base_is_refused_and_what_is_saved_reloads(world, saved, architecture, kind, rank):
    if rank and architecture in NO_LORA:
        with pytest.raises(RequestError, match=r"it takes no LoRA adapters .* Say model\.lora_rank=0 to train all"):
            world(architecture, kind, rank)
        return
    on = world(architecture, kind, rank)
    told = labels(on)
    imitated = run(on, "sft", sft.train, data=on.data, base=on.base, settings=SFTSettings(**STEPS))
    preferred = run(on, "dpo", dpo.train, labels=told, start=imitated, settings=DPOSettings(**STEPS))
    settings = RewardModelSettings(**REWARD)
    scored = run(
        on,
        "reward",
        reward_model.train,
        labels=told,
        data=on.data,
        start=imitated,
        settings=settings,
        findings=on.root / "findings",
    )
    rewarded = run(
        on,
        "ppo",
        ppo.train,
        data=on.data,
        start=imitated,
        settings=PPOSettings(**PPO),
        reward=ModelReward(name="learnt", path=scored / "model", weights="w"),
        checkpoints=on.root / "kept",
    )
    for stage, out in (("sft", imitated), ("dpo", preferred), ("ppo", rewarded)):
        torch.testing.assert_close(reloaded_logits(out), saved[stage], atol=1e-5, rtol=1e-5)
    assert (saved["sft"] - saved["dpo"]).abs().max() > 1e-4, "a model that was not trained would pass"
    check_scores(scored / "model")
    check_ends(rewarded / "model", on)


def check_scores(folder: Path):
    """The saved reward model scores in plain transformers as here, wherever transformers has a class for it."""
    reader = load_tokenizer(folder)
    (member,) = load_reward_model(folder, on=torch.device("cpu"))
    text = "Tom has 3 apples. So 3"
    (score,) = score_texts([member], reader, [text], batch_size=1)
    if saved_class(AutoConfig.from_pretrained(folder)):
        with pytest.raises(ValueError, match="Unrecognized configuration class"):
            AutoModelForSequenceClassification.from_pretrained(folder)
        return
    plain = AutoModelForSequenceClassification.from_pretrained(folder).eval()
    batch = reader(text + reader.eos_token, return_tensors="pt", return_token_type_ids=False)
    with torch.no_grad():
        told = plain(**batch).logits[0, 0].item() - plain.config.posttrain_centre
    assert score == pytest.approx(told, abs=1e-4)


def check_ends(folder: Path, on):
    """Responses end with what the base's own configuration ends them with, and the saved model says the same."""
    ends = json.loads((Path(on.shared["model"].source) / "generation_config.json").read_text())["eos_token_id"]
    assert json.loads((folder / "generation_config.json").read_text())["eos_token_id"] == ends
    reader = load_tokenizer(folder)
    model = load_model(folder, on.shared["model"], on=torch.device("cpu"))
    output = model.get_output_embeddings()
    sure = torch.nn.Linear(output.in_features, output.out_features)
    with torch.no_grad():
        sure.weight.zero_()
        sure.bias.zero_()
        sure.bias[ends] = 1e4
    model.set_output_embeddings(sure)
    ((response,),) = generate(
        model, reader, ["Tom"], samples=1, temperature=0.0, max_new_tokens=4, context=CONTEXT, batch_size=1, seed=0
    )
    assert response.is_finished and response.ids == (ends,)
