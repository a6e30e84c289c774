"""The cells in the box: one time step each, one file each."""

from openrnn.cells.base import Cell
from openrnn.cells.coupledlstm import CoupledLSTMCell
from openrnn.cells.gru import GRUCell
from openrnn.cells.indrnn import IndRNNCell
from openrnn.cells.layernormgru import LayerNormGRUCell
from openrnn.cells.layernormlstm import LayerNormLSTMCell
from openrnn.cells.layernormrnn import LayerNormRNNCell
from openrnn.cells.lstm import LSTMCell
from openrnn.cells.lstmp import LSTMPCell
from openrnn.cells.mgu import MGUCell
from openrnn.cells.mingru import MinGRUCell
from openrnn.cells.minlstm import MinLSTMCell
from openrnn.cells.multiplicativelstm import MultiplicativeLSTMCell
from openrnn.cells.originalgru import OriginalGRUCell
from openrnn.cells.peepholelstm import PeepholeLSTMCell
from openrnn.cells.qrnn import QRNNCell
from openrnn.cells.recurrentdropoutlstm import RecurrentDropoutLSTMCell
from openrnn.cells.rhn import RHNCell
from openrnn.cells.rnn import RNNCell
from openrnn.cells.slstm import SLSTMCell
from openrnn.cells.weightdroplstm import WeightDropLSTMCell
from openrnn.cells.zoneoutgru import ZoneoutGRUCell
from openrnn.cells.zoneoutlstm import ZoneoutLSTMCell

__all__ = [
    "Cell",
    "CoupledLSTMCell",
    "GRUCell",
    "IndRNNCell",
    "LSTMCell",
    "LSTMPCell",
    "LayerNormGRUCell",
    "LayerNormLSTMCell",
    "LayerNormRNNCell",
    "MGUCell",
    "MinGRUCell",
    "MinLSTMCell",
    "MultiplicativeLSTMCell",
    "OriginalGRUCell",
    "PeepholeLSTMCell",
    "QRNNCell",
    "RHNCell",
    "RNNCell",
    "RecurrentDropoutLSTMCell",
    "SLSTMCell",
    "WeightDropLSTMCell",
    "ZoneoutGRUCell",
    "ZoneoutLSTMCell",
]
