"""Cells and layers of flax against what becomes of them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch

from openrnn import (
    GRU,
    LSTM,
    RNN,
    ArgumentError,
    ArgumentTypeError,
    Bidirectional,
    ConversionError,
    Recurrent,
)
from openrnn.io import from_flax
from tests.io.compare import assert_equal, assert_plain, assert_streams

jax = pytest.importorskip("jax", reason="needs jax, of the extra io")
pytest.importorskip("flax", reason="needs flax, of the extra io")
from flax import linen, nnx  # noqa: E402

numpy = jax.numpy
DOUBLE: dict[str, Any] = {"param_dtype": "float64", "dtype": "float64"}
LINEN = [
    (linen.LSTMCell, {}, LSTM),
    (linen.OptimizedLSTMCell, {}, LSTM),
    (linen.GRUCell, {}, GRU),
    (linen.SimpleCell, {}, RNN),
    (linen.SimpleCell, {"activation_fn": linen.relu}, RNN),
]
NNX = [
    (nnx.LSTMCell, {}, LSTM),
    (nnx.OptimizedLSTMCell, {}, LSTM),
    (nnx.GRUCell, {}, GRU),
    (nnx.SimpleCell, {}, RNN),
    (nnx.SimpleCell, {"activation_fn": nnx.relu}, RNN),
]


@pytest.fixture(autouse=True)
def _double_precision() -> Iterator[None]:
    with jax.enable_x64(True):
        yield


def names(cases: list[Any]) -> list[str]:
    return [" ".join([cell.__name__, *map(str, options)]) for cell, options, _ in cases]


def sequence(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, dtype=torch.float64)


def drawn(shapes: Any) -> Any:
    """Parameters of these shapes with numbers at random, biases too."""
    draw = np.random.default_rng(0)
    return jax.tree.map(lambda s: numpy.asarray(draw.normal(size=s.shape), s.dtype), shapes)


def trained(module: Any, *given: Any) -> Any:
    """The variables of a module of flax.linen that is called with these."""
    key = jax.random.key(0)
    return drawn(jax.eval_shape(module.init, key, *jax.tree.map(numpy.asarray, given)))


def run(module: Any, variables: Any, *given: Any, **options: Any) -> Any:
    """What a module of flax.linen computes."""
    return jax.jit(module.apply)(variables, *given, **options)


def run_nnx(module: Any, x: torch.Tensor) -> Any:
    """What a module of flax.nnx computes."""
    return nnx.jit(lambda module, x: module(x))(module, numpy.asarray(x.numpy()))


def filled(module: Any) -> Any:
    """A module of flax.nnx with numbers at random."""
    nnx.update(module, drawn(nnx.state(module, nnx.Param)))
    return module


def nnx_cell(cell: Any, **options: Any) -> Any:
    zeros = jax.nn.initializers.zeros  # the default is slow
    rngs = nnx.Rngs(0)
    return cell(
        3, 4, rngs=rngs, recurrent_kernel_init=zeros, kernel_init=zeros, **DOUBLE, **options
    )


@pytest.mark.feature("flax")
@pytest.mark.parametrize(("cell", "options", "kind"), LINEN, ids=names(LINEN))
def test_a_cell(cell: Any, options: dict[str, Any], kind: type) -> None:
    theirs, x = cell(4, **DOUBLE, **options), sequence(6, 2, 3)
    carry = theirs.initialize_carry(jax.random.key(0), (2, 3))
    variables = trained(theirs, carry, x[0].numpy())
    outputs = []
    for step in x.numpy():
        carry, output = run(theirs, variables, carry, step)
        outputs.append(output)
    ours = from_flax(theirs, variables["params"])
    assert type(ours) is kind
    assert_plain(ours)
    result, final = ours(x)
    assert_equal(result, numpy.stack(outputs))
    if kind is LSTM:
        c, h = carry
        assert_equal(final[0][0], h)
        assert_equal(final[1][0], c)
    else:
        assert_equal(final[0], carry)
    assert_streams(ours, x, numpy.stack(outputs))


@pytest.mark.parametrize("time_major", [False, True])
@pytest.mark.parametrize(
    ("cell", "kind"), [(linen.OptimizedLSTMCell, LSTM), (linen.GRUCell, GRU)], ids=["LSTM", "GRU"]
)
def test_a_layer(cell: Any, kind: type, time_major: bool) -> None:
    theirs, x = linen.RNN(cell(4, **DOUBLE), time_major=time_major), sequence(5, 6, 3)
    variables = trained(theirs, x.numpy())
    ours = from_flax(theirs, variables)
    assert type(ours) is kind
    assert_equal(ours(x)[0], run(theirs, variables, x.numpy()))


def test_sequences_of_different_lengths() -> None:
    theirs, x = linen.RNN(linen.GRUCell(4, **DOUBLE), return_carry=True), sequence(3, 6, 3)
    variables, lengths = trained(theirs, x.numpy()), torch.tensor([6, 1, 4])
    carry, _ = run(theirs, variables, x.numpy(), seq_lengths=lengths.numpy())
    assert_equal(from_flax(theirs, variables)(x, lengths=lengths)[1][0], carry)


@pytest.mark.feature("flax", "Recurrent")
@pytest.mark.parametrize("keep_order", [False, True])
def test_backwards(keep_order: bool) -> None:
    theirs = linen.RNN(linen.SimpleCell(4, **DOUBLE), reverse=True, keep_order=keep_order)
    x = sequence(3, 6, 3)
    variables = trained(theirs, x.numpy())
    ours = from_flax(theirs, variables)
    assert type(ours) is Recurrent
    result = ours(x)[0]
    assert_equal(result if keep_order else result.flip(1), run(theirs, variables, x.numpy()))


@pytest.mark.parametrize("time_major", [False, True])
@pytest.mark.parametrize(
    ("cells", "kind"),
    [
        ((linen.GRUCell, linen.GRUCell), GRU),
        ((linen.GRUCell, linen.LSTMCell), Bidirectional),
    ],
    ids=["alike", "of two kinds"],
)
def test_two_directions(cells: Any, kind: type, time_major: bool) -> None:
    inside = [linen.RNN(cell(4, **DOUBLE)) for cell in cells]
    theirs, x = linen.Bidirectional(*inside, time_major=time_major), sequence(5, 6, 3)
    variables = trained(theirs, x.numpy())
    ours = from_flax(theirs, variables)
    assert type(ours) is kind
    assert_equal(ours(x)[0], run(theirs, variables, x.numpy()))


@pytest.mark.feature("flax")
@pytest.mark.parametrize(("cell", "options", "kind"), NNX, ids=names(NNX))
def test_a_layer_of_nnx(cell: Any, options: dict[str, Any], kind: type) -> None:
    theirs = filled(nnx.RNN(nnx_cell(cell, **options)))
    x = sequence(2, 6, 3)
    ours = from_flax(theirs)
    assert type(ours) is kind
    assert_plain(ours)
    output = run_nnx(theirs, x)
    assert_equal(ours(x)[0], output)
    assert_equal(from_flax(theirs.cell)(x.transpose(0, 1))[0].transpose(0, 1), output)


def test_two_directions_of_nnx() -> None:
    forward, backward = (nnx.RNN(nnx_cell(nnx.GRUCell)) for _ in range(2))
    theirs, x = filled(nnx.Bidirectional(forward, backward)), sequence(2, 6, 3)
    ours = from_flax(theirs)
    assert type(ours) is GRU
    assert_equal(ours(x)[0], run_nnx(theirs, x))


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32", "float64"])
def test_dtype_is_kept(dtype: str) -> None:
    variables = trained(linen.GRUCell(4, param_dtype=dtype), np.zeros((2, 4)), np.ones((2, 3)))
    ours = from_flax(linen.GRUCell(4), variables)
    assert {p.dtype for p in ours.parameters()} == {getattr(torch, dtype)}
    kernel = numpy.asarray(variables["params"]["hn"]["kernel"], "float64")
    assert_equal(ours.weight_hh_l0[8:].double().T, kernel)


def lstm(**changed: Any) -> dict[str, Any]:
    """Parameters of an LSTM cell for 3 features and 4 units, with some changed."""
    carry = (np.zeros((1, 4)), np.zeros((1, 4)))
    params = trained(linen.LSTMCell(4), carry, np.ones((1, 3)))["params"]
    return {name: value for name, value in {**params, **changed}.items() if value is not None}


class Own(linen.LSTMCell):
    """A subclass, which may compute anything."""


@pytest.mark.refused("what has no counterpart in ours")
@pytest.mark.parametrize(
    ("module", "params", "message"),
    [
        (linen.LSTMCell(4, gate_fn=linen.hard_sigmoid), {}, "gate_fn 'sigmoid', got 'hard_sigm"),
        (linen.GRUCell(4, activation_fn=linen.relu), {}, "activation_fn 'tanh', got 'relu'"),
        (linen.SimpleCell(4, activation_fn=linen.elu), {}, "'tanh' or 'relu', got 'elu'"),
        (linen.SimpleCell(4, residual=True), {}, "residual=True has no counterpart"),
        (linen.GRUCell(4, carry_init=linen.initializers.ones), {}, "carry_init, a state"),
        (linen.MGUCell(4), {}, "expected LSTMCell, .* got .*MGUCell"),
        (Own(4), {}, "expected LSTMCell, .* got .*Own"),
        (torch.nn.LSTM(3, 4), {}, "expected LSTMCell, .* got torch.nn"),
        (linen.RNN(linen.LSTMCell(4)), {"other": 1}, "parameters to have 'cell', got other"),
        (linen.GRUCell(4), lstm(), "to have 'ir', got .*hf"),
        (linen.LSTMCell(4), lstm(ig=None), "to have 'ig', got"),
        (linen.LSTMCell(4), lstm(ig=3), "to have 'kernel', got int"),
        (
            linen.LSTMCell(4),
            lstm(ig={"kernel": numpy.ones((3, 4), "int32")}),
            "the kernel of ig to be one of float64, .* got int32",
        ),
        (
            linen.LSTMCell(4),
            lstm(hg={"kernel": numpy.ones((4, 4), "float16")}),
            "hi, hf, hg, ho to be alike, got .*float16",
        ),
        (
            linen.LSTMCell(4),
            lstm(hg={"kernel": numpy.ones((5, 4), "float32")}),
            r"hi, hf, hg, ho to be alike, got .*\(5, 4\)",
        ),
        (
            linen.Bidirectional(
                linen.RNN(linen.GRUCell(4)), linen.RNN(linen.GRUCell(4)), merge_fn=numpy.add
            ),
            {},
            "merge_fn to be the default",
        ),
    ],
)  # fmt: skip
def test_what_has_no_counterpart_is_refused_by_name(module: Any, params: Any, message: str) -> None:
    with pytest.raises(ConversionError, match=f"^from_flax: {type(module).__name__}.*{message}"):
        from_flax(module, params)


def test_where_the_parameters_are() -> None:
    with pytest.raises(ArgumentTypeError, match=r"the mapping that init .* got None"):
        from_flax(linen.LSTMCell(4))
    with pytest.raises(ArgumentError, match=r"expected no params, .* got a dict"):
        from_flax(nnx_cell(nnx.LSTMCell), {})
