"""The language model learns small texts, counts no padding, holds out what it says, and refuses."""

import importlib.util
import math
import random
import re
from itertools import pairwise
from pathlib import Path
from types import ModuleType

import click
import pytest
import torch
from click.testing import CliRunner

PATH = Path(__file__).parents[2] / "examples" / "language_model.py"


@pytest.fixture(scope="module")
def example() -> ModuleType:
    spec = importlib.util.spec_from_file_location("language_model", PATH)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def run(example: ModuleType, *arguments: object) -> str:
    words = [str(argument) for argument in arguments]
    result = CliRunner().invoke(example.main, words, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.output


def refusal(example: ModuleType, *arguments: object) -> str:
    result = CliRunner().invoke(example.main, [str(argument) for argument in arguments])
    assert result.exit_code == 2, result.output
    return result.output


def column(output: str, name: str) -> list[float]:
    """The numbers of a printed column, the last of its line, under a heading that ends so."""
    _, _, below = output.partition(f"{name}\n")
    lines = below.split("\n\n")[0].splitlines()
    return [float(line.split()[-1]) for line in lines]


def make_sentences(count: int) -> list[str]:
    """Each word but the first follows from the one before it; the words alone say little."""
    order = ["one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten"]
    chance = random.Random(0)
    sentences = []
    for _ in range(count):
        start, length = chance.randrange(10), chance.randint(3, 8)
        sentences.append(" ".join(order[(start + step) % 10] for step in range(length)))
    return sentences


@pytest.fixture
def text(tmp_path: Path) -> Path:
    """Paragraphs of three sentences, each with a number of its own, so that no two are equal."""
    sentences = [f"{s.capitalize()} {n}." for n, s in enumerate(make_sentences(300))]
    paragraphs = [" ".join(sentences[n : n + 3]) for n in range(0, 300, 3)]
    path = tmp_path / "text.txt"
    path.write_text("\n\n".join(paragraphs), encoding="utf-8")
    return path


@pytest.fixture
def ptb(tmp_path: Path) -> Path:
    folder = tmp_path / "ptb"
    folder.mkdir()
    sentences = make_sentences(2400)
    for name, part in (
        ("train", sentences[:2000]),
        ("valid", sentences[2000:2200]),
        ("test", sentences[2200:]),
    ):
        text = "".join(f" {sentence} \n" for sentence in part)  # with spaces, as in Mikolov's
        (folder / f"ptb.{name}.txt").write_text(text, encoding="utf-8")
    return folder


def make_model(example: ModuleType, words: int, layers: int = 1) -> torch.nn.Module:
    settings = example.PTB._replace(layers=layers, units=8)
    return example.LanguageModel(words, settings).eval()


def test_learns_a_text_of_sentences(example: ModuleType, text: Path) -> None:
    output = run(example, "--text", text, "--epochs", 2, "--units", 64)
    unigram = column(output, "unigram model")[1]
    perplexities = column(output, "in validation")
    assert len(perplexities) == 2
    assert perplexities[1] < perplexities[0]
    assert perplexities[1] < 0.8 * unigram
    assert len(re.findall("^- .+", output, re.MULTILINE)) == 5
    assert "<unk>" not in output.partition("written at")[2]
    assert max(map(len, output.splitlines())) <= 80


def test_a_seed_gives_the_same_run(example: ModuleType, text: Path) -> None:
    arguments = ["--text", text, "--epochs", 1, "--units", 8]
    first = run(example, *arguments, "--seed", 3)
    assert run(example, *arguments, "--seed", 3) == first
    assert run(example, *arguments, "--seed", 4) != first


def test_learns_penn_treebank_files(example: ModuleType, ptb: Path) -> None:
    output = run(example, "--dataset", "ptb", ptb, "--epochs", 3, "--units", 64)
    unigram = column(output, "unigram model")
    perplexities = column(output, "in validation")
    assert len(unigram) == len(perplexities) == 3  # parts, and epochs
    assert perplexities[-1] < 0.8 * unigram[1]
    found = re.search(r"perplexity in test: (\S+)", output)
    assert found is not None
    assert float(found[1]) < 0.8 * unigram[2]


def test_penn_treebank_files_become_rows_of_one_text(example: ModuleType, ptb: Path) -> None:
    vocabulary, parts = example.prepare_ptb(ptb, 20)
    lines = (ptb / "ptb.train.txt").read_text(encoding="utf-8").splitlines()
    words = " ".join(f"{line} <eos>" for line in lines).split()
    train = parts["training"]
    assert train.shape == (len(words) // 20, 20)
    assert [vocabulary[index] for index in train.t().flatten()] == words[: train.numel()]
    assert sorted(vocabulary) == sorted({*words, "<unk>"})
    assert parts["validation"].shape[1] == 20
    assert parts["test"].shape[1] == 1


def test_the_learning_rate_is_the_papers(
    example: ModuleType, ptb: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Zaremba et al., 2014, section 4.1: 1 for 4 epochs, then halved after each; 13 in all."""
    rates: list[float] = []

    class Recording(torch.optim.SGD):
        def step(self, closure: None = None) -> None:
            rates.append(self.param_groups[0]["lr"])
            super().step(closure)

    settings = example.PTB
    assert settings.optimizer is torch.optim.SGD
    assert (settings.layers, settings.units, settings.dropout) == (2, 200, 0)
    assert (settings.batch, example.STEPS, example.LARGEST_NORM) == (20, 20, 5)
    vocabulary, parts = example.prepare_ptb(ptb, settings.batch)
    short = {name: part[:3] for name, part in parts.items()}
    model = make_model(example, len(vocabulary))
    assert all(parameter.abs().max() <= 0.1 for parameter in model.parameters())
    example.fit(model, short, settings._replace(optimizer=Recording))
    assert rates == [1.0] * 4 + [0.5**n for n in range(1, 10)]


def test_padding_does_not_count(example: ModuleType) -> None:
    sentences = [torch.randint(1, 11, (length + 1,)) for length in (9, 1, 4, 12, 2)]
    model = make_model(example, 11)
    together = torch.cat(list(example.sentence_losses(model, sentences, 5)))
    alone = [torch.cat(list(example.sentence_losses(model, [s], 1))) for s in sentences]
    assert len(together) == 9 + 1 + 4 + 12 + 2
    # A batch has its words step by step, so they are compared in the order of their sizes.
    torch.testing.assert_close(together.sort()[0], torch.cat(alone).sort()[0])
    total = sum(loss.sum().item() for loss in alone) / len(together)
    assert example.perplexity(model, sentences, 2) == pytest.approx(math.exp(total))
    assert example.perplexity(model, sentences, 5) == pytest.approx(math.exp(total))


def test_padding_has_no_gradient(example: ModuleType) -> None:
    """The shorter sentence's gradient is the same beside a longer one and alone."""
    short, long = torch.tensor([3, 4, 5]), torch.tensor([6, 7, 8, 9, 10, 6, 7])
    model = make_model(example, 11)
    gradients = []
    for batches in ([[short, long]], [[short], [long]]):
        model.zero_grad()
        for batch in batches:
            for loss in example.sentence_losses(model, batch, 2):
                loss.sum().backward()
        gradients.append([p.grad.clone() for p in model.parameters()])
    torch.testing.assert_close(*gradients)


def test_the_state_is_carried_from_chunk_to_chunk(example: ModuleType) -> None:
    text = torch.randint(11, (24, 3))
    model = make_model(example, 11, layers=2)
    chunks = list(example.text_losses(model, text, 5))
    assert [len(loss) for loss in chunks] == [15, 15, 15, 15, 9]
    (whole,) = example.text_losses(model, text, 23)
    torch.testing.assert_close(torch.cat(chunks), whole)


def test_what_is_written_is_drawn_from_the_model(example: ModuleType) -> None:
    """At a low temperature each word is the likeliest after those before it, up to the end."""
    vocabulary = ["<eos>", "<unk>", *"abcdefghi"]
    model = make_model(example, 11)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_()
    written = example.write_sentence(model, vocabulary, 1e-4).split()
    words = [0, *(vocabulary.index(word) for word in written)]
    hidden, _ = model(torch.tensor(words).unsqueeze(1))
    scores = model.linear(hidden.squeeze(1))
    scores[:, 1] = -math.inf
    expected = [vocabulary[index] for index in scores.argmax(1)]
    assert written == expected[: len(written)]
    assert len(written) == 100 or expected[len(written)] == "<eos>"


def test_the_manual_is_read_and_split(example: ModuleType) -> None:
    vocabulary, parts = example.prepare_sentences(None)
    assert vocabulary[:2] == ["<eos>", "<unk>"]
    assert {"the", ".", "statement"} <= set(vocabulary)
    words = {name: len(example.foretold(part)) for name, part in parts.items()}
    assert words["training"] > 20_000
    assert 0.05 < words["validation"] / sum(words.values()) < 0.12
    for sentence in parts["training"] + parts["validation"]:
        assert sentence[0] == sentence[-1] == 0
        assert 3 <= len(sentence) <= 102
        assert (sentence[1:-1] > 0).all()
    assert (torch.cat(parts["training"]) == 1).any()


def test_no_sentence_is_in_both_parts(example: ModuleType, tmp_path: Path) -> None:
    """Also where paragraphs repeat one another, and paragraphs stay whole."""
    chance = random.Random(0)
    alphabet = "abcdefghijklmnopqrstuvwxyz"
    sentences = [" ".join(chance.choices(alphabet, k=8)).capitalize() + "." for _ in range(90)]
    paragraphs = [sentences[n : n + 3] for n in range(0, 90, 3)]
    paragraphs += [[*first, second[0]] for first, second in pairwise(paragraphs)]
    path = tmp_path / "text.txt"
    path.write_text("\n\n".join(map("\n".join, paragraphs)), encoding="utf-8")
    vocabulary, parts = example.prepare_sentences(path)
    read = {
        name: [" ".join(vocabulary[index] for index in sentence[1:-1]) for sentence in part]
        for name, part in parts.items()
    }
    assert len(read["training"]) + len(read["validation"]) == 90
    assert len({*read["training"], *read["validation"]}) == 90
    assert len(read["validation"]) == 9  # a tenth, in three paragraphs
    originals = [s.lower().replace(".", " .") for s in sentences]
    places = sorted(originals.index(sentence) for sentence in read["validation"])
    assert all(place // 3 == places[n // 3 * 3] // 3 for n, place in enumerate(places))


def test_sentences_and_words(example: ModuleType) -> None:
    text = "The user’s cat, 12 of them...\nand (so) on! Was it? Yes.\n\nNew\nparagraph"
    assert [" ".join(words) for words in example.split_sentences(text)] == [
        "the user’s cat , 12 of them ... and ( so ) on !",
        "was it ?",
        "yes .",
        "new paragraph",
    ]
    long = list(example.split_sentences("word " * 250))
    assert [len(words) for words in long] == [100, 100, 50]


def test_a_text_that_cannot_be_read_is_refused(example: ModuleType, tmp_path: Path) -> None:
    missing = tmp_path / "missing.txt"
    output = refusal(example, "--text", missing)
    assert f"--text: expected a text file in UTF-8, got '{missing}': No such file" in output
    assert "Give the path of a text" in output
    binary = tmp_path / "binary.txt"
    binary.write_bytes(b"\xff\xfe\x00")
    assert f"got '{binary}': not UTF-8" in refusal(example, "--text", binary)
    assert f"got '{tmp_path}': " in refusal(example, "--text", tmp_path)


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("", 0),
        (" \n\n \n", 0),
        ("Only one paragraph. Of two sentences.", 1),
        ("\n\n".join(["The same again."] * 20), 1),
        ("\n\n".join(["First a b.", "Second c d.", "Third e f."]), 3),
    ],
)
def test_a_text_that_is_too_short_is_refused(
    example: ModuleType, tmp_path: Path, text: str, count: int
) -> None:
    path = tmp_path / "short.txt"
    path.write_text(text, encoding="utf-8")
    output = refusal(example, "--text", path)
    assert "--text: expected ten or more different paragraphs" in output
    assert f"got {count} in '{path}'. Give a longer text" in output


def test_ten_paragraphs_are_enough(example: ModuleType, tmp_path: Path) -> None:
    path = tmp_path / "text.txt"
    paragraphs = [" ".join(f"word{n}" for _ in range(n + 1)) for n in range(10)]
    path.write_text("\n\n".join(paragraphs), encoding="utf-8")
    _, parts = example.prepare_sentences(path)
    assert all(parts.values())


def test_a_folder_without_the_files_is_refused(example: ModuleType, ptb: Path) -> None:
    missing = ptb / "nowhere"
    output = refusal(example, "--dataset", "ptb", missing)
    assert f"got '{missing / 'ptb.train.txt'}': No such file" in output
    assert "Give the folder of ptb.train.txt, ptb.valid.txt and ptb.test.txt" in output
    (ptb / "ptb.test.txt").unlink()
    assert f"'{ptb / 'ptb.test.txt'}': No such file" in refusal(example, "--dataset", "ptb", ptb)


def test_a_short_penn_treebank_file_is_refused(example: ModuleType, ptb: Path) -> None:
    path = ptb / "ptb.valid.txt"
    path.write_text("a b c\n", encoding="utf-8")
    with pytest.raises(click.UsageError, match=r"at least 40 words.*got 4 in '.*ptb.valid.txt'"):
        example.prepare_ptb(ptb, 20)
    path.write_text("", encoding="utf-8")
    assert "got 0 in" in refusal(example, "--dataset", "ptb", ptb)


def test_options_that_do_not_go_together_are_refused(example: ModuleType, ptb: Path) -> None:
    text = ptb / "ptb.train.txt"
    output = refusal(example, "--text", text, "--dataset", "ptb", ptb)
    assert "expected --text or --dataset, got both" in output
    assert "'wiki' is not" in refusal(example, "--dataset", "wiki", ptb)
    assert "temperature" in refusal(example, "--temperature", 0)
