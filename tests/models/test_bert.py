"""Our BERT gives what transformers' does, and refuses what it does not know."""

import pytest
import torch
from transformers import BertConfig, BertModel

from modules.models.bert import Bert
from modules.models.files import LoadError

SIZES = {
    "vocab_size": 40, "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 4,
    "intermediate_size": 24, "max_position_embeddings": 12,
}  # fmt: skip


def test_states_are_those_of_transformers_to_the_last_bit():
    theirs = BertModel(BertConfig(**SIZES), add_pooling_layer=False).eval()
    ours = Bert(theirs.config.to_dict()).eval()
    ours.load_state_dict(theirs.state_dict())
    ids = torch.randint(40, (3, 12), generator=torch.Generator().manual_seed(1))
    mask = torch.tensor([[1] * 12, [1] * 5 + [0] * 7, [1] + [0] * 11])
    with torch.no_grad():
        assert torch.equal(ours(ids, mask), theirs(input_ids=ids, attention_mask=mask).last_hidden_state)


def test_a_config_that_lacks_a_size_is_refused():
    with pytest.raises(LoadError, match=r"lacks hidden_size, intermediate_size\."):
        Bert({name: size for name, size in SIZES.items() if name not in ("hidden_size", "intermediate_size")})


@pytest.mark.parametrize(
    ("name", "value"),
    [("hidden_act", "relu"), ("position_embedding_type", "relative_key"), ("is_decoder", True)],
)
def test_another_kind_of_bert_is_refused(name, value):
    with pytest.raises(LoadError, match=f"{name} is {value!r}; only"):
        Bert({**SIZES, name: value})
