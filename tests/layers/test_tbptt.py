"""Truncated backpropagation: chunks whose state is carried, and whose gradient is not."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import openrnn
from openrnn import GRU, LSTM, Recurrent, Stack, cells, tbptt

from .test_time import on_tensors

STEPS, BATCH, INPUT = 7, 4, 5
LENGTHS = torch.tensor([4, 0, STEPS, 1])
RESET = torch.zeros(STEPS, BATCH, dtype=torch.bool)
RESET[[0, 3, 4, 6], [1, 0, 2, 2]] = True
RESET[:, 3] = True

LAYERS: dict[str, Callable[..., Any]] = {
    "Recurrent": lambda **o: Recurrent(openrnn.LSTMCell(INPUT, 4), **o),
    "LSTM": lambda **o: LSTM(INPUT, 4, 2, proj_size=3, batch_first=True, **o),
    "GRU": lambda **o: GRU(INPUT, 4, **o),
    "Stack": lambda **o: Stack(
        [nn.GRUCell(INPUT, INPUT), cells.LSTMPCell(INPUT, 4, 2)], residual=True, **o
    ),
}
layers = pytest.mark.parametrize("name", LAYERS)
chunks = pytest.mark.parametrize("chunk", [1, 2, 3, STEPS, STEPS + 3])


def make(name: str, **options: Any) -> tuple[Any, Tensor, Any]:
    """A layer, an input in its layout, and a state."""
    layer = LAYERS[name](**options).double()
    x = torch.randn(STEPS, BATCH, INPUT, dtype=torch.float64)
    x = x.transpose(0, 1) if layer.batch_first else x
    _, state = layer(x)
    return layer, x, on_tensors(torch.randn_like, state)


def joined(layer: Any, parts: Any) -> tuple[Tensor, Any]:
    outputs, states = zip(*parts, strict=True)
    return torch.cat(outputs, 1 if layer.batch_first else 0), states[-1]


@chunks
@pytest.mark.parametrize("with_state", [True, False], ids=["state", "no-state"])
@layers
def test_chunks_equal_the_whole(name: str, with_state: bool, chunk: int) -> None:
    layer, x, state = make(name)
    given = state if with_state else None
    parts = list(tbptt(layer, x, given, chunk=chunk))
    time = 1 if layer.batch_first else 0
    assert [o.size(time) for o, _ in parts] == [len(t) for t in torch.arange(STEPS).split(chunk)]
    torch.testing.assert_close(joined(layer, parts), layer(x, given))


@chunks
@pytest.mark.parametrize("reset_to", [None, "default", "state"])
@pytest.mark.parametrize("lengths", [None, LENGTHS], ids=["all", "lengths"])
@pytest.mark.parametrize("with_state", [True, False], ids=["state", "no-state"])
@layers
def test_lengths_and_resets_are_those_of_the_whole(
    name: str, with_state: bool, lengths: Tensor | None, reset_to: Any, chunk: int
) -> None:
    """Without reset_to a reset goes back to the state given here, not to that of the chunk."""
    layer, x, state = make(name, learn_initial_state=True)
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.normal_(std=0.5)
    if reset_to == "state":
        reset_to = on_tensors(torch.randn_like, state)
    options = {"lengths": lengths, "reset": RESET.t() if layer.batch_first else RESET}
    options |= {"reset_to": reset_to}
    given = state if with_state else None
    parts = tbptt(layer, x, given, chunk=chunk, **options)
    torch.testing.assert_close(joined(layer, parts), layer(x, given, **options))


@pytest.mark.parametrize("length", [None, 0, 4, torch.tensor(5)])
def test_without_a_batch(length: Any) -> None:
    layer, x, state = make("LSTM")
    options = {"lengths": length, "reset": RESET[:, 2], "reset_to": "default"}
    given = on_tensors(lambda s: s[:, 0], state)
    parts = list(tbptt(layer, x[0], given, chunk=3, **options))
    output = torch.cat([output for output, _ in parts])
    torch.testing.assert_close((output, parts[-1][1]), layer(x[0], given, **options))


@pytest.mark.parametrize("chunk", [1, 2, 3, STEPS])
def test_gradients_are_those_of_a_loop_that_detaches(chunk: int) -> None:
    """The loop is over steps of the cell, with resets to the initial state."""
    layer, x, state = make("Recurrent")
    x.requires_grad_()
    state = on_tensors(lambda s: s.requires_grad_(), state)
    weight = torch.randn(STEPS, BATCH, 4, dtype=torch.float64)
    leaves = (x, *state, *layer.parameters())

    def gradients() -> list[Tensor]:
        found = [leaf.grad for leaf in leaves]
        layer.zero_grad()
        for leaf in leaves:
            leaf.grad = None
        return found

    now, losses = state, []
    for t, x_t in enumerate(x):
        if t % chunk == 0:
            now = on_tensors(Tensor.detach, now) if t else now
        now = on_tensors(lambda s, b, t=t: torch.where(RESET[t].unsqueeze(1), b, s), now, state)
        now = layer.cell(x_t, now)
        losses.append((now[0] * weight[t]).sum())
    sum(losses).backward()
    expected = gradients()
    parts = tbptt(layer, x, state, chunk=chunk, reset=RESET)
    for (output, _), own in zip(parts, weight.split(chunk), strict=True):
        (output * own).sum().backward()
    torch.testing.assert_close(gradients(), expected)


@layers
def test_no_gradient_crosses_from_chunk_to_chunk(name: str) -> None:
    layer, x, state = make(name)
    x.requires_grad_()
    time = 1 if layer.batch_first else 0
    for number, (output, after) in enumerate(tbptt(layer, x, state, chunk=2)):
        results: list[Tensor] = [output]
        on_tensors(results.append, after)
        assert all(result.requires_grad for result in results)
        for result in results:
            (gradient,) = torch.autograd.grad(result.sum(), x, retain_graph=True)
            steps = gradient.abs().sum((1 - time, 2)).nonzero().flatten().tolist()
            first = 2 * number
            assert steps == list(range(first, min(first + 2, STEPS)))


@layers
def test_steps_of_an_optimizer_between_chunks(name: str) -> None:
    layer, x, _ = make(name, learn_initial_state=True)
    optimizer = torch.optim.SGD(layer.parameters(), lr=0.1)
    reset = RESET.t() if layer.batch_first else RESET
    outputs = []
    for output, _ in tbptt(layer, x, chunk=2, reset=reset, lengths=LENGTHS):
        optimizer.zero_grad()
        output.square().sum().backward()
        optimizer.step()
        outputs.append(output)
    assert not torch.allclose(outputs[-1], layer(x)[0].split(2, 1 if layer.batch_first else 0)[-1])


def test_the_initial_state_has_a_gradient_from_each_reset() -> None:
    layer, x, state = make("GRU")
    state.requires_grad_()
    losses = [o.square().sum() for o, _ in tbptt(layer, x, state, chunk=2, reset=RESET)]
    (actual,) = torch.autograd.grad(sum(losses), state, retain_graph=True)
    (whole,) = torch.autograd.grad(layer(x, state, reset=RESET)[0].square().sum(), state)
    (first,) = torch.autograd.grad(losses[0], state)
    # Sequence 3 has a reset at each step, sequence 1 at the first alone.
    torch.testing.assert_close(actual[:, 3], whole[:, 3])
    torch.testing.assert_close(actual[:, 1], first[:, 1])
    assert (actual[:, 3] != first[:, 3]).all()


def test_dropping_layers_run_in_chunks() -> None:
    layer = LSTM(INPUT, 4, 2, dropout=0.5, zoneout=0.2, weight_drop=0.5, checkpoint=2)
    x = torch.randn(STEPS, BATCH, INPUT)
    runs = []
    for _ in range(2):
        torch.manual_seed(3)
        runs.append(joined(layer, tbptt(layer, x, chunk=3)))
    torch.testing.assert_close(runs[0], runs[1], rtol=0, atol=0)
    assert not torch.equal(runs[0][0], joined(layer, tbptt(layer, x, chunk=3))[0])


def test_chunk_may_be_an_integer_of_numpy() -> None:
    numpy = pytest.importorskip("numpy")
    layer, x, _ = make("GRU")
    parts = list(tbptt(layer, x, chunk=numpy.int64(3)))
    assert [len(output) for output, _ in parts] == [3, 3, 1]


@pytest.mark.parametrize("chunk", [0, -1, 2.0, True, None, "3"])
def test_chunks_that_are_none(chunk: Any) -> None:
    layer, x, _ = make("GRU")
    with pytest.raises(openrnn.ArgumentError, match=r"tbptt: expected chunk to be .* ≥ 1, got"):
        tbptt(layer, x, chunk=chunk)


@pytest.mark.parametrize(
    "layer",
    [
        LSTM(INPUT, 4, bidirectional=True),
        Recurrent(nn.GRUCell(INPUT, 4), reverse=True),
        openrnn.Bidirectional(nn.GRUCell(INPUT, 4), nn.GRUCell(INPUT, 4)),
        Stack([nn.GRUCell(INPUT, 4), Stack([Recurrent(nn.GRUCell(4, 4), reverse=True)])]),
    ],
    ids=["LSTM", "Recurrent", "Bidirectional", "Stack"],
)
def test_layers_that_run_backward(layer: Any) -> None:
    with pytest.raises(openrnn.ArgumentTypeError, match=r"tbptt: .* needs all steps at once"):
        tbptt(layer, torch.randn(STEPS, BATCH, INPUT), chunk=3)


class Words(nn.Module):
    """A module of a user's own, around a layer."""

    def __init__(self, batch_first: bool = False) -> None:
        super().__init__()
        self.batch_first = batch_first
        self.embedding = nn.Embedding(10, INPUT)
        self.layer = GRU(INPUT, 4, batch_first=batch_first)

    def forward(self, words: Tensor, state: Any, **options: Any) -> Any:
        return self.layer(self.embedding(words), state, **options)


