"""How often each label rule reads a batch right: fresh nets, real clips, 1 to 8 clips, equal and distinct labels.

`python benchmarks/labels.py` prints the table of benchmarks/README.md.
"""

import argparse
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import torch
from torch import Tensor

ROOT = Path(__file__).parent.parent
sys.path[:0] = [str(ROOT)]

from auditor.attack.labels.cross_entropy_rules import among, idlg_bias, idlg_rows, ilrg, llg, rlg  # noqa: E402
from auditor.attack.labels.head import blind, find_head  # noqa: E402
from auditor.attack.labels.restoration import restore_labels  # noqa: E402
from auditor.federated import LocalClient, observe  # noqa: E402
from auditor.model.loading import load  # noqa: E402
from auditor.probe.fit import fit  # noqa: E402
from auditor.probe.real import manifest, shipped_frames  # noqa: E402
from auditor.records import FederatedProtocol, Knowledge, LabelGuess, Target, View  # noqa: E402

NETS = ("conv3d_flatten", "conv3d_bn_pooled", "vivit")
BATCHES = (1, 2, 4, 8)
DRAWS = 8


def clips(target: Target) -> Tensor:
    """Return three windows of every shipped clip."""
    made = [
        fit(frames, target.input, start, target.input.frames)[0]
        for frames in (shipped_frames(entry) for entry in manifest())
        for start in (0, 8, 16)
    ]
    return torch.stack(made)


def rules(view: View) -> Iterator[tuple[str, LabelGuess | None]]:
    """Yield every rule with what it makes of a view."""
    head = find_head(view)
    if head.batch == 1:
        yield "iDLG", idlg_bias(head.bias) if head.bias is not None else None
        yield "iDLG (rows)", idlg_rows(head.weight) if head.weight is not None else None
    public = blind(view, head)
    yield "iLRG", ilrg(view, head)
    yield "LLG", llg(head, None)
    yield "LLG*", llg(head, public)
    possible = rlg(head)
    yield "RLG with LLG* counts", among(head, possible, public) if possible else None
    chosen = restore_labels(view)
    yield "chosen", chosen if isinstance(chosen, LabelGuess) else None


def drawn(count: int, equal: bool, generator: torch.Generator) -> tuple[int, ...]:
    """Return labels of a batch among ten classes."""
    if equal:
        return (int(torch.randint(10, (1,), generator=generator)),) * count
    return tuple(int(c) for c in torch.randperm(10, generator=generator)[:count])


def view_of(target: Target, batch: Tensor, labels: tuple[int, ...], sent: tuple[str, ...]) -> View:
    """Return the attacker's view of a client that trains on a batch; the labels are not known."""
    client = LocalClient(target.model, FederatedProtocol(batch=len(batch), sent=sent), classes=target.classes)
    knows = Knowledge(clip_shape=target.input.clip_shape, batch=len(batch), classes=target.classes)
    return View(target=target, client=client, update=observe(client, batch, client.targets(labels)), knowledge=knows)


def sendings(target: Target) -> dict[str, Callable[[], tuple[str, ...]]]:
    """Return what of the head is sent, by name."""
    names = tuple(target.parameters)
    head = target.layers[-1].parameters
    bias = next(n for n in head if target.parameters[n].ndim == 1)
    return {"weight and bias": lambda: names, "weight": lambda: tuple(n for n in names if n != bias)}


def main() -> None:
    """Print shares of labels read, and of whole batches, by rule."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--draws", type=int, default=DRAWS, help="batches per net, size and kind of labels")
    draws = parser.parse_args().draws
    torch.set_num_threads(1)
    read: Counter[tuple[str, str, int, bool]] = Counter()
    whole: Counter[tuple[str, str, int, bool]] = Counter()
    tried: Counter[tuple[str, str, int, bool]] = Counter()
    claimed: Counter[str] = Counter()
    false: Counter[str] = Counter()
    for net in NETS:
        target = load(f"{ROOT}/benchmarks/nets.py:{net}", input_shape=(3, 8, 32, 32))
        pool = clips(target)
        generator = torch.Generator().manual_seed(0)
        for sending, names in sendings(target).items():
            for batch in BATCHES:
                for equal in (False, True) if batch > 1 else (False,):
                    for _ in range(draws):
                        chosen = torch.randperm(len(pool), generator=generator)[:batch]
                        labels = drawn(batch, equal, generator)
                        view = view_of(target, pool[chosen], labels, names())
                        for rule, guess in rules(view):
                            if guess is None:
                                continue
                            key = (sending, rule, batch, equal)
                            hits = (Counter(labels) & Counter(guess.labels)).total()
                            tried[key] += 1
                            read[key] += hits
                            whole[key] += hits == batch
                            claimed[rule] += guess.certain
                            false[rule] += guess.certain and hits < batch
    columns = [(1, False)] + [(b, e) for b in BATCHES[1:] for e in (False, True)]
    head = " | ".join(f"{b} {'equal' if e else 'distinct'}" if b > 1 else "1" for b, e in columns)
    for sending in ("weight and bias", "weight"):
        print(f"\nSent: {sending}\n\n| rule | {head} |\n|---|{'---|' * len(columns)}")
        for rule in dict.fromkeys(r for s, r, _, _ in tried if s == sending):
            cells = [_cell(read, whole, tried, (sending, rule, b, e)) for b, e in columns]
            print(f"| {rule} | {' | '.join(cells)} |")
    print("\nCalled certain, and wrong: " + ", ".join(f"{r} {claimed[r]} / {false[r]}" for r in claimed))


def _cell(read: Counter, whole: Counter, tried: Counter, key: tuple[str, str, int, bool]) -> str:
    n = tried[key]
    return f"{100 * read[key] / (n * key[2]):.0f}% ({100 * whole[key] / n:.0f}%)" if n else "-"


if __name__ == "__main__":
    main()
