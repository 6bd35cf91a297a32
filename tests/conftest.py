"""Settings of the whole suite."""

import os

import pytest
from hypothesis import settings
from words import WORDS

# Set before torch is imported. The models in the tests are small: a second thread costs more than
# it gains, and on a busy machine ten times more.
os.environ.setdefault("OMP_NUM_THREADS", "1")

# The same examples on every machine: a failure is one for everybody.
settings.register_profile("suite", derandomize=True, deadline=None)
settings.load_profile("suite")


@pytest.fixture(scope="session")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Folder of a BertModel of 2 layers and 32 dimensions, with a WordPiece vocabulary."""
    import torch
    from transformers import BertConfig, BertModel, BertTokenizer

    folder = tmp_path_factory.mktemp("encoder")
    pieces = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *WORDS, "##s", "##ly"]
    tokeniser = BertTokenizer(vocab={piece: i for i, piece in enumerate(pieces)})
    tokeniser.model_max_length = 64
    tokeniser.save_pretrained(folder)
    torch.manual_seed(0)
    BertModel(
        BertConfig(
            vocab_size=len(pieces),
            hidden_size=32,
            num_hidden_layers=2,
            num_attention_heads=4,
            intermediate_size=64,
            max_position_embeddings=64,
        )
    ).save_pretrained(folder)
    return str(folder)
