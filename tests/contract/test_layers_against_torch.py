"""RNN, LSTM and GRU against torch.nn's: values, final states and every gradient."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn.utils.rnn import pack_padded_sequence, pack_sequence

import openrnn

from .evaluate import assert_as_exact, evaluate

# torch says so once, of its own layer with a projection.
pytestmark = pytest.mark.filterwarnings("ignore:LSTM with projections is not supported with oneDNN")

KINDS: dict[str, tuple[str, dict[str, Any]]] = {
    "rnn": ("RNN", {}),
    "rnn-relu": ("RNN", {"nonlinearity": "relu"}),
    "lstm": ("LSTM", {}),
    "lstm-projected": ("LSTM", {"proj_size": 3}),
    "gru": ("GRU", {}),
}
kinds = pytest.mark.parametrize("kind", KINDS)
dtypes = pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=["f32", "f64"])


def make(kind: str, *args: Any, **options: Any) -> tuple[Any, Any]:
    """torch's module and ours, with the same weights."""
    name, own = KINDS[kind]
    torch.manual_seed(0)
    theirs = getattr(torch.nn, name)(*args, **own, **options)
    torch.manual_seed(0)
    return theirs, getattr(openrnn, name)(*args, **own, **options)


def initial_state(module: Any, batch: tuple[int, ...]) -> Any:
    layers = module.num_layers * (2 if module.bidirectional else 1)
    h = torch.randn(layers, *batch, module.proj_size or module.hidden_size)
    if module.mode != "LSTM":
        return h
    return (h, torch.randn(layers, *batch, module.hidden_size))


def assert_equal_results(
    theirs: Any, ours: Any, input: Any, state: Any, dtype: torch.dtype
) -> None:
    truth = evaluate(theirs, input, state, torch.float64)
    peer = evaluate(theirs, input, state, torch.float32)
    assert_as_exact(evaluate(ours, input, state, dtype), peer, truth, dtype)


@dtypes
@pytest.mark.parametrize("bidirectional", [False, True], ids=["one-way", "two-way"])
@pytest.mark.parametrize("num_layers", [1, 3])
@pytest.mark.parametrize("bias", [True, False], ids=["bias", "no-bias"])
@pytest.mark.parametrize("with_state", [True, False], ids=["state", "no-state"])
@kinds
def test_structure(
    kind: str,
    with_state: bool,
    bias: bool,
    num_layers: int,
    bidirectional: bool,
    dtype: torch.dtype,
) -> None:
    theirs, ours = make(kind, 5, 7, num_layers, bias=bias, bidirectional=bidirectional)
    state = initial_state(theirs, (4,)) if with_state else None
    assert_equal_results(theirs, ours, torch.randn(6, 4, 5), state, dtype)


@dtypes
@pytest.mark.parametrize("batch", [0, 1, 3, 8, 17])
@pytest.mark.parametrize("steps", [1, 2, 37])
@kinds
def test_sizes(kind: str, steps: int, batch: int, dtype: torch.dtype) -> None:
    theirs, ours = make(kind, 13, 45)
    state = initial_state(theirs, (batch,))
    assert_equal_results(theirs, ours, torch.randn(steps, batch, 13), state, dtype)


@pytest.mark.parametrize("sizes", [(1, 4), (4, 1), (64, 33)])
@kinds
def test_feature_sizes(kind: str, sizes: tuple[int, int]) -> None:
    if kind == "lstm-projected":
        sizes = (sizes[0], sizes[1] + 3)  # a projection to 3 needs more than 3 units
    theirs, ours = make(kind, *sizes)
    state = initial_state(theirs, (3,))
    assert_equal_results(theirs, ours, torch.randn(5, 3, sizes[0]), state, torch.float32)


@kinds
def test_long(kind: str) -> None:
    theirs, ours = make(kind, 5, 9)
    state = initial_state(theirs, (3,))
    assert_equal_results(theirs, ours, torch.randn(1000, 3, 5), state, torch.float32)


@pytest.mark.parametrize("bidirectional", [False, True], ids=["one-way", "two-way"])
@kinds
def test_batch_first(kind: str, bidirectional: bool) -> None:
    theirs, ours = make(kind, 5, 7, 2, batch_first=True, bidirectional=bidirectional)
    state = initial_state(theirs, (4,))
    assert_equal_results(theirs, ours, torch.randn(4, 6, 5), state, torch.float64)


