"""`openrnn.explain`: what a layer is, what its step computes, and what that costs."""

from __future__ import annotations

from collections.abc import Iterator
from functools import reduce
from operator import add

from torch import nn

from openrnn.backends import cpu
from openrnn.errors import BackendError, CellError
from openrnn.explain.comparison import cell_blocks, compare, directions
from openrnn.explain.counts import MultiplyAdds, multiply_adds
from openrnn.explain.explanation import CellExplanation, Explanation
from openrnn.explain.given import read_given
from openrnn.explain.network import Lane, Network
from openrnn.explain.parameters import parameters_of
from openrnn.explain.parts import read
from openrnn.explain.shapes import call_of, legend, tensor_shapes
from openrnn.layers.layer import Layer
from openrnn.step.program import Program
from openrnn.step.split import Stages


def explain(
    module: nn.Module,
    *,
    x_shape: tuple[int, ...] | None = None,
    input_size: int | None = None,
    source: bool = False,
) -> Explanation:
    """Prints what a layer, or a cell, is and does, read from the module itself.

    - Shapes: the input, the output and the states, by letter and number.
    - Parameters: the blocks that each is stacked from, named after their gates, and its size.
    - Plain cells of the same sizes, for comparison; what is double with two directions.
    - Multiply-adds: how many the products of a step are.
    - The step, in the cell's own variable names, in four stages. *Parameters* depends on weights
      alone and is computed once. *Inputs* depends on x_t but on no state, *outputs* on a state but
      leads to none: both are computed for all T steps at once. *Recurrence* lies on the way from a
      state to the next, and is what each step has to wait for. Of a cell that cannot be compiled
      the reason is printed instead.
    - Backend: what runs it on a CPU.

    Nothing is compiled or run. A notebook is not printed to: it shows what is returned.

    Args:
        module: a layer of OpenRNN or of torch.nn, or a cell.
        x_shape: the shape of an input, (T, B, I), or (B, T, I) of a layer with batch_first, to
            have numbers for T and B; (B, I) of a cell. Default: the letters stand for them.
        input_size: features of x; needed only for a cell that has no `input_size`, in a layer that
            has not run yet. Default: what the cell says, or the layer has seen.
        source: show the C++ of the recurrence too, as `backend="cpu"` generates it for training:
            one function for all steps forward, one for its gradient. Default: False.

    Returns:
        The explanation: `str()` gives the text once more, in 80 columns, `to_dict()` all of it as
        data.

    Raises:
        ArgumentTypeError: neither a layer nor a cell.
        ArgumentError: input_size is not known, or is another than the cell's; an x_shape that does
            not fit.
        CellError: a cell whose states are not known.

    Examples:
        >>> explanation = explain(torch.nn.GRUCell(30, 20), x_shape=(3, 30))
        GRUCell(30, 20)
          3,120 parameters, 12.2 KiB in float32
        ...
        >>> explanation.shapes[0].sizes
        (3, 30)
        >>> [block.name for block in explanation.parameters[0].blocks]
        ['r', 'z', 'n']
        >>> explanation.multiply_adds.step
        3000
    """
    given = read_given("explain", module, x_shape, input_size)
    network = read(module, "explain", given.features)
    counted = _count(network)
    parameters = parameters_of(network)
    blocks = cell_blocks(network)
    shapes = tensor_shapes(network, given)
    explanation = Explanation(
        network.title,
        _owner(network),
        call_of(network),
        shapes,
        legend(network, shapes),
        network.notes,
        parameters,
        compare(network, parameters, counted, blocks),
        blocks,
        directions(network, parameters),
        given.steps,
        given.batch,
        counted,
        tuple(dict.fromkeys(lane.backend for lane in network.lanes)),
        _cells(network, source),
    )
    from openrnn.explain.show import show  # with rich, which takes its time

    show(explanation)
    return explanation


def _owner(network: Network) -> str:
    if network.is_cell:
        return "a cell"
    return "openrnn" if isinstance(network.module, Layer) else "torch.nn"


def _count(network: Network) -> MultiplyAdds | None:
    try:
        return reduce(add, [multiply_adds(lane.program.stages) for lane in network.lanes])
    except CellError:
        return None  # the cell's explanation has the reason


def _cells(network: Network, source: bool) -> tuple[CellExplanation, ...]:
    """One for each distinct step."""
    found: dict[tuple[str, Program | str], list[Lane]] = {}
    for lane in network.lanes:
        try:
            outcome: Program | str = lane.program
        except CellError as error:
            outcome = str(error)
        found.setdefault((lane.title, outcome), []).append(lane)
    return tuple(
        _cell(title, tuple(lane.place for lane in lanes), outcome, source)
        for (title, outcome), lanes in found.items()
    )


def _cell(
    title: str, places: tuple[str, ...], outcome: Program | str, source: bool
) -> CellExplanation:
    if isinstance(outcome, str):
        return CellExplanation(places, title, None, outcome, None, "eager", outcome, None)
    reason = _refusal(outcome)
    return CellExplanation(
        places,
        title,
        outcome,
        None,
        _source(outcome) if source else None,
        "eager" if reason else "cpu",
        reason,
        multiply_adds(outcome.stages),
    )


def _kernels(program: Program) -> Iterator[tuple[str, Stages, tuple[str, ...]]]:
    """What there are kernels for in training: each way, its stages and the states it gives out.

    Of a step in 8 bits, which is for inference alone, the only way.
    """
    fused = program.fused
    if program.graph.count("int8_linear"):
        yield "inference", fused.stages, (f"state.{fused.states[0]}",)
        return
    forward, backward = fused.training(frozenset(n.label for _, n in program.graph.inputs()))
    yield "forward", forward, (f"state.{fused.states[0]}",)
    yield "backward", backward, ()


def _refusal(program: Program) -> str | None:
    """Why there is no kernel for a cell, if there is none."""
    try:
        cpu.compile_command()
        for _, stages, states in _kernels(program):
            cpu.source(stages, states)
    except BackendError as error:
        return str(error)
    return None


def _source(program: Program) -> str:
    """The generated C++ of both directions, or why there is none."""
    parts = []
    for way, stages, states in _kernels(program):
        try:
            text = cpu.source(stages, states)
        except BackendError as error:
            text = f"There is no kernel: {error}\n"
        parts.append(f"// {way}\n{text}")
    return "\n".join(parts).rstrip()
