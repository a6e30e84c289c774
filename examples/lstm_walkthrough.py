"""An LSTM from one step to a whole sequence, with every shape on the way.

Run it: python examples/lstm_walkthrough.py
"""

import torch

import openrnn


def shape(tensor: torch.Tensor) -> str:
    return f"({', '.join(map(str, tensor.shape))})"


def same(a: torch.Tensor, b: torch.Tensor) -> bool:
    return torch.allclose(a, b, atol=1e-6)  # as near as float32 tells them apart


def print_parameters(name: str, cell: torch.nn.Module) -> None:
    print(f"{name} = {cell}")
    for parameter_name, parameter in cell.named_parameters():
        print(f"  {parameter_name:<10} {shape(parameter)}")


torch.manual_seed(0)

print("1. Two cells, fed step by step: 12 steps, a batch of 3, 30 features")
input_ = torch.randn(12, 3, 30)
a = openrnn.LSTMCell(30, 20)
b = openrnn.LSTMCell(20, 10)
h_ly1, c_ly1 = torch.zeros(3, 20), torch.zeros(3, 20)
h_ly2, c_ly2 = torch.zeros(3, 10), torch.zeros(3, 10)
outputs = []
for x in input_:
    h_ly1, c_ly1 = a(x, [h_ly1, c_ly1])
    h_ly2, c_ly2 = b(h_ly1, [h_ly2, c_ly2])
    outputs.append(h_ly2)
by_hand = torch.stack(outputs)
print_parameters("a", a)
print_parameters("b", b)
print(f"  h and c of layer 1: {shape(h_ly1)}, {shape(c_ly1)}")
print(f"  h and c of layer 2: {shape(h_ly2)}, {shape(c_ly2)}")

print()
print("2. The same in one call: a stack of both cells")
output, states = openrnn.Stack([a, b])(input_)
(h_1, c_1), (h_2, c_2) = states
print(f"  output: {shape(output)}, the last layer's h at each of the 12 steps")
equal = same(output, by_hand) and same(c_1, c_ly1) and same(h_2, h_ly2)
print(f"  equal to the loop: {equal}")

print()
print("3. Why the first dimension of an LSTM's parameters is four times a plain RNN's")
rnn, lstm = openrnn.RNNCell(100, 20), openrnn.LSTMCell(100, 20)
print(f"  {'':<10} {'RNNCell':<10} LSTMCell")
for name, parameter in rnn.named_parameters():
    print(f"  {name:<10} {shape(parameter):<10} {shape(lstm.get_parameter(name))}")
print("  An RNN has one block of 20 rows. An LSTM stacks four, one for each gate:")
gates = {"i": "input", "f": "forget", "g": "cell", "o": "output"}
for index, gate in enumerate(lstm.gates):
    rows = slice(20 * index, 20 * (index + 1))
    block = shape(lstm.weight_ih[rows])
    print(f"    rows {rows.start:>2} to {rows.stop - 1}: {gate}, {gates[gate]:<6} {block}")

print()
print("4. A whole layer in one call")
layer = openrnn.LSTM(30, 20)
output, (h_n, c_n) = layer(input_)
cell = openrnn.LSTMCell(30, 20)
cell.load_state_dict({name: getattr(layer, f"{name}_l0") for name, _ in cell.named_parameters()})
h, c = torch.zeros(3, 20), torch.zeros(3, 20)
every_h = []
for x in input_:
    h, c = cell(x, [h, c])
    every_h.append(h)
print(f"  output: {shape(output)}, h_n: {shape(h_n)}, c_n: {shape(c_n)}")
print(f"  output holds h at every step: {same(output, torch.stack(every_h))}")
print(f"  h_n is the last of them:      {same(h_n[0], output[-1])}")
print(f"  c_n is the last c:            {same(c_n[0], c)}")

print()
print("5. Two layers: output holds the last layer's h, h_n each layer's")
output, (h_n, c_n) = openrnn.LSTM(30, 20, num_layers=2)(input_)
print(f"  output: {shape(output)}, h_n: {shape(h_n)}, c_n: {shape(c_n)}")
print(f"  h_n[1] is the end of output:  {same(h_n[1], output[-1])}")

print()
print("6. Both directions: twice the features in the output")
output, (h_n, c_n) = openrnn.LSTM(30, 20, bidirectional=True)(input_)
print(f"  output: {shape(output)}, h_n: {shape(h_n)}, c_n: {shape(c_n)}")
print(f"  the forward h_n is at the last step:   {same(h_n[0], output[-1, :, :20])}")
print(f"  the backward h_n is at the first step: {same(h_n[1], output[0, :, 20:])}")
