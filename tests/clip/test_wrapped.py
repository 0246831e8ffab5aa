"""Text towers of transformers, against open_clip's own forward pass.

A stand-in in the form of transformers' modules takes their place, so that nothing is installed; with the package,
the real towers are compared as well.
"""

import json
from types import SimpleNamespace

import pytest
import torch
from open_clip import hf_model
from open_clip.model import CustomTextCLIP
from torch import nn

from clip import wrapped
from clip.backbones import Backbone
from clip.errors import BackboneError
from clip.facts import text_part
from clip.openclip import Description, build_network
from clip.precision import choose_precision
from clip.tokenizer import foreign
from tests.clip.architectures import VIT, Words
from tests.clip.test_architectures import N_CTX, NAMES, TOLERANCE
from tests.clip.test_tree import assert_close, gradient

KINDS = {
    "bert": ("cls_last_hidden_state_pooler", "mlp"),
    "roberta": ("mean_pooler", "mlp"),
    "mt5": ("mean_pooler", "linear"),
    "stand-in": ("mean_pooler", "mlp"),
    "stand-in, first": ("cls_last_hidden_state_pooler", "linear"),
}
SIZES = {"vocab_size": 500, "pad_token_id": 1, "hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 3}
T5 = {"d_model": 24, "d_kv": 8, "d_ff": 32, "num_layers": 2, "num_heads": 3}


class StandIn(nn.Module):
    """A bidirectional tower in the form of transformers' BertModel."""

    def __init__(self):
        super().__init__()
        self.table, self.places = nn.Embedding(500, 24), nn.Embedding(40, 24)
        layer = nn.TransformerEncoderLayer(24, 3, 32, batch_first=True)
        self.layers = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)

    def get_input_embeddings(self):
        return self.table

    def forward(self, input_ids=None, inputs_embeds=None, attention_mask=None):
        embedded = self.table(input_ids) if inputs_embeds is None else inputs_embeds
        placed = embedded + self.places.weight[: embedded.shape[1]]
        return SimpleNamespace(last_hidden_state=self.layers(placed, src_key_padding_mask=attention_mask == 0))


def tower(kind):
    """open_clip's text tower with random weights."""
    pooler, projection = KINDS[kind]
    if not kind.startswith("stand-in"):
        transformers = pytest.importorskip("transformers")
        sizes = T5 if kind == "mt5" else {**SIZES, "intermediate_size": 32, "max_position_embeddings": 40}
        config = transformers.AutoConfig.for_model(kind, **{**sizes, "vocab_size": 500, "pad_token_id": 1})
        config.return_dict = True
        if kind == "mt5":
            made = hf_model.HFTextEncoder("", 16, transformers.AutoConfig.for_model("bert"), pooler, projection)
            made.config, made.transformer = config, transformers.AutoModel.from_config(config).encoder
            made.proj = nn.Linear(24, 16, bias=False)
            return made
        return hf_model.HFTextEncoder("", 16, config, pooler, projection)
    made = object.__new__(hf_model.HFTextEncoder)
    nn.Module.__init__(made)
    made.config = SimpleNamespace(model_type="bert", max_position_embeddings=40, **SIZES)
    made.transformer, made.pooler = StandIn(), hf_model._POOLERS[pooler]()
    made.output_tokens, made.output_dim = False, 16
    layers = [nn.Linear(24, 20, bias=False), nn.GELU(), nn.Linear(20, 16, bias=False)]
    made.proj = nn.Sequential(*layers) if projection == "mlp" else nn.Linear(24, 16, bias=False)
    return made


def network(kind, dtype=torch.float32):
    """A network with this text tower."""
    torch.manual_seed(0)
    model = CustomTextCLIP(16, VIT, {"width": 48, "heads": 3, "layers": 1})
    model.text = tower(kind)
    return model.to(dtype).eval().requires_grad_(False)


def backbone_of(model, precision="fp32", length=24):
    chosen = choose_precision(precision, torch.device("cpu"))
    words = foreign(Words((0,), end=2, pad_id=1), length)
    return Backbone(model, chosen, name="wrapped", digest="0", tokenizer=words)


@pytest.fixture(params=KINDS)
def kind(request):
    return request.param


@pytest.mark.parametrize("dtype", TOLERANCE)
def test_features_and_gradients_equal_those_of_open_clip(kind, dtype):
    model = network(kind, dtype)
    encoder = backbone_of(model).text.to(dtype)
    assert encoder.encoding == "cut"
    layout = encoder.layout(NAMES, n_ctx=N_CTX)
    assert layout.slots.shape[1] < layout.tokens.shape[1] == 24
    for groups in (1, len(NAMES)):
        contexts = torch.randn(groups, N_CTX, encoder.width, dtype=dtype, requires_grad=True)
        mine = encoder(layout, contexts)
        put = contexts.expand(len(NAMES), -1, -1)

        def hook(module, given, embedded, put=put):
            return torch.cat([embedded[:, :1], put, embedded[:, 1 + N_CTX :]], dim=1)

        handle = encoder.token_embedding.register_forward_hook(hook)
        theirs = model.encode_text(layout.tokens, normalize=False)
        handle.remove()
        assert_close(mine, theirs, TOLERANCE[dtype])
        assert_close(gradient(mine, contexts), gradient(theirs, contexts), TOLERANCE[dtype])


