"""Record what a Flower client receives and sends, for `fl-audit attack --update` and `fl-audit replay`.

Usage, in the client app; the recorder comes first, so that it stands outside of every defence and sees what travels:

    from record_flower import Recorder
    app = ClientApp(mods=[Recorder("recorded"), LocalDpMod(...)])

Each round of training leaves two files, matched by name or by order:

    fl-audit replay nets.py:factory --before recorded/before-1.npz --after recorded/after-1.npz --clip mine.npz ...
"""

from itertools import count
from pathlib import Path

import numpy as np
from flwr.app import ArrayRecord, Context, Message
from flwr.clientapp.typing import ClientAppCallable


class Recorder:
    """A client mod that writes the weights before and after training, and changes nothing."""

    def __init__(self, folder: str) -> None:
        self.folder = Path(folder)

    def __call__(self, message: Message, context: Context, call_next: ClientAppCallable) -> Message:
        """Pass the message on, and keep what came in and what goes out."""
        received = [record for _, record in sorted(message.content.array_records.items())]
        reply = call_next(message, context)
        if received and reply.has_content() and len(reply.content.array_records) == len(received):
            self.folder.mkdir(parents=True, exist_ok=True)
            number = next(n for n in count(1) if not (self.folder / f"after-{n}.npz").exists())
            sent = [record for _, record in sorted(reply.content.array_records.items())]
            self._write(f"before-{number}.npz", received)
            self._write(f"after-{number}.npz", sent)
        return reply

    def _write(self, name: str, records: list[ArrayRecord]) -> None:
        arrays = {key: array.numpy() for record in records for key, array in record.items()}
        np.savez(self.folder / name, **arrays)