@pytest.mark.parametrize("batch_first", [False, True], ids=["time-first", "batch-first"])
@pytest.mark.parametrize("with_state", [True, False], ids=["state", "no-state"])
@kinds
def test_unbatched(kind: str, with_state: bool, batch_first: bool) -> None:
    theirs, ours = make(kind, 5, 7, 2, batch_first=batch_first, bidirectional=True)
    state = initial_state(theirs, ()) if with_state else None
    assert_equal_results(theirs, ours, torch.randn(6, 5), state, torch.float64)


@pytest.mark.parametrize("lengths", [(6, 4, 4, 1), (3, 6, 1, 6, 2), (1, 1), (5,)])
@pytest.mark.parametrize("with_state", [True, False], ids=["state", "no-state"])
@kinds
def test_packed(kind: str, with_state: bool, lengths: tuple[int, ...]) -> None:
    theirs, ours = make(kind, 5, 7, 2, bidirectional=True)
    packed = pack_sequence([torch.randn(n, 5) for n in lengths], enforce_sorted=False)
    state = initial_state(theirs, (len(lengths),)) if with_state else None
    assert_equal_results(theirs, ours, packed, state, torch.float64)
    expected, actual = theirs(packed, state)[0], ours(packed, state)[0]
    for field in ("batch_sizes", "sorted_indices", "unsorted_indices"):
        assert torch.equal(getattr(actual, field), getattr(expected, field))


@kinds
def test_packed_sorted_by_the_user(kind: str) -> None:
    theirs, ours = make(kind, 5, 7, batch_first=True)
    packed = pack_padded_sequence(torch.randn(3, 6, 5), torch.tensor([6, 3, 2]), batch_first=True)
    assert packed.sorted_indices is None
    assert_equal_results(theirs, ours, packed, initial_state(theirs, (3,)), torch.float64)


@kinds
def test_states_of_packed_input_are_in_the_users_order(kind: str) -> None:
    _, ours = make(kind, 5, 7)
    sequences = [torch.randn(n, 5) for n in (2, 6, 3)]
    h_n = ours(pack_sequence(sequences, enforce_sorted=False))[1]
    for row, sequence in enumerate(sequences):
        alone = ours(sequence)[1]
        for together, single in zip(as_tuple(h_n), as_tuple(alone), strict=True):
            torch.testing.assert_close(together[:, row], single)


def as_tuple(state: Any) -> tuple[Tensor, ...]:
    return (state,) if isinstance(state, Tensor) else state


@kinds
def test_non_contiguous_input_and_states(kind: str) -> None:
    theirs, ours = make(kind, 5, 7, 2)
    input = torch.randn(5, 4, 6).permute(2, 1, 0)
    state = initial_state(theirs, (4,))
    strided = (
        torch.randn(4, 2, 7).transpose(0, 1)
        if isinstance(state, Tensor)
        else tuple(s.transpose(0, 2).contiguous().transpose(0, 2) for s in state)
    )
    assert not input.is_contiguous()
    assert not any(s.is_contiguous() for s in as_tuple(strided))
    assert_equal_results(theirs, ours, input, strided, torch.float64)


def test_states_as_a_list_or_a_tuple() -> None:
    _, ours = make("lstm", 5, 7)
    x, h, c = torch.randn(6, 4, 5), torch.randn(1, 4, 7), torch.randn(1, 4, 7)
    from_list, from_tuple = ours(x, [h, c]), ours(x, (h, c))
    assert torch.equal(from_list[0], from_tuple[0])
    assert isinstance(from_list[1], tuple)


@pytest.mark.parametrize("kind", ["rnn", "lstm", "gru"])
def test_dropout_draws_the_same_mask_as_torch(kind: str) -> None:
    theirs, ours = make(kind, 5, 7, 3, dropout=0.5)
    x = torch.randn(6, 4, 5)
    torch.manual_seed(7)
    expected = theirs(x)[0]
    torch.manual_seed(7)
    actual = ours(x)[0]
    torch.testing.assert_close(actual, expected)
    again = ours(x)[0]
    assert not torch.equal(actual, again), "dropout must draw anew at each call"
    assert (again != 0).all(), "the last layer's output is never dropped"
    torch.testing.assert_close(ours.eval()(x)[0], theirs.eval()(x)[0])
    assert torch.equal(ours(x)[0], ours(x)[0]), "no dropout in evaluation"


def test_dropout_of_one_drops_all_between_layers() -> None:
    theirs, ours = make("gru", 5, 7, 2, dropout=1.0)
    x = torch.randn(6, 4, 5)
    torch.testing.assert_close(ours(x)[0], theirs(x)[0])


def test_dropout_can_be_changed_later() -> None:
    _, ours = make("gru", 5, 7, 2, dropout=0.9)
    x = torch.randn(6, 4, 5)
    ours.dropout = 0.0
    assert torch.equal(ours(x)[0], ours(x)[0])