@chunks
@pytest.mark.parametrize("with_options", [False, True], ids=["plain", "lengths and reset"])
@pytest.mark.parametrize("batch_first", [False, True], ids=["time-first", "batch-first"])
def test_a_module_around_a_layer(batch_first: bool, with_options: bool, chunk: int) -> None:
    model = Words(batch_first)
    words = torch.randint(10, (BATCH, STEPS) if batch_first else (STEPS, BATCH))
    state, options = torch.randn(1, BATCH, 4), {}
    if with_options:
        options = {"lengths": LENGTHS, "reset": RESET.t() if batch_first else RESET}
    parts = tbptt(model, words, state, chunk=chunk, **options)
    torch.testing.assert_close(joined(model, parts), model(words, state, **options))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    before = model.embedding.weight.clone()
    for output, _ in tbptt(model, words, state, chunk=chunk, **options):
        optimizer.zero_grad()
        output.square().sum().backward()
        optimizer.step()
    assert not torch.equal(model.embedding.weight, before)


@chunks
def test_a_layer_of_torch(chunk: int) -> None:
    layer, x = nn.LSTM(INPUT, 4, batch_first=True), torch.randn(BATCH, STEPS, INPUT)
    parts = tbptt(layer, x, chunk=chunk)
    torch.testing.assert_close(joined(layer, parts), layer(x))