def test_plain_texts_and_facts(kind):
    model = network(kind)
    backbone = backbone_of(model)
    tokens = backbone.tokenize([f"a photo of a {name}" for name in NAMES])
    torch.testing.assert_close(
        backbone.encode_text(tokens), model.encode_text(tokens, normalize=False), rtol=1e-4, atol=1e-5
    )
    assert (backbone.embed_dim, backbone.text_width, backbone.context_length) == (16, 24, 24)
    assert "not causal" in backbone.text.facts.reason()
    assert backbone.text.phrase_vectors("a photo").shape == (2, 24)


@pytest.mark.parametrize("precision", ["bf16", "amp"])
def test_low_precision(kind, precision):
    model = network(kind)
    exact = backbone_of(model)
    low = backbone_of(network(kind).bfloat16() if precision == "bf16" else model, precision)
    contexts = torch.randn(1, N_CTX, 24, requires_grad=True)
    mine, theirs = (each.text(each.text.layout(NAMES, n_ctx=N_CTX), contexts) for each in (low, exact))
    assert torch.cosine_similarity(mine.float(), theirs).min() > 0.98
    assert torch.isfinite(gradient(mine.float(), contexts)).all()


def test_what_such_a_tower_does_not_take_is_refused_by_its_name():
    model = network("stand-in")
    encoder = backbone_of(model).text
    layout = encoder.layout(NAMES, n_ctx=N_CTX)
    with pytest.raises(BackboneError, match=r"StandIn of transformers takes no learned rows between its blocks"):
        encoder(layout, torch.zeros(1, N_CTX, 24), deep={1: torch.zeros(N_CTX, 24)})
    text_part(model).pooler = hf_model.MaxPooler()
    with pytest.raises(BackboneError, match=r"StandIn is read by MaxPooler, which is not known; known are MeanPooler"):
        backbone_of(model)


def test_a_text_is_as_long_as_tokenizer_and_tower_allow():
    assert backbone_of(network("stand-in"), length=64).context_length == 40
    assert backbone_of(network("stand-in"), length=24).context_length == 24


def test_the_config_of_a_tower_is_found_and_runs_no_code(tmp_path, monkeypatch):
    monkeypatch.setattr(wrapped.hub, "find", lambda *given: None)
    monkeypatch.setattr(wrapped.hub, "check_reachable", lambda: (_ for _ in ()).throw(ConnectionError("no route")))
    with pytest.raises(BackboneError, match=r"the text tower a/bert \(config.json of .* failed \(no route\)"):
        wrapped.config_folder("a/bert", tmp_path)
    (tmp_path / "text").mkdir()
    path = tmp_path / "text" / "config.json"
    for said in ({"model_type": "gpt2"}, {"model_type": "bert", "auto_map": {"AutoModel": "evil.Model"}}, {}):
        path.write_text(json.dumps(said))
        with pytest.raises(BackboneError, match=r"describes a text tower of the kind .*known are roberta"):
            wrapped.config_folder("a/bert", tmp_path)
    path.write_text(json.dumps({"model_type": "bert"}))
    assert wrapped.config_folder("a/bert", tmp_path) == tmp_path / "text"


def test_without_the_package_its_name_is_said(monkeypatch):
    monkeypatch.setattr(hf_model, "transformers", None)
    said = {"embed_dim": 16, "vision_cfg": VIT, "text_cfg": {"hf_model_name": "a/bert"}}
    with pytest.raises(BackboneError, match=r"needs the package transformers; install it \(pip install transformers"):
        build_network(Description("here", said), {}, source="w.pt")


def test_a_network_is_built_from_a_folder(tmp_path):
    transformers = pytest.importorskip("transformers")
    config = transformers.AutoConfig.for_model("bert", **SIZES, intermediate_size=32, max_position_embeddings=40)
    config.save_pretrained(tmp_path)
    text = {"hf_model_name": "a/bert", "hf_proj_type": "mlp", "hf_pooler_type": "cls_last_hidden_state_pooler"}
    description = Description("here", {"embed_dim": 16, "vision_cfg": VIT, "text_cfg": text}, text_folder=str(tmp_path))
    model = CustomTextCLIP(16, VIT, {**text, "hf_model_name": str(tmp_path), "hf_model_pretrained": False})
    built = build_network(description, model.state_dict(), source="w.pt")
    assert all(torch.equal(value, model.state_dict()[key]) for key, value in built.state_dict().items())
    assert str(tmp_path) not in description.remark()
