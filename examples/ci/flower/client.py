"""A Flower client app (flwr 1.20 or later): one local step on this client's clips."""

import torch
from flwr.app import ArrayRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from net import CLASSES, CLIP, net
from torch import nn

app = ClientApp()


@app.train()
def train(message: Message, context: Context) -> Message:
    """Train on the clips of this client, and send the weights back."""
    model = net()
    model.load_state_dict(message.content["arrays"].to_torch_state_dict())
    clips, labels = clips_of(int(context.node_config.get("partition-id", 0)))
    optimiser = torch.optim.SGD(model.parameters(), lr=0.01)
    loss = nn.functional.cross_entropy(model(clips), labels)
    loss.backward()
    optimiser.step()
    told = MetricRecord({"loss": float(loss), "num-examples": len(clips)})
    return Message(RecordDict({"arrays": ArrayRecord(model.state_dict()), "metrics": told}), reply_to=message)


def clips_of(client: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Return clips and labels of a client; this example makes them up."""
    chance = torch.Generator().manual_seed(client)
    clips = torch.rand(2, *CLIP, generator=chance)
    return clips, torch.randint(CLASSES, (2,), generator=chance)
