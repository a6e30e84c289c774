"""From the stages of a step to all that a kernel does."""

from __future__ import annotations

from collections.abc import Collection

import torch

from openrnn.backends.cpu.lower import lower
from openrnn.backends.cpu.phases import NOTHING, Phases, phases_of
from openrnn.backends.cpu.plan import Assembly, Plan
from openrnn.backends.cpu.rewrite import rewrite
from openrnn.backends.cpu.runtime import HALF, REAL
from openrnn.errors import BackendError
from openrnn.step.graph import Graph
from openrnn.step.shape import batch_dim, features
from openrnn.step.split import Stages, is_value


def assemble(stages: Stages, states: tuple[str, ...]) -> tuple[Phases, Assembly, torch.dtype]:
    """The phases of these stages, what a kernel does of them, and the dtype it computes in.

    `states` are the labels of those of which all rows are wanted.

    Raises:
        BackendError: the recurrence has no kernel.
    """
    dtype = _dtype(stages)

    def plan(graph: Graph, name: str, summed: Collection[str] = (), read: Graph = NOTHING) -> Plan:
        """What is summed is left for no one but who reads it."""
        labels = {label for label, _ in graph.outputs}
        summed = labels.intersection(summed)
        labels -= summed - {node.label for _, node in read.inputs()}
        given = {node.label for _, node in graph.inputs()}
        return lower(rewrite(graph), dtype, {}, (), given | labels, name, summed)

    def has_kernel(graph: Graph) -> bool:
        try:
            plan(graph, "")
        except BackendError:
            return False  # torch computes it, all rows at once
        return True

    phases = phases_of(stages, has_kernel)
    kept = phases.kept()
    of_inputs = [label for label, _ in phases.inputs.outputs]
    of_step = stages.wanted(states)
    of_outputs = [label for label, _ in phases.outputs.outputs]
    made = [*of_inputs, *of_step, *of_outputs]
    summed = phases.summed().intersection(made)
    arrays = [label for label in made if not is_value(label) or label in kept - summed]
    sizes = {name: features(stages.next_state(name).shape) for name in stages.carried}
    later = plan(phases.outputs, "outputs", summed)
    in_products = later.in_products()
    read = {*later.rows}
    # Arrays whose rows are read where they are: no chunk has them too.
    read -= {label for label in arrays if label in read and later.rows[label] not in in_products}
    chunked = {*filter(is_value, of_inputs), *(label for label in of_step if label in read)}
    of_loop = {*of_step}
    step = lower(
        rewrite(stages.recurrence),
        dtype,
        sizes,
        of_loop & {*arrays},
        chunked,
        "step",
        of_loop & summed,
    )
    plans = plan(phases.inputs, "inputs", summed, stages.recurrence), step, later
    from_inside = set(filter(is_value, made))
    given = dict.fromkeys(
        label for plan in plans for label in plan.rows if label not in from_inside
    )
    over = (factor.label for sum_ in phases.over_rows for factor in sum_.factors)
    given |= dict.fromkeys(label for label in over if label not in from_inside)
    wholes = list(dict.fromkeys(label for plan in plans for label in plan.wholes))
    fixed = {label for plan in plans for label in {*plan.wholes} - plan.any_layout()}
    assembly = Assembly(
        *plans,
        given=list(given),
        made=[label for label in made if label in summed or label in arrays],
        wholes=wholes,
        any_layout={*wholes} - fixed,
        over_rows=phases.over_rows,
        summed=summed,
    )
    return phases, assembly, dtype


def _dtype(stages: Stages) -> torch.dtype:
    """That of the states, or, where none is carried, of what is real and has rows."""
    if stages.recurrence.outputs:
        dtype = stages.next_state(stages.carried[0]).dtype
        if dtype in HALF:
            return torch.float32
        if dtype not in REAL:
            raise BackendError(f"a kernel computes in float32 or float64, not in {dtype}")
        return dtype
    for graph in (stages.inputs, stages.outputs):
        results = [graph.nodes[index] for _, index in graph.outputs]
        for node in (*results, *(node for _, node in graph.inputs())):
            if node.dtype in REAL and batch_dim(node.shape) is not None:
                return node.dtype
    return torch.float32
