"""Layers of Keras against what becomes of them."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest
import torch

from openrnn import GRU, LSTM, RNN, Bidirectional, ConversionError, Recurrent, Stack
from openrnn.cells import OriginalGRUCell
from openrnn.io import from_keras
from tests.io.compare import assert_equal, assert_plain, assert_streams

keras = pytest.importorskip("keras", reason="needs keras, of the extra io")
layers = keras.layers


def trained(layer: Any, dtype: str = "float32") -> Any:
    """The layer for 3 features, with numbers at random, biases too."""
    layer.build((None, None, 3))
    draw = np.random.default_rng(0)
    for weight in layer.weights:
        weight.assign(draw.normal(size=weight.shape).astype(dtype))
    return layer


def array(value: Any) -> Any:
    """As numpy has it; Keras's own function warns of torch's tensors."""
    if isinstance(value, torch.Tensor):
        value = value.detach()
        return value.float().numpy() if value.dtype == torch.bfloat16 else value.numpy()
    return keras.ops.convert_to_numpy(value)


def numbers(layer: Any) -> list[Any]:
    return [array(weight.value).copy() for weight in layer.weights]


def sequence() -> torch.Tensor:
    return torch.randn(2, 7, 3)


def run(layer: Any, x: torch.Tensor, **options: Any) -> Any:
    """What Keras computes, as numpy arrays."""
    result = layer(keras.ops.convert_to_tensor(x.numpy()), **options)
    return keras.tree.map_structure(array, result)


EVERY: dict[str, Any] = {"return_sequences": True, "return_state": True}
# Keras's own equations, where it would have torch run the layer.
OWN: dict[str, Any] = {"use_cudnn": False, **EVERY}


@pytest.mark.feature("Keras")
@pytest.mark.parametrize("bias", [True, False], ids=["bias", "no bias"])
@pytest.mark.parametrize(
    ("make", "options", "kind"),
    [
        (layers.LSTM, OWN, LSTM),
        (layers.GRU, OWN, GRU),
        (layers.GRU, {"reset_after": False, **OWN}, Recurrent),
        (layers.SimpleRNN, EVERY, RNN),
        (layers.SimpleRNN, {"activation": "relu", **EVERY}, RNN),
    ],
    ids=["LSTM", "GRU", "GRU reset before", "SimpleRNN", "SimpleRNN relu"],
)
def test_one_layer(make: Any, options: dict[str, Any], kind: type, bias: bool) -> None:
    theirs = trained(make(4, use_bias=bias, **options))
    x = sequence()
    output, *states = run(theirs, x)
    ours = from_keras(theirs)
    assert type(ours) is kind
    assert_plain(ours)
    result, final = ours(x)
    assert_equal(result, output)
    for tensor, state in zip(final if kind is LSTM else [final], states, strict=True):
        assert_equal(tensor if kind is Recurrent else tensor[0], state)
    assert_streams(ours, x, output)


def test_the_reset_of_a_gru_is_where_keras_has_it() -> None:
    ours = from_keras(trained(layers.GRU(4, reset_after=False)))
    assert type(ours.cell) is OriginalGRUCell


def test_from_a_given_state() -> None:
    theirs = trained(layers.LSTM(4, **OWN))
    x, h, c = sequence(), *torch.randn(2, 2, 4)
    output, *_ = run(theirs, x, initial_state=[h.numpy(), c.numpy()])
    assert_equal(from_keras(theirs)(x, (h[None], c[None]))[0], output)


def test_a_mask_is_lengths() -> None:
    theirs = trained(layers.GRU(4, zero_output_for_mask=True, **OWN))
    x, lengths = sequence(), torch.tensor([7, 4])
    mask = torch.arange(7) < lengths[:, None]
    output, state = run(theirs, x, mask=mask.numpy())
    result, final = from_keras(theirs)(x, lengths=lengths)
    assert_equal(result, output)
    assert_equal(final[0], state)


@pytest.mark.parametrize("reset_after", [True, False])
def test_backwards(reset_after: bool) -> None:
    """Keras leaves the output in the order in which it was made."""
    theirs = trained(layers.GRU(4, go_backwards=True, reset_after=reset_after, **OWN))
    x = sequence()
    output, state = run(theirs, x)
    ours = from_keras(theirs)
    assert type(ours) is Recurrent
    result, final = ours(x)
    assert_equal(result.flip(1), output)
    assert_equal(final, state)


@pytest.mark.feature("Keras")
@pytest.mark.parametrize(
    ("cells", "kind"),
    [
        (lambda: [layers.LSTMCell(4), layers.LSTMCell(4)], LSTM),
        (lambda: [layers.LSTMCell(4), layers.GRUCell(5, reset_after=False)], Stack),
        (lambda: [layers.SimpleRNNCell(4), layers.SimpleRNNCell(4, activation="relu")], Stack),
        (lambda: layers.GRUCell(4), GRU),
    ],
    ids=["alike", "of two kinds", "of two activations", "one"],
)
@pytest.mark.parametrize("backwards", [False, True], ids=["forward", "backward"])
def test_cells(cells: Any, kind: type, backwards: bool) -> None:
    theirs = trained(layers.RNN(cells(), go_backwards=backwards, **EVERY))
    x = sequence()
    output = run(theirs, x)[0]
    ours = from_keras(theirs)
    assert type(ours) is ((Stack if len(theirs.weights) > 3 else Recurrent) if backwards else kind)
    assert_equal(ours(x)[0].flip(1) if backwards else ours(x)[0], output)
    if not backwards:
        assert_streams(ours, x, output)


@pytest.mark.parametrize(
    ("merge", "reset_after", "kind"),
    [
        ("concat", True, GRU),
        ("concat", False, Bidirectional),
        ("sum", True, Bidirectional),
        ("ave", True, Bidirectional),
    ],
)
def test_bidirectional(merge: str, reset_after: bool, kind: type) -> None:
    inside = layers.GRU(4, reset_after=reset_after, **OWN)
    theirs = trained(layers.Bidirectional(inside, merge_mode=merge))
    x = sequence()
    output, *states = run(theirs, x)
    ours = from_keras(theirs)
    assert type(ours) is kind
    result, final = ours(x)
    assert_equal(result, output)
    for tensor, state in zip(final, states, strict=True):
        assert_equal(tensor, state)


def test_two_directions_of_two_kinds() -> None:
    backward = layers.LSTM(5, go_backwards=True, **OWN)
    inside = layers.GRU(4, **OWN)
    theirs = trained(layers.Bidirectional(inside, backward_layer=backward))
    x = sequence()
    assert_equal(from_keras(theirs)(x)[0], run(theirs, x)[0])


def test_without_sequences_it_is_the_final_states() -> None:
    """What the documentation tells of return_sequences=False."""
    x = sequence()
    theirs = trained(layers.LSTM(4))
    assert_equal(from_keras(theirs)(x)[0][:, -1], run(theirs, x))
    theirs = trained(layers.Bidirectional(layers.LSTM(4)))
    _, (h_n, _) = from_keras(theirs)(x)
    assert_equal(torch.cat((h_n[0], h_n[1]), -1), run(theirs, x))


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32", "float64"])
def test_dtype_is_kept(dtype: str) -> None:
    theirs = trained(layers.LSTM(4, recurrent_initializer="zeros", dtype=dtype), dtype)
    ours = from_keras(theirs)
    assert {p.dtype for p in ours.parameters()} == {getattr(torch, dtype)}
    kernel = array(theirs.cell.kernel.value).astype("float64")
    assert torch.equal(ours.weight_ih_l0.double().T, torch.tensor(kernel))


def test_weights_are_copies() -> None:
    theirs = trained(layers.SimpleRNN(4))
    before = numbers(theirs)
    with torch.no_grad():
        for parameter in from_keras(theirs).parameters():
            parameter.zero_()
    for old, new in zip(before, numbers(theirs), strict=True):
        np.testing.assert_array_equal(old, new)


class Own(layers.LSTM):
    """A subclass, which may compute anything."""


class OwnCell(layers.LSTMCell):
    """A cell that may compute anything."""


def built(layer: Any) -> Any:
    layer.build((None, None, 3))
    return layer


@pytest.mark.refused("what has no counterpart in ours")
@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: layers.LSTM(4), "LSTM 'lstm.*has no weights yet.*layer.build"),
        (lambda: built(layers.LSTM(4, activation="relu")), "activation 'tanh', got 'relu'"),
        (lambda: built(layers.GRU(4, activation=None)), "activation 'tanh', got 'linear'"),
        (
            lambda: built(layers.GRU(4, recurrent_activation="hard_sigmoid")),
            "recurrent_activation 'sigmoid', got 'hard_sigmoid'",
        ),
        (
            lambda: built(layers.SimpleRNN(4, activation="elu")),
            "activation 'tanh' or 'relu', got 'elu'",
        ),
        (lambda: built(layers.GRU(4, dropout=0.5)), "dropout=0.5 has no counterpart"),
        (lambda: built(layers.LSTM(4, recurrent_dropout=0.5)), "recurrent_dropout=0.5"),
        (lambda: layers.LSTM(4, stateful=True), "stateful=True has no counterpart.*stream"),
        (lambda: built(Own(4)), "expected keras.layers.LSTM.*Own.*RNN\\(cell\\)"),
        (lambda: built(layers.RNN(OwnCell(4))), "expected cells that are LSTMCell.*OwnCell"),
        (lambda: layers.LSTMCell(4), "keras.layers.RNN\\(cell\\)"),
        (lambda: layers.Dense(4), "expected keras.layers.LSTM.*Dense"),
        (lambda: torch.nn.LSTM(3, 4), "from_keras: LSTM: expected keras.layers.LSTM.*torch.nn"),
        (
            lambda: built(layers.Bidirectional(layers.GRU(4), merge_mode="mul")),
            "merge_mode to be one of 'concat', 'sum', 'ave', got 'mul'",
        ),
        (
            lambda: built(
                layers.Bidirectional(
                    layers.GRU(4, go_backwards=True), backward_layer=layers.GRU(4)
                )
            ),
            "forward_layer with go_backwards=False",
        ),
        (
            lambda: built(layers.Bidirectional(layers.RNN([layers.GRUCell(4), layers.GRUCell(4)]))),
            "one cell in each direction, got StackedRNNCells",
        ),
    ],
)  # fmt: skip
def test_what_has_no_counterpart_is_refused_by_name(make: Any, message: str) -> None:
    layer = make()
    with pytest.raises(ConversionError, match=message) as error:
        from_keras(layer)
    assert re.match("from_keras: ", str(error.value))


def test_the_remedy_for_dropout_works() -> None:
    theirs = trained(layers.GRU(4, dropout=0.5, recurrent_dropout=0.5, **OWN))
    theirs.cell.dropout = theirs.cell.recurrent_dropout = 0
    x = sequence()
    assert_equal(from_keras(theirs)(x)[0], run(theirs, x)[0])
