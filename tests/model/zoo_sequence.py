"""Video classifiers with recurrence or attention, in small."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

CLASSES = 5


class Frames(nn.Module):
    """A small Conv2d on every frame: (clip, 3, time, 16, 16) -> (clip, time, 16)."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3, stride=2, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        b, c, t, h, w = x.shape
        y = torch.tanh(self.conv(x.transpose(1, 2).reshape(b * t, c, h, w)))
        return F.adaptive_avg_pool2d(y, 2).reshape(b, t, 16)


class DeepRecurrent(nn.Module):
    """Two bidirectional layers, started from learned states; the last state is read."""

    def __init__(self, cell: type[nn.RNNBase], batch_first: bool = True) -> None:
        super().__init__()
        self.frames = Frames()
        self.recurrent = cell(16, 6, num_layers=2, bidirectional=True, batch_first=batch_first)
        self.start = nn.Parameter(torch.zeros(4, 1, 6))
        self.cell = nn.Parameter(torch.zeros(4, 1, 6)) if cell is nn.LSTM else None
        self.head = nn.Linear(24, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        y = self.frames(x)
        if not self.recurrent.batch_first:
            y = y.transpose(0, 1)
        state = self.start.expand(-1, x.shape[0], -1).contiguous()
        if self.cell is None:
            out, last = self.recurrent(y, state)
        else:
            out, (last, _) = self.recurrent(y, (state, self.cell.expand(-1, x.shape[0], -1).contiguous()))
        pooled = out.mean(1 if self.recurrent.batch_first else 0)
        return self.head(torch.cat([pooled, last[-1], last[-2]], 1))


class PooledGRU(nn.Module):
    """A GRU whose steps are weighted by learned attention."""

    def __init__(self) -> None:
        super().__init__()
        self.frames = Frames()
        self.recurrent = nn.GRU(16, 6, batch_first=True)
        self.score = nn.Sequential(nn.Linear(6, 4), nn.Tanh(), nn.Linear(4, 1, bias=False))
        self.head = nn.Linear(6, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        states = self.recurrent(self.frames(x))[0]
        return self.head((torch.softmax(self.score(states), 1) * states).sum(1))


class ConvLSTM(nn.Module):
    """A convolutional LSTM, unrolled over frames."""

    input_shape = (3, 4, 16, 16)

    def __init__(self) -> None:
        super().__init__()
        self.gates = nn.Conv2d(3 + 4, 16, 3, padding=1)
        self.head = nn.Linear(4, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        hidden = x.new_zeros(x.shape[0], 4, 16, 16)
        cell = torch.zeros_like(hidden)
        for frame in x.unbind(2):
            i, f, o, g = self.gates(torch.cat([frame, hidden], 1)).chunk(4, 1)
            cell = torch.sigmoid(f) * cell + torch.sigmoid(i) * torch.tanh(g)
            hidden = torch.sigmoid(o) * torch.tanh(cell)
        return self.head(hidden.mean((2, 3)))


class CellLoop(nn.Module):
    """`nn.GRUCell` called frame by frame."""

    input_shape = (3, 4, 16, 16)

    def __init__(self) -> None:
        super().__init__()
        self.frames = Frames()
        self.cell = nn.GRUCell(16, 6)
        self.head = nn.Linear(6, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        state = x.new_zeros(x.shape[0], 6)
        for step in self.frames(x).unbind(1):
            state = self.cell(step, state)
        return self.head(state)


class DeepEncoder(nn.Module):
    """`nn.TransformerEncoder` of two different layers over frames, with fixed sin-cos positions."""

    def __init__(self) -> None:
        super().__init__()
        self.frames = Frames()
        layer = nn.TransformerEncoderLayer(16, 2, 24, 0.1, "gelu", batch_first=True, norm_first=True)
        self.encoder = nn.TransformerEncoder(layer, 2, norm=nn.LayerNorm(16), enable_nested_tensor=False)
        self.head = nn.Linear(16, CLASSES)
        steps, rates = torch.arange(8.0)[:, None], torch.exp(torch.arange(0, 16, 2) * (-math.log(1e4) / 16))
        table = torch.zeros(1, 8, 16)
        table[0, :, 0::2], table[0, :, 1::2] = torch.sin(steps * rates), torch.cos(steps * rates)
        self.register_buffer("table", table)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.encoder(self.frames(x) + self.table).mean(1))


class EinsumAttention(nn.Module):
    """Attention by einsum: first over time, then over space (TimeSformer)."""

    def __init__(self, width: int = 16) -> None:
        super().__init__()
        self.patch = nn.Conv3d(3, width, (2, 8, 8), (2, 8, 8))
        self.pos = nn.Parameter(torch.zeros(1, 4, 1, width))
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(2))
        self.qkv = nn.ModuleList(nn.Linear(width, 3 * width, bias=False) for _ in range(2))
        self.proj = nn.ModuleList(nn.Linear(width, width) for _ in range(2))
        self.head = nn.Linear(width, CLASSES)

    def attend(self, x: Tensor, i: int) -> Tensor:
        q, k, v = self.qkv[i](self.norms[i](x)).chunk(3, -1)
        q, k, v = (z.unflatten(-1, (2, -1)) for z in (q, k, v))
        weights = torch.einsum("bgihd,bgjhd->bghij", q, k).div(q.shape[-1] ** 0.5).softmax(-1)
        return self.proj[i](torch.einsum("bghij,bgjhd->bgihd", weights, v).flatten(3))

    def forward(self, x: Tensor) -> Tensor:
        x = self.patch(x).flatten(3).permute(0, 2, 3, 1) + self.pos  # (clip, time, place, width)
        x = x + self.attend(x.transpose(1, 2), 0).transpose(1, 2)
        x = x + self.attend(x, 1)
        return self.head(x.mean((1, 2)))


class RelativeBias(nn.Module):
    """Attention over frames with a table of relative position biases (Video Swin)."""

    def __init__(self) -> None:
        super().__init__()
        self.frames = Frames()
        self.qkv = nn.Linear(16, 48)
        self.table = nn.Parameter(torch.zeros(15, 2))
        self.head = nn.Linear(16, CLASSES)
        steps = torch.arange(8)
        self.register_buffer("index", (steps[:, None] - steps[None, :] + 7).reshape(-1))

    def forward(self, x: Tensor) -> Tensor:
        b = x.shape[0]
        q, k, v = self.qkv(self.frames(x)).reshape(b, 8, 3, 2, 8).permute(2, 0, 3, 1, 4)
        bias = self.table[self.index].view(8, 8, 2).permute(2, 0, 1)
        y = torch.softmax(q @ k.transpose(-1, -2) / 8**0.5 + bias, -1) @ v
        return self.head(y.transpose(1, 2).reshape(b, 8, 16).mean(1))


class Queries(nn.Module):
    """Learned query tokens that attend to the frames, as attentive poolers do."""

    def __init__(self) -> None:
        super().__init__()
        self.frames = Frames()
        self.queries = nn.Parameter(torch.zeros(1, 3, 16))
        self.attention = nn.MultiheadAttention(16, 2, batch_first=True)
        self.norm = nn.LayerNorm(16)
        self.head = nn.Linear(48, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        y = self.frames(x)
        queries = self.queries.repeat(x.shape[0], 1, 1)
        return self.head(self.norm(self.attention(queries, y, y, need_weights=False)[0]).flatten(1))


class Shared(nn.Module):
    """One block applied three times."""

    def __init__(self) -> None:
        super().__init__()
        self.frames = Frames()
        self.block = nn.Linear(16, 16)
        self.norm = nn.LayerNorm(16)
        self.head = nn.Linear(16, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        y = self.frames(x)
        for _ in range(3):
            y = y + F.gelu(self.block(self.norm(y)))
        return self.head(y.mean(1))


class Tied(nn.Module):
    """Two layers with one weight between them."""

    def __init__(self) -> None:
        super().__init__()
        self.frames = Frames()
        self.code, self.second = nn.Linear(16, 16), nn.Linear(16, 16)
        self.second.weight = self.code.weight
        self.head = nn.Linear(16, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.second(torch.sigmoid(self.code(self.frames(x)))).mean(1))


NETS = {
    "gru-deep": lambda: DeepRecurrent(nn.GRU),
    "lstm-deep": lambda: DeepRecurrent(nn.LSTM),
    "rnn-deep": lambda: DeepRecurrent(nn.RNN, batch_first=False),
    "gru-pooled": PooledGRU,
    "convlstm": ConvLSTM,
    "gru-cell": CellLoop,
    "encoder-deep": DeepEncoder,
    "einsum-attention": EinsumAttention,
    "relative-bias": RelativeBias,
    "queries": Queries,
    "shared": Shared,
    "tied": Tied,
}