@pytest.mark.parametrize("layer", [None, "GRU", [nn.GRU(INPUT, 4)]])
def test_what_is_no_layer(layer: Any) -> None:
    kind = type(layer).__name__
    with pytest.raises(openrnn.ArgumentTypeError, match=f"tbptt: expected a layer, .* got {kind}"):
        tbptt(layer, torch.randn(STEPS, BATCH, INPUT), chunk=3)


def test_input_that_is_no_tensor() -> None:
    layer, x, _ = make("GRU")
    packed = nn.utils.rnn.pack_sequence([x[:, 0]])
    with pytest.raises(openrnn.ArgumentTypeError, match=r"a Tensor, got PackedSequence.*lengths="):
        tbptt(layer, packed, chunk=3)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        (
            {"lengths": [STEPS + 1] * BATCH},
            openrnn.ArgumentError,
            r"tbptt: expected lengths from 0",
        ),
        ({"lengths": [3] * 3}, openrnn.ShapeError, r"tbptt: expected lengths .* \(4,\), got"),
        ({"reset": RESET.t()}, openrnn.ShapeError, r"tbptt: expected reset of shape \(7, 4\)"),
        ({"reset": RESET.int()}, openrnn.ArgumentTypeError, r"tbptt: expected reset of dtype"),
        ({"reset_to": "default"}, openrnn.ArgumentError, "got reset_to.* but no reset"),
        ({"state": torch.zeros(1, 3, 4)}, openrnn.ShapeError, r"state h_0 of shape \(1, 4, 4\)"),
    ],
)
def test_arguments_that_do_not_fit(options: Any, error: Any, message: str) -> None:
    layer, x, _ = make("GRU")
    with pytest.raises(error, match=message):
        list(tbptt(layer, x, **{"chunk": 3, "state": None, **options}))


@pytest.mark.parametrize("shape", [(5,), (1, 1, 1, 5), (0, 4, 5), (7, 4, 6)])
def test_inputs_of_the_wrong_shape(shape: tuple[int, ...]) -> None:
    layer, _, _ = make("GRU")
    with pytest.raises(openrnn.ShapeError, match="GRU: "):
        list(tbptt(layer, torch.zeros(shape, dtype=torch.float64), chunk=3))
