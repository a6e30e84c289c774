"""The cells in the box: one time step each, one file each."""

from openrnn.cells.base import Cell
from openrnn.cells.gru import GRUCell
from openrnn.cells.lstm import LSTMCell
from openrnn.cells.lstmp import LSTMPCell
from openrnn.cells.rnn import RNNCell

__all__ = ["Cell", "GRUCell", "LSTMCell", "LSTMPCell", "RNNCell"]
