"""QLoRA: 4 bits while training, whole weights behind it; refused where nothing computes with them."""

import math

import pytest
import torch
from peft import get_peft_model
from pydantic import ValidationError
from torch.nn.functional import cross_entropy

from models import quantization, tiny
from models.load import load_model
from models.lora import lora, merged
from models.policy import policy_and_critic, reference_logprobs
from models.quantization import check_quantization, is_quantized, weights_in
from models.reward import reward_network
from models.size import size_of
from models.tokenizers import world_tokenizer
from posttrain.errors import RequestError
from posttrain.settings.model import ModelSettings, TinySettings

CPU = torch.device("cpu")
NF4 = ModelSettings(quantization="nf4", lora_rank=2, dtype="float32")
WHOLE = NF4.model_copy(update={"quantization": "none"})
IDS = torch.tensor([[1, 4, 2, 6, 3, 5]])
LENGTHS = torch.tensor([2]), torch.tensor([4])


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A small Llama-like model as save_pretrained writes it; bitsandbytes takes 4 bits in blocks of 64 weights."""
    folder = tmp_path_factory.mktemp("models") / "small"
    tokenizer = world_tokenizer(["Tom has 12 apples. So 3\n"])
    torch.manual_seed(0)
    settings = TinySettings(layers=2, width=64, heads=2)
    tiny.network(settings, vocabulary=len(tokenizer), context=64, pad=0, eos=1).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture
def needs_4_bits():
    pytest.importorskip(
        "bitsandbytes", reason="bitsandbytes is not installed here: pip install -c constraints.txt -e '.[quantization]'"
    )


def trained(network):
    """Move the adapters of a network far enough to be seen through 4 bits."""
    optimizer = torch.optim.SGD([weight for weight in network.parameters() if weight.requires_grad], lr=1.0)
    for _ in range(3):
        optimizer.zero_grad()
        logits = network(input_ids=IDS).logits
        cross_entropy(logits[0, :-1].float(), IDS[0, 1:]).backward()
        optimizer.step()
    return network.eval()


def test_without_a_gpu_it_is_refused():
    with pytest.raises(RequestError) as told:
        check_quantization(NF4, on=CPU)
    assert str(told.value) == (
        "model.quantization=nf4 saves memory of a GPU, and this machine has none that can be used. Train the adapters over whole "
        "weights: model.quantization=none"
    )


def test_without_the_package_it_is_refused(monkeypatch):
    monkeypatch.setattr(quantization, "find_spec", lambda name: None)
    with pytest.raises(
        RequestError, match=r"needs bitsandbytes: .venv/bin/pip install -c constraints.txt -e '.\[quantization\]'"
    ):
        check_quantization(NF4, on=torch.device("cuda"))
    check_quantization(WHOLE, on=CPU)


def test_without_adapters_there_is_nothing_frozen_to_quantize():
    with pytest.raises(ValidationError, match=r"without adapters none are frozen: say model.lora_rank=16 too"):
        ModelSettings(quantization="nf4")


@pytest.mark.usefixtures("needs_4_bits")
def test_only_what_is_trained_comes_in_4_bits(folder):
    assert is_quantized(load_model(folder, NF4, on=CPU, train=True))
    assert not is_quantized(load_model(folder, NF4, on=CPU)), "what samples and evaluates is whole"
    assert not is_quantized(load_model(folder, WHOLE, on=CPU, train=True))


@pytest.mark.usefixtures("needs_4_bits")
def test_weights_are_counted_and_not_bytes(folder):
    whole, packed = (load_model(folder, settings, on=CPU, train=True) for settings in (WHOLE, NF4))
    counts = [sum(map(weights_in, network.parameters())) for network in (whole, packed)]
    assert counts[0] == counts[1] > sum(weight.numel() for weight in packed.parameters())
    assert size_of(packed).frozen + size_of(packed).trained == size_of(whole).frozen + size_of(whole).trained


@pytest.mark.usefixtures("needs_4_bits")
def test_what_is_saved_is_whole_and_computes_as_it_was_trained(folder, tmp_path):
    network = trained(get_peft_model(load_model(folder, NF4, on=CPU, train=True), lora(NF4)))
    with torch.no_grad():
        wanted, untrained = network(input_ids=IDS).logits, load_model(folder, WHOLE, on=CPU)(input_ids=IDS).logits
    saved = merged(network)
    assert not is_quantized(saved) and not hasattr(saved.config, "quantization_config")
    assert all(type(module).__name__ != "Linear4bit" for module in saved.modules())
    saved.save_pretrained(tmp_path / "saved")
    with torch.no_grad():
        again = load_model(tmp_path / "saved", WHOLE, on=CPU)(input_ids=IDS).logits
    assert (again - untrained).abs().max() > 0.1, "training moved it"
    torch.testing.assert_close(again, wanted, atol=1e-4, rtol=0)  # a sum rounded to 4 bits again is further off


@pytest.mark.usefixtures("needs_4_bits")
def test_a_critic_shares_the_policys_4_bits_and_the_reference_has_no_adapters(folder):
    policy = load_model(folder, NF4, on=CPU, train=True)
    before = reference_logprobs(policy, temperature=1.0)(IDS, *LENGTHS)
    made = policy_and_critic(
        policy,
        critic="separate",
        adapters=lambda network: get_peft_model(network, lora(NF4, task="CAUSAL_LM" if network is policy else None)),
    )
    shared = {weight.data_ptr() for weight in made.policy.parameters()} & {
        weight.data_ptr() for weight in made.critic.parameters()
    }
    packed = [weight for weight in made.critic.parameters() if getattr(weight, "quant_state", None) is not None]
    assert packed and {weight.data_ptr() for weight in packed} <= shared
    assert all(weights for weights in made.parameter_groups().values())
    reference = reference_logprobs(made.policy, temperature=1.0)
    trained(made.policy)
    torch.testing.assert_close(reference(IDS, *LENGTHS), before, atol=1e-5, rtol=0)


@pytest.mark.usefixtures("needs_4_bits")
def test_a_reward_models_head_stays_whole(folder, tmp_path):
    network = reward_network(folder, NF4, on=CPU, pad=0, seed=1)
    assert is_quantized(network) and type(network.score) is torch.nn.Linear
    adapted = get_peft_model(network, lora(NF4, task="SEQ_CLS"))
    with torch.no_grad():
        adapted.get_base_model().score.weight.mul_(2.0)
        wanted = adapted(input_ids=IDS).logits
        told = merged(adapted)(input_ids=IDS).logits
    torch.testing.assert_close(told, wanted, atol=1e-4, rtol=0)
    assert math.isfinite(float(told)) and float(told.abs()) > 0
