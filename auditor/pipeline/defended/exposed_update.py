"""Mode exposure of an update as it is seen: what its defences leave, with the noise that they add."""

from collections.abc import Callable, Mapping

from torch import Tensor

from auditor.attack import as_sent
from auditor.exposure import Exposed, expose
from auditor.journal import Crashed, kept, parameters_digest, rounded
from auditor.pipeline.context import Context, Observed, public_weights
from auditor.records import Skipped, deviation_of


def expose_update(
    context: Context,
    observed: Observed,
    pixel_variance: float,
    seconds: float,
    progress: Callable[[float], None] = lambda fraction: None,
    products: int | None = None,
) -> Exposed | Skipped:
    """Predict what an update determines of its clips; see `expose`, and there what `products` ask for.

    An attacker who knows the defences sees entries that were not sent as nothing, and a size that was cut as unknown.
    Noise and rounding count as errors of the entries, so that exposure falls as they grow.
    """
    client, sent = context.client_of(observed.probe), observed.update.gradients

    def seen(gradient: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
        return as_sent(client.defences, gradient, sent, intervals=False)

    labels = context.client.targets(observed.labels)
    deviation = deviation_of(client.defences, sent, context.protocol.clients)

    def depends_on() -> tuple[object, ...]:
        told = context.target.sha256, parameters_digest(context.target.model), client.configuration
        return *told, observed.clips, labels, observed.update, pixel_variance, rounded(seconds), deviation, products

    def analyse() -> Exposed | Skipped:
        return expose(
            client, observed.clips, labels, context.target.layers, pixel_variance, seconds, progress,
            public_weights(context), seen, deviation, products=products,
        )  # fmt: skip

    try:
        return kept("exposure", depends_on, analyse)
    except Crashed as error:
        return Skipped(
            stage="expose",
            what="mode exposure",
            because="failed",
            reason=str(error),
            remedy="report this defect with the model",
        )
